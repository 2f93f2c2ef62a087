"""Lets a member of a group that has begun to join again end what it began, and read on meanwhile.

kafka-python (3.0.12) has a join go on between polls, and in three ways forgets about it; the first two are worst where
the members of a group read different topics, as workers of different kinds do.

- A leader joins again when it learns of a topic that it did not know, and the assignment that it makes on the way takes
  away that reason: `need_rejoin` says no, no poll looks at the join any more, no heartbeat is sent, and the group waits
  for this member until its session is over, 45 s later.
- A join that has come to its end between two polls is begun anew by the next one instead of being taken in. The others
  have to join again each time, until the end happens to fall into a poll: dozens of rebalances were seen.
- A member that is put out of the group while it joins (it was frozen, or cut off, after it had asked to) joins again
  under another name and never tells its listener that its partitions are lost: it says that only before it begins to
  join. It went on with some as if nothing had been, and committed others over their new owner's positions, as a member
  of the new generation, which nobody refuses. (Java's client begins anew in such a case: `resetStateAndRejoin`.)
"""

from typing import Any

from kafka.coordinator.base import MemberState

JOINING_POLL_MS = 10


def finish_joins(coordinator: Any) -> None:
    """Make a consumer's coordinator need to rejoin until a join that it began has ended, and take in its end.

    And have it begin a join anew where the group has put it out meanwhile.
    """
    need_rejoin, join_group = coordinator.need_rejoin, coordinator.join_group_async
    reset_generation = coordinator.reset_generation

    async def take_in_or_join(timeout_ms: float | None = None) -> bool:
        join = coordinator._join_task
        if coordinator.rejoining and join is not None and join.is_done and join.succeeded():
            await _take_in(coordinator, join.value)
            return True
        return bool(await join_group(timeout_ms=timeout_ms))

    def begin_anew(*arguments: Any, **options: Any) -> None:
        reset_generation(*arguments, **options)
        coordinator.rejoining = False  # what was held is lost, and that is told before the next join

    coordinator.reset_generation = begin_anew
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


def fetch_while_joining(coordinator: Any, subscription: Any) -> None:
    """Let a member go on with what it holds while it joins again, as the cooperative protocol is meant (KIP-429).

    kafka-python (3.0.12) fetches nothing until a join has ended: when a member dies and another comes, the others stand
    still until the dead one's session is over. Partitions are still taken away within polls alone.
    """
    poll = coordinator.poll

    def poll_briefly(timeout_ms: float | None = None) -> bool:
        if not (coordinator.rejoining and subscription.assigned_partitions()):
            return bool(poll(timeout_ms=timeout_ms))
        poll(timeout_ms=JOINING_POLL_MS if timeout_ms is None else min(timeout_ms, JOINING_POLL_MS))
        return True

    coordinator.poll = poll_briefly
