"""How records go through a partition's stream to the core, without either."""

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from service import feed
from service.assignment import Partition
from service.feed import Feed
from service.kind import Block, Stream
from service.metrics import Families, WorkerMetrics
from service.publisher import Ticket

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


def make_feed(lane: FakeLane, partition: Partition) -> Feed:
    metrics = WorkerMetrics(Families(CollectorRegistry()), "text", topics=[], reasons=[], labels=[])
    publisher: Any = SimpleNamespace(put=None)
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
