"""Lets a member of a group that has begun to join again end what it began.

In kafka-python (3.0.12) a leader joins again when it learns of topics that it did not know, as those of another kind of
worker in its group. The join goes on between polls, and by the assignment that it makes as leader the reason is gone:
`need_rejoin` says no, no poll looks at the join any more, no heartbeat is sent, and the group waits for this member
until its session is over, 45 s later.
"""

from typing import Any


def end_what_was_begun(coordinator: Any) -> None:
    """Make a consumer's coordinator need to rejoin for as long as a join that it began has not been ended."""
    need_rejoin = coordinator.need_rejoin
    coordinator.need_rejoin = lambda: coordinator.rejoining or need_rejoin()
