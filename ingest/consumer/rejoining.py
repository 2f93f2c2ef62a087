"""Fixes rejoining: a member finishes a join that it has begun, and fetches meanwhile.

In kafka-python (3.0.12) a join goes on between polls, and is lost in three ways. The first two are worst if the members
of a group read different topics, as workers of different kinds do.

- A leader rejoins when it learns of a topic that it did not know. The assignment that it makes meanwhile removes that
  reason: `need_rejoin` returns False, no poll continues the join, no heartbeat is sent, and the group waits for this
  member until its session times out, 45 s later.
- If a join ends between two polls, the next poll starts it anew instead of completing it. The other members have to
  rejoin each time, until an end happens to fall into a poll: dozens of rebalances were seen.
- A member that the group removes while it joins (it was frozen or disconnected after its request) joins again under
  another member id. It never tells its listener that its partitions are lost, because it does so only before it begins
  to join. It went on with some partitions as if nothing had happened, and committed others over their new owner's
  positions, as a member of the new generation, which nobody refuses. (Java's client starts anew in this case:
  `resetStateAndRejoin`.)
"""

from typing import Any

from kafka.coordinator.base import MemberState

JOINING_POLL_MS = 10


def finish_joins(coordinator: Any) -> None:
    """Make a consumer's coordinator need to rejoin until a join that it began has ended, and complete that join.

    If the group has removed the member meanwhile, the join starts anew.
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
        coordinator.rejoining = False  # so that the listener learns of lost partitions before the next join

    coordinator.reset_generation = begin_anew
    coordinator.need_rejoin = lambda: coordinator.rejoining or need_rejoin()
    coordinator.join_group_async = take_in_or_join


async def _take_in(coordinator: Any, assignment: bytes) -> None:
    """Complete a successful join, as `join_group_async` itself does."""
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
    """Let a member fetch its partitions while it rejoins, as the cooperative protocol intends (KIP-429).

    kafka-python (3.0.12) fetches nothing until a join has ended: when a member dies and another joins, all others stop
    until the dead one's session times out. Partitions are still revoked only within polls.
    """
    poll = coordinator.poll

    def poll_briefly(timeout_ms: float | None = None) -> bool:
        if not (coordinator.rejoining and subscription.assigned_partitions()):
            return bool(poll(timeout_ms=timeout_ms))
        poll(timeout_ms=JOINING_POLL_MS if timeout_ms is None else min(timeout_ms, JOINING_POLL_MS))
        return True

    coordinator.poll = poll_briefly
