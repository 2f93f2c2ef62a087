"""Whether a member's group still counts on it, or may have given its partitions to others.

A member that was frozen, or cut off, goes on with what it holds until its next heartbeat tells it that it is out:
meanwhile it would write again what the next owner writes as well. So membership is taken as a lease (Gray and Cheriton,
1989) for a session. It begins with the sending of the last heartbeat, or of the last step of a join, that the group has
answered: the group's own clock for the session began later.
"""

from collections.abc import Callable
from typing import Any

from kafka.structs import MemberState


class Lease:
    """The lease of one consumer; it renews itself. Its methods are for any thread.

    ``clock`` is the one that kafka-python's heartbeats go by, `time.monotonic`.
    """

    def __init__(self, consumer: Any, session_timeout_s: float, clock: Callable[[], float]) -> None:
        self._coordinator = coordinator = consumer._coordinator
        self._session_timeout_s = session_timeout_s
        self._clock = clock
        self._since = self._asked_for_place = float("-inf")
        take_join_answer = coordinator._process_join_group_response
        enable, received = coordinator._enable_heartbeat, coordinator.heartbeat.received_heartbeat

        def about_to_ask_for_place(*response: Any) -> Any:
            self._asked_for_place = clock()  # a SyncGroup comes next
            return take_join_answer(*response)

        def joined() -> None:
            self._since = self._asked_for_place
            enable()

        def answered() -> None:
            self._since = coordinator.heartbeat.last_send
            received()

        coordinator._process_join_group_response = about_to_ask_for_place
        coordinator._enable_heartbeat = joined
        coordinator.heartbeat.received_heartbeat = answered

    def holds(self) -> bool:
        """Tell whether the partitions held are certainly this member's.

        One that joins again sends no heartbeats, and goes on for the rest of its session: mostly that is as long as the
        group waits for a member that has died.
        """
        return not self.is_out() and self._clock() - self._since < self._session_timeout_s

    def is_out(self) -> bool:
        """Tell whether the group is known to have put this member out, or never had it."""
        return self._coordinator.state is MemberState.UNJOINED

    def silence_s(self) -> float:
        """Return for how long the group has answered no heartbeat, in seconds; 0 while none is sent."""
        silence_s = self._clock() - self._since
        return silence_s if self._coordinator.state is MemberState.STABLE and self._since > float("-inf") else 0.0
