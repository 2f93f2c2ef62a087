"""Whether a member's group still counts on it, or may have given its partitions to others.

A member that was frozen, or cut off, goes on with what it holds until its next heartbeat tells it that it is out:
meanwhile it would write again what the next owner writes as well. So membership is taken as a lease (Gray and Cheriton,
1989) for a session from the moment at which the last heartbeat was sent that the group has answered: the group's own
clock for the session began later.
"""

from collections.abc import Callable
from typing import Any

from kafka.structs import MemberState


class Lease:
    """The lease of one consumer; it renews itself. Its methods are for any thread.

    ``clock`` is the one that kafka-python's heartbeats go by, `time.monotonic`.
    """

    def __init__(self, coordinator: Any, session_timeout_s: float, clock: Callable[[], float]) -> None:
        self._coordinator = coordinator
        self._session_timeout_s = session_timeout_s
        self._clock = clock
        self._since = float("-inf")
        enable, received = coordinator._enable_heartbeat, coordinator.heartbeat.received_heartbeat

        def joined() -> None:
            self._since = clock()
            enable()

        def answered() -> None:
            self._since = coordinator.heartbeat.last_send
            received()

        coordinator._enable_heartbeat = joined
        coordinator.heartbeat.received_heartbeat = answered

    def holds(self) -> bool:
        """Tell whether the partitions held are certainly this member's.

        While it joins again, they are: the group waits for whoever has begun to, and a member that is put out
        meanwhile learns that it has joined nothing.
        """
        state = self._coordinator.state
        fresh = self._clock() - self._since < self._session_timeout_s
        return state is MemberState.REBALANCING or (state is MemberState.STABLE and fresh)

    def silence_s(self) -> float:
        """Return for how long the group has answered no heartbeat, in seconds; 0 while none is sent."""
        silence_s = self._clock() - self._since
        return silence_s if self._coordinator.state is MemberState.STABLE and self._since > float("-inf") else 0.0
