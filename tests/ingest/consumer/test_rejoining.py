import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from kafka.coordinator.base import MemberState
from kafka.future import Future

from ingest.consumer.rejoining import finish_joins


def idle(*, need_rejoin: bool) -> Any:
    """The parts of a coordinator that are leant on; it notes what it is asked to do."""
    done: list[Any] = []

    async def join_group_async(timeout_ms: float | None = None) -> bool:
        done.append("joined anew")
        return False

    async def on_join_complete(*arguments: object) -> None:
        done.append(arguments)

    return SimpleNamespace(
        rejoining=False,
        rejoin_needed=False,
        reset_generation=lambda member_id="": done.append(("generation reset", member_id)),
        need_rejoin=lambda: need_rejoin,
        join_group_async=join_group_async,
        state=MemberState.REBALANCING,
        done=done,
        _join_task=None,
        _lock=threading.Lock(),
        _generation=SimpleNamespace(generation_id=7, member_id="me", protocol="cooperative-sticky"),
        _enable_heartbeat=lambda: done.append("heartbeats"),
        _on_join_complete_async=on_join_complete,
    )


def test_a_join_that_was_begun_is_waited_for_though_its_reason_is_gone() -> None:
    """A group of two kinds of worker stood still for 45 s: its leader had joined again, and no poll looked after it."""
    coordinator = idle(need_rejoin=False)
    finish_joins(coordinator)
    assert not coordinator.need_rejoin()
    coordinator.rejoining = True
    assert coordinator.need_rejoin()


def test_a_join_that_is_needed_begins_as_ever() -> None:
    coordinator = idle(need_rejoin=True)
    finish_joins(coordinator)
    assert coordinator.need_rejoin()


def test_a_join_that_ended_between_two_polls_is_taken_in_instead_of_begun_anew() -> None:
    """Each new join made all others join again: 82 joins in 40 s, by a group of two, when polls were short."""
    coordinator = idle(need_rejoin=False)
    finish_joins(coordinator)
    coordinator.rejoining = coordinator.rejoin_needed = True
    coordinator._join_task = Future().success(b"the assignment")

    assert asyncio.run(coordinator.join_group_async(timeout_ms=50))

    assert coordinator.done == ["heartbeats", (7, "me", "cooperative-sticky", b"the assignment")]
    assert coordinator.state is MemberState.STABLE
    assert coordinator._join_task is None
    assert not coordinator.need_rejoin()
    assert not coordinator.rejoin_needed


def test_a_join_that_failed_or_goes_on_is_left_to_kafka_python() -> None:
    for join in (None, Future(), Future().failure(RuntimeError("no"))):
        coordinator = idle(need_rejoin=True)
        finish_joins(coordinator)
        coordinator.rejoining = True
        coordinator._join_task = join
        assert not asyncio.run(coordinator.join_group_async(timeout_ms=50))
        assert coordinator.done == ["joined anew"]


def test_a_member_put_out_of_the_group_while_it_joins_begins_anew_and_so_tells_what_it_lost() -> None:
    """It joined again as another member with all that it had, and committed over the true owners' positions."""
    coordinator = idle(need_rejoin=True)
    finish_joins(coordinator)
    coordinator.rejoining = True
    coordinator.reset_generation(member_id="me")
    assert not coordinator.rejoining
    assert coordinator.done == [("generation reset", "me")]
