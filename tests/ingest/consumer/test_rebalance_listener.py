import asyncio
import contextlib
from collections.abc import Callable

from kafka.errors import KafkaTimeoutError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.consumer.rebalance_listener import RebalanceListener

Offsets = dict[TopicPartition, OffsetAndMetadata]
FIRST, SECOND = TopicPartition("accelerometer", 0), TopicPartition("accelerometer", 1)


class FakeConsumer:
    """What a rebalance listener asks of kafka-python's consumer; its sleep moves the clock of the test."""

    def __init__(self, events: list[str], commit_error: Exception | None = None) -> None:
        self.now = 0.0
        self._net = self._coordinator = self
        self._events = events
        self._commit_error = commit_error

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def _commit_offsets_sync_async(self, offsets: Offsets, timeout_ms: int) -> None:
        assert timeout_ms > 0
        if self._commit_error is not None:
            raise self._commit_error
        self._events.append(f"committed {offsets[FIRST].offset}")


def revoke_first(
    settled: Callable[[float], bool],
    commit_error: Exception | None = None,
    nothing_in_flight: Callable[[float], bool] = lambda _: True,
) -> list[str]:
    """What happens, in its order, when FIRST is revoked with a snapshot at 7 that may be committed."""
    events: list[str] = []
    consumer = FakeConsumer(events, commit_error)
    listener = RebalanceListener(
        assigned=lambda _: None,
        settled=lambda _: settled(consumer.now),
        snapshots=lambda _: {FIRST: OffsetAndMetadata(7, "", -1)},
        committed=lambda _, response: events.append(f"response {response}"),
        released=lambda _: events.append(f"released after {consumer.now:.1f} s"),
        nothing_in_flight=lambda _: nothing_in_flight(consumer.now),
        clock=lambda: consumer.now,
        deadline_s=5.0,
    )
    listener.consumer = consumer
    with contextlib.suppress(RuntimeError):
        asyncio.run(listener.on_partitions_revoked({FIRST}))
        events.append(f"returned after {consumer.now:.1f} s")
    return events


def test_a_partition_is_let_go_when_all_is_settled_and_the_commit_is_done() -> None:
    assert revoke_first(lambda now: now > 1) == [
        "committed 7",
        "response None",
        "released after 1.0 s",
        "returned after 1.0 s",
    ]


def test_what_is_not_settled_by_the_deadline_is_let_go_all_the_same() -> None:
    assert revoke_first(lambda _: False) == [
        "committed 7",
        "response None",
        "released after 5.0 s",
        "returned after 5.0 s",
    ]


def test_a_partition_whose_commit_fails_is_released_and_the_failure_reported() -> None:
    error = KafkaTimeoutError("too late")
    assert revoke_first(lambda _: True, error) == [f"response {error}", "released after 0.0 s", "returned after 0.0 s"]


def test_a_partition_is_let_go_whatever_fails() -> None:
    """It stayed in the worker's books once, as if it were still assigned, when a send failed during a rebalance."""

    def fail(_: float) -> bool:
        raise RuntimeError

    assert revoke_first(fail) == ["released after 0.0 s"]


def test_a_rebalance_waits_until_no_transaction_holds_anything_of_what_is_gone() -> None:
    events = revoke_first(lambda _: True, nothing_in_flight=lambda now: now > 1)
    assert events == ["committed 7", "response None", "released after 0.0 s", "returned after 1.0 s"]
    assert revoke_first(lambda _: True, nothing_in_flight=lambda _: False)[-1] == "returned after 2.0 s"
