"""How records go through a partition's stream to the core, without either."""

import itertools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from ingest.record_batches.record_columns import Records
from ingest.rejections import Reason, Rejection
from service.delivery.letter import Letter
from service.delivery.partition import Output, Partition
from service.delivery.protocol import Ticket
from service.delivery.published import Mark, Published
from service.kind import Block, Stream
from service.monitoring.metrics import Families, WorkerMetrics
from service.pipeline import feed
from service.pipeline.feed import Feed
from service.pipeline.losses import Losses
from service.pipeline.worker import Worker
from tests.ingest.records import HandMade

SOURCE = TopicPartition("texts", 0)


class FakeLane:
    """Has room for everything."""

    capacity = 4096

    def __init__(self) -> None:
        self.submitted: list[int] = []

    def submit(self, frames: np.ndarray, ticket: Ticket) -> bool:
        self.submitted += frames.tolist()
        return True


class FakeAssignment(list[Partition]):
    """Pauses without a consumer."""

    def pause(self, partition: Partition, pause: bool) -> None:
        partition.paused = pause


class FakeDelivery:
    """Keeps dead letters until Kafka has acknowledged them."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    def reject(self, letters: Sequence[Letter], partition: Partition) -> None:
        self.letters += letters

    def letter_bytes_waiting(self, partition: Partition) -> int:
        return sum(letter.size for letter in self.letters)


def make_partition(stream: Stream, **settings: Any) -> Partition:
    output = Output(TopicPartition("text-labels", 0), 1, end=100)
    return Partition(SOURCE, stream, output, **{"position": 0, "live_from": 0, **settings})


def make_feed(lane: FakeLane, partition: Partition, delivery: FakeDelivery | None = None) -> Feed:
    metrics = WorkerMetrics(Families(CollectorRegistry()), "text", topics=["texts"], reasons=list(Reason), labels=[])
    assignment, delivery = FakeAssignment([partition]), delivery or FakeDelivery()
    return Feed(assignment, lane, delivery, lambda _: None, "dead", metrics, Losses())  # type: ignore[arg-type]


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

    lane, partition = FakeLane(), make_partition(Stream(), work=slow_blocks())
    worker_feed = make_feed(lane, partition)
    turns = itertools.takewhile(lambda done: not done, (worker_feed.advance(partition) for _ in range(100)))
    seen = [(partition.paused, list(lane.submitted)) for _ in turns]
    assert seen == [(True, []), (True, [0]), (True, [0, 1])]
    assert lane.submitted == [0, 1, 2]
    assert (partition.paused, partition.at_boundary) == (False, True)


class RefuseAll(Stream):
    """Refuses every record."""

    def push(self, records: Records, processed_at: float, *, mute: bool) -> tuple[Sequence[Rejection], Iterator[Block]]:
        return [Rejection(row, Reason.TOO_LARGE, "too large") for row in range(len(records))], iter(())


def test_reading_pauses_while_many_bytes_of_dead_letters_are_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only their number was bounded: 16,384 texts of a megabyte each would have filled the memory first."""
    monkeypatch.setattr(feed, "MAX_LETTER_BYTES", 4700)
    delivery, partition = FakeDelivery(), make_partition(RefuseAll())
    worker_feed = make_feed(FakeLane(), partition, delivery)
    worker_feed.take(partition, records(0, 1, size=1000))
    assert not partition.paused
    worker_feed.take(partition, records(2, size=1000))
    assert partition.paused
    delivery.letters.pop()
    assert worker_feed.advance(partition)
    assert not partition.paused


class RefuseOdd(Stream):
    """Makes a frame of each record but those of odd offsets, which it refuses."""

    def push(self, records: Records, processed_at: float, *, mute: bool) -> tuple[Sequence[Rejection], Iterator[Block]]:
        odd = records.offset % 2 == 1
        rejections = [Rejection(row, Reason.TOO_LARGE, "too large") for row in np.flatnonzero(odd).tolist()]
        frames = records.offset[~odd]
        return rejections, iter([Block(frames, np.zeros(len(frames), np.int64), frames)])


