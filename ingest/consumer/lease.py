"""A lease on group membership: whether the partitions are certainly still this member's.

A member that was frozen or disconnected goes on with its partitions until its next heartbeat is refused. Meanwhile, it
would publish what the next owner publishes, too. So membership is treated as a lease (Gray and Cheriton, 1989) for a
session. It starts when the last heartbeat that was answered, or the last step of a join, was sent: the group's own
clock for the session started later.
"""

from collections.abc import Callable
from typing import Any

from kafka.structs import MemberState


class Lease:
    """The lease of one consumer, which renews itself. Its methods are for any thread.

    ``clock`` is the clock of kafka-python's heartbeats, `time.monotonic`.
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
        """Return whether the partitions held are certainly this member's.

        A member that rejoins sends no heartbeats, and goes on for the rest of its session. Mostly, that is as long as
        the group waits for a dead member.
        """
        return not self.is_out() and self._clock() - self._since < self._session_timeout_s

    def is_out(self) -> bool:
        """Return whether the group is known to have removed this member, or never had it."""
        return self._coordinator.state is MemberState.UNJOINED

    def silence_s(self) -> float:
        """Return for how many seconds the group has answered no heartbeat; 0 while none is sent."""
        silence_s = self._clock() - self._since
        return silence_s if self._coordinator.state is MemberState.STABLE and self._since > float("-inf") else 0.0
