"""Lets a member of a group that has begun to join again end what it began.

kafka-python (3.0.12) has a join go on between polls, and in two ways forgets about it; it is worst where the members of
a group read different topics, as workers of different kinds do.

- A leader joins again when it learns of a topic that it did not know, and the assignment that it makes on the way takes
  away that reason: `need_rejoin` says no, no poll looks at the join any more, no heartbeat is sent, and the group waits
  for this member until its session is over, 45 s later.
- A join that has come to its end between two polls is begun anew by the next one instead of being taken in. The others
  have to join again each time, until the end happens to fall into a poll: dozens of rebalances were seen.
"""

from typing import Any

from kafka.coordinator.base import MemberState


def end_what_was_begun(coordinator: Any) -> None:
    """Make a consumer's coordinator need to rejoin until a join that it began has ended, and take in its end."""
    need_rejoin, join_group = coordinator.need_rejoin, coordinator.join_group_async

    async def take_in_or_join(timeout_ms: float | None = None) -> bool:
        join = coordinator._join_task
        if coordinator.rejoining and join is not None and join.is_done and join.succeeded():
            await _take_in(coordinator, join.value)
            return True
        return bool(await join_group(timeout_ms=timeout_ms))

    coordinator.need_rejoin = lambda: coordinator.rejoining or need_rejoin()
    coordinator.join_group_async = take_in_or_join


async def _take_in(coordinator: Any, assignment: bytes) -> None:
    """Do what `join_group_async` itself does when the join that it waits for has succeeded."""
    coordinator._join_task = None
    with coordinator._lock:
        coordinator.rejoining = False
        coordinator.rejoin_needed = False
        coordinator.state = MemberState.STABLE
        coordinator._enable_heartbeat()
    generation = coordinator._generation
    await coordinator._on_join_complete_async(
        generation.generation_id, generation.member_id, generation.protocol, assignment
    )
