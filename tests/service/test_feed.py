"""How records go through a partition's stream to the core, without either."""

import itertools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kafka.future import Future
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from ingest.rejections import Reason, Rejection
from service import feed
from service.assignment import Partition
from service.feed import Feed
from service.kind import Block, Stream
from service.metrics import Families, WorkerMetrics
from service.publisher import Publisher, Ticket
from service.settings import TextSettings
from tests.ingest.records import HandMade

SOURCE = TopicPartition("texts", 0)


class FakeLane:
    """Has room for everything."""

    capacity = 4096

    def __init__(self) -> None:
        self.submitted: list[int] = []

    def submit(self, frames: np.ndarray, ticket: Ticket) -> bool:
        self.submitted.append(int(frames[0]))
        return True


class FakeAssignment(list[Partition]):
    """Pauses without a consumer."""

    def pause(self, partition: Partition, pause: bool) -> None:
        partition.paused = pause


class FakeProducer:
    """Keeps what it is given, until told that Kafka has it."""

    def __init__(self) -> None:
        self.futures: list[Future] = []

    def send(self, *_: object, **__: object) -> Future:
        self.futures.append(Future())
        return self.futures[-1]

    def partitions_for(self, topic: str) -> set[int]:
        return {0}


def make_feed(lane: FakeLane, partition: Partition, producer: Any = None) -> Feed:
    metrics = WorkerMetrics(Families(CollectorRegistry()), "text", topics=["texts"], reasons=list(Reason), labels=[])
    kind: Any = SimpleNamespace(settings=TextSettings(), say=None)
    producer = producer or FakeProducer()
    publisher = Publisher(producer, producer, kind, [], metrics)
    return Feed(FakeAssignment([partition]), lane, publisher, metrics)  # type: ignore[arg-type]


def test_records_that_take_long_to_cut_are_cut_over_several_turns_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """One poll of 4,000 texts of 64 KB took up to 45 s to cut, and all of it within one turn of the loop.

    Meanwhile /livez was red, SIGTERM waited beyond its grace period, and in a rebalance no heartbeat went out.
    """
    now = 0.0
    monkeypatch.setattr(feed, "time", SimpleNamespace(monotonic=lambda: now))

    def slow_blocks() -> Iterator[Block]:
        nonlocal now
        for number in range(3):
            now += 1.0
            yield Block(np.array([number]), np.array([0]), None)

    lane, partition = FakeLane(), Partition(SOURCE, Stream(), position=0, live_from=0, work=slow_blocks())
    worker_feed = make_feed(lane, partition)
    turns = itertools.takewhile(lambda done: not done, (worker_feed.advance(partition) for _ in range(100)))
    seen = [(partition.paused, list(lane.submitted)) for _ in turns]
    assert seen == [(True, []), (True, [0]), (True, [0, 1])]
    assert lane.submitted == [0, 1, 2]
    assert (partition.paused, partition.at_boundary) == (False, True)


class RefuseAll(Stream):
    """Refuses every record."""

    def push(
        self, records: Sequence[Any], processed_at: float, *, mute: bool
    ) -> tuple[Sequence[Rejection], Iterator[Block]]:
        return [Rejection(row, Reason.TOO_LARGE, "too large") for row in range(len(records))], iter(())


def test_reading_pauses_while_many_bytes_of_dead_letters_are_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only their number was bounded: 16,384 texts of a megabyte each would have filled the memory first."""
    monkeypatch.setattr(feed, "MAX_LETTER_BYTES", 2500)
    producer, partition = FakeProducer(), Partition(SOURCE, RefuseAll(), position=0, live_from=0)
    worker_feed = make_feed(FakeLane(), partition, producer)
    worker_feed.take(partition, [HandMade(b"x" * 1000, offset=offset) for offset in range(2)])
    assert not partition.paused
    worker_feed.take(partition, [HandMade(b"x" * 1000, offset=2)])
    assert partition.paused
    producer.futures[0].success(None)
    assert worker_feed.advance(partition)
    assert not partition.paused