def test_what_was_read_along_with_many_bytes_of_dead_letters_is_cut_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly once, letters leave with a snapshot, which is taken only where all that was read has been cut.

    A poll that brought 64 MB of them, such as one record of 100 MB that was 90 KB of gzip, and a window that closed,
    waited for its letters to leave before it cut the window: for ever, while `/livez` was green.
    """
    monkeypatch.setattr(feed, "MAX_LETTER_BYTES", 2000)
    lane, delivery, partition = FakeLane(), FakeDelivery(), make_partition(RefuseOdd())
    make_feed(lane, partition, delivery).take(partition, records(0, 1, 2, 3, size=1000))
    assert len(delivery.letters) == 2
    assert lane.submitted == [0, 2]
    assert partition.at_boundary
    assert partition.paused


def test_a_record_that_has_a_dead_letter_gets_no_other() -> None:
    delivery, partition = FakeDelivery(), make_partition(RefuseAll(), reported={1})
    make_feed(FakeLane(), partition, delivery).take(partition, records(0, 1, 2))
    assert [dict(letter.headers)["source-offset"] for letter in delivery.letters] == [b"0", b"2"]


class Numbered(Stream):
    """Makes a frame of each record; those of `silent` are closed by silence, when it is asked for that."""

    def __init__(self, silent: Sequence[int] = ()) -> None:
        self.silent = silent
        self.duplicates = 0

    def push(self, records: Records, processed_at: float, *, mute: bool) -> tuple[Sequence[Rejection], Iterator[Block]]:
        return [], iter([self._block(records.offset.tolist())])

    def fall_silent(self, caught_up_at: float) -> Iterator[Block]:
        return iter([self._block(self.silent, silent=True)])

    def _block(self, numbers: Sequence[int], *, silent: bool = False) -> Block:
        return Block(np.array(numbers), np.zeros(len(numbers), np.int64), np.array(numbers), silent)

    def identities(self, block: Block) -> Sequence[int]:
        return [int(number) for number in block.columns]

    last_records = identities

    def select(self, block: Block, rows: np.ndarray) -> Block:
        return Block(block.frames[rows], block.source_timestamp_ms[rows], block.columns[rows], block.silent)

    def count_duplicates(self, count: int) -> None:
        self.duplicates += count


def records(*offsets: int, size: int = 1) -> Records:
    return Records.of(HandMade(b"x" * size, offset=offset) for offset in offsets)


def test_what_has_been_published_is_not_published_again_and_then_forgotten() -> None:
    lane, stream = FakeLane(), Numbered()
    partition = make_partition(stream, published=Published({2: Mark(7, 2), 9: Mark(8, 9)}))
    worker_feed = make_feed(lane, partition)
    worker_feed.take(partition, records(1, 2, 3))
    assert lane.submitted == [1, 3]
    assert stream.duplicates == 1
    assert 2 not in partition.published
    assert 9 in partition.published


def test_what_closes_in_the_replay_was_settled_before_and_is_forgotten() -> None:
    lane = FakeLane()
    partition = make_partition(Numbered(), live_from=3, published=Published({2: Mark(7, 2), 9: Mark(8, 9)}))
    make_feed(lane, partition).take(partition, records(1, 2, 3))
    assert lane.submitted == [3]
    assert 2 not in partition.published
    assert 9 in partition.published


def test_a_replay_under_other_rules_publishes_what_has_not_been_published() -> None:
    lane = FakeLane()
    partition = make_partition(Numbered(), live_from=3, publishes_replay=True, published=Published({2: Mark(7, 2)}))
    make_feed(lane, partition).take(partition, records(1, 2, 3))
    assert lane.submitted == [1, 3]


def test_what_a_silence_closes_is_remembered_from_where_the_output_ended() -> None:
    lane = FakeLane()
    partition = make_partition(Numbered(silent=[5, 6]), position=10, published=Published({6: Mark(7, 3)}))
    make_feed(lane, partition).notice_silence(partition, 0.0)
    assert lane.submitted == [5]
    assert partition.published.oldest_label(5, lambda _: False) == 7
    partition.published.forget([6])
    assert partition.published.oldest_label(5, lambda _: False) == 100
    assert partition.published.oldest_label(6, lambda _: False) is None


def test_a_partition_that_ends_is_read_up_to_there_and_no_further() -> None:
    lane = FakeLane()
    partition = make_partition(Numbered(), end=3)
    worker_feed = make_feed(lane, partition)
    worker_feed.take(partition, records(1, 2, 3, 4))
    assert lane.submitted == [1, 2]
    assert not partition.paused  # its position moves afterwards
    partition.move_to(5)
    assert partition.position == 3
    worker_feed.take(partition, records(4, 5))
    assert lane.submitted == [1, 2]
    assert partition.paused


def test_a_turn_costs_as_the_number_of_partitions_not_as_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of 1,000 partitions took a quarter of a second a turn, twice, where nothing was to do; 5,000, 13 s."""
    calls: list[int] = []
    partitions = [make_partition(Stream()) for _ in range(300)]
    worker_feed = make_feed(FakeLane(), partitions[0])
    worker_feed._assignment.extend(partitions[1:])  # type: ignore[attr-defined]
    total = worker_feed.owed

    def note_and_add_up() -> int:
        calls.append(1)
        return total()

    monkeypatch.setattr(worker_feed, "owed", note_and_add_up)
    worker: Any = SimpleNamespace(
        _raise_thread_error=lambda: None,
        _recover_failed=lambda: None,
        _feed=worker_feed,
        _assignment=FakeAssignment(partitions),
        _poll=lambda _: {},
        _take=lambda _: None,
        _recovery=SimpleNamespace(found=[]),
        _caught_up_at=lambda _: 0.0,
        _losses=Losses(),
        _kafka_silence=SimpleNamespace(notice=lambda fetching: None),
        _delivery=SimpleNamespace(commit=lambda: None),
    )
    worker._assignment.follow = lambda: None
    worker._assignment.begin_all = lambda _: None
    Worker._turn(worker)
    assert len(calls) == 2
