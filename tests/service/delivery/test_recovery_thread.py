"""Where newly assigned partitions start, and what is read back for them, from a Kafka that is a few lists."""

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, NodeNotReadyError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.client.errors import IngestError
from ingest.contract import SOURCE_OFFSET_HEADER, SOURCE_PARTITION_HEADER, SOURCE_TOPIC_HEADER
from ingest.snapshot import Snapshot, encode
from service.configuration.settings import TextSettings
from service.delivery import recovery_thread
from service.delivery.read_back import LABEL_SKEW_MS, LETTER_SKEW_MS, ReadBack, Request
from service.delivery.recovery_thread import RecoveryThread
from service.kind import Kind
from tests.ingest.records import HandMade
from tests.service.delivery.doors import make_metrics

KIND = Kind("text", TextSettings(), prepare=lambda *_: None, encode_labels=lambda *_: [])  # type: ignore[arg-type]
OUTPUT = TopicPartition(KIND.settings.output_topic, 0)
DEAD = TopicPartition(KIND.settings.dead_letter_topic, 0)


def source(number: int = 0) -> TopicPartition:
    return TopicPartition("texts", number)


def label(of: int, record: int, offset: int) -> HandMade:
    headers = [(SOURCE_PARTITION_HEADER, b"%d" % of), (SOURCE_OFFSET_HEADER, b"%d" % record)]
    return HandMade(b"{}", key=b"id", headers=headers, offset=offset)


def letter(of: int, record: int, offset: int, *, topic: str = "texts") -> HandMade:
    rejected = label(of, record, offset)
    return replace(rejected, headers=[(SOURCE_TOPIC_HEADER, topic.encode()), *rejected.headers])


class FakeReader:
    """Labels and dead letters, a partition each; gives five labels a poll, and notes the calls in order."""

    def __init__(self) -> None:
        self.commits: dict[TopicPartition, OffsetAndMetadata | Exception] = {}
        self.labels: list[HandMade] = []
        self.letters: list[HandMade] = []
        self.end = 0
        self.since: int | None = 0  # the label that is as late as any record
        self.calls: list[str] = []
        self.topics_fail = 0
        self.at: dict[TopicPartition, int] = {}
        self.polled: Callable[[], None] = lambda: None

    def committed(self, of: TopicPartition) -> OffsetAndMetadata | None:
        self.calls.append(f"commit of {of.partition}")
        found = self.commits.get(of)
        if isinstance(found, Exception):
            raise found
        return found

    def bounds(
        self, partitions: Collection[TopicPartition], *, committed: bool
    ) -> dict[TopicPartition, tuple[int, int]]:
        return {partition: self._bounds(partition) for partition in partitions}

    def _bounds(self, partition: TopicPartition) -> tuple[int, int]:
        if partition == OUTPUT:
            self.calls.append("end of output")
            return 0, self.end
        if partition == DEAD:
            self.calls.append("end of dead letters")
            return 0, len(self.letters)
        return 0, 1000

    def look_at_topics(self) -> None:
        self.calls.append("topics")
        if self.topics_fail:
            self.topics_fail -= 1
            raise KafkaTimeoutError

    def partitions_of(self, topic: str) -> int:
        return 1

    def time_of(self, of: TopicPartition, offset: int) -> int | None:
        return 7000

    def offsets_at(self, partitions: Collection[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int | None]:
        since = {7000 - LABEL_SKEW_MS: self.since, 7000 - LETTER_SKEW_MS: 0}.get(timestamp_ms)
        return dict.fromkeys(partitions, since)

    def read(self, positions: Mapping[TopicPartition, int]) -> None:
        self.at = dict(positions)

    def poll(self, timeout_ms: int) -> tuple[dict[TopicPartition, list[Any]], dict[TopicPartition, int]]:
        self.polled()
        for partition, records in ((OUTPUT, self.labels), (DEAD, self.letters)):
            coming = [record for record in records if record.offset >= self.at.get(partition, 10**9)][:5]
            if coming:
                self.at[partition] = coming[-1].offset + 1
                return {partition: coming}, dict(self.at)
        return {}, dict(self.at)

    def close(self) -> None:
        self.calls.append("close")

    def commit(self, number: int, position: int, labels_from: int, **snapshot: Any) -> None:
        metadata = Snapshot(position, OUTPUT.topic, 0, 1, labels_from, **snapshot)
        self.commits[source(number)] = OffsetAndMetadata(position, encode(metadata), -1)


@contextlib.contextmanager
def running(
    reader: FakeReader,
    wanted: Callable[[Request], bool] = lambda _: True,
    nothing_in_flight: Callable[[set[TopicPartition]], bool] = lambda _: True,
    opened: Callable[[], None] = lambda: None,
    *,
    bounded: bool = False,
) -> Iterator[RecoveryThread]:
    def open_reader() -> FakeReader:
        opened()
        return reader

    thread = RecoveryThread(KIND, open_reader, wanted, nothing_in_flight, make_metrics(), bounded=bounded)  # type: ignore[arg-type]
    thread.start()
    try:
        yield thread
    finally:
        thread.close(10.0)
        assert not thread.is_alive()
        assert thread.error is None


def ask(thread: RecoveryThread, number: int = 0) -> Request:
    request = Request(source(number), not_before=0.0, asked_at=0.0)
    thread.ask(request)
    return request


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def answers(thread: RecoveryThread, count: int = 1) -> list[ReadBack]:
    wait_for(lambda: len(thread.found) >= count)
    return list(thread.found)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery_thread, "RETRY_S", 0.02)


def records_of(found: ReadBack) -> list[Any]:
    return sorted(mark.record for mark in found.published.values())


def test_a_newcomers_own_labels_are_read_from_where_its_commit_says_to_the_end() -> None:
    reader = FakeReader()
    reader.commit(0, position=90, labels_from=3)
    reader.labels = [label(offset % 2, 100 + offset, offset) for offset in range(20)]
    reader.end = 16
    with running(reader) as thread:
        ask(thread)
        [found] = answers(thread)
    assert records_of(found) == [104, 106, 108, 110, 112, 114]
    assert (found.plan.position, found.output.end, found.committed) == (90, 16, reader.commits[source()])


def test_its_clients_are_opened_before_anything_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's first partitions may come minutes later: its descriptors and threads must not grow then."""
    monkeypatch.setattr(recovery_thread, "IDLE_S", 0.01)
    reader, opened = FakeReader(), threading.Event()
    with running(reader, opened=opened.set):
        assert opened.wait(20)
    assert reader.calls == ["close"]


def test_a_kafka_that_cannot_be_reached_is_tried_again() -> None:
    reader, failures = FakeReader(), [IngestError("no broker answers"), IngestError("no broker answers")]

    def opened() -> None:
        if failures:
            raise failures.pop()

    with running(reader, opened=opened) as thread:
        ask(thread)
        answers(thread)
    assert failures == []


def test_topics_and_the_end_are_asked_for_when_the_commit_is_known() -> None:
    """Else labels that the commit relies on could lie behind it."""
    reader = FakeReader()
    with running(reader) as thread:
        ask(thread)
        answers(thread)
    assert reader.calls == ["commit of 0", "topics", "end of output", "end of dead letters", "close"]


def test_without_a_commit_labels_are_read_from_the_time_of_the_first_record() -> None:
    reader = FakeReader()
    reader.labels, reader.end, reader.since = [label(0, offset, offset) for offset in range(8)], 8, 3
    with running(reader) as thread:
        ask(thread)
        [found] = answers(thread)
    assert records_of(found) == [3, 4, 5, 6, 7]


def test_what_nobody_waits_for_is_not_answered() -> None:
    reader, gone = FakeReader(), set[TopicPartition]()
    reader.labels, reader.end = [label(0, 0, 0)], 10
    reader.polled = lambda: gone.add(source(0))  # it goes while its labels are read
    with running(reader, wanted=lambda request: request.source not in gone) as thread:
        ask(thread, 0)
        wait_for(lambda: source(0) in gone)
        reader.end = 0
        ask(thread, 1)
        assert [found.request.source for found in answers(thread)] == [source(1)]


def test_a_newcomer_behind_others_on_a_shared_partition_of_the_output_misses_no_label() -> None:
    reader = FakeReader()
    reader.commit(0, position=90, labels_from=20)
    reader.commit(1, position=90, labels_from=2)
    reader.labels = [label(offset % 2, offset, offset) for offset in range(40)]
    reader.end = 40
    with running(reader) as thread:
        requests: list[Request] = []

        def ask_for_the_other() -> None:
            if reader.at[OUTPUT] > 20 and not requests:
                requests.append(ask(thread, 1))

        reader.polled = ask_for_the_other
        ask(thread, 0)
        found = {each.request.source.partition: records_of(each) for each in answers(thread, 2)}
    assert found == {0: list(range(20, 40, 2)), 1: list(range(3, 40, 2))}


def test_nothing_is_looked_up_while_this_worker_may_still_write_for_the_partition() -> None:
    reader, done, tried = FakeReader(), threading.Event(), threading.Event()

    def nothing_in_flight(sources: set[TopicPartition]) -> bool:
        tried.set()
        return done.is_set()

    with running(reader, nothing_in_flight=nothing_in_flight) as thread:
        ask(thread)
        assert tried.wait(20)
        assert reader.calls == []
        done.set()
        answers(thread)


def test_a_commit_that_may_yet_change_is_waited_for_and_holds_nobody_else() -> None:
    reader = FakeReader()
    reader.commits[source(0)] = KafkaTimeoutError()
    with running(reader) as thread:
        ask(thread, 0)
        ask(thread, 1)
        assert [found.request.source for found in answers(thread)] == [source(1)]
        reader.commit(0, position=90, labels_from=0)
        assert answers(thread, 2)[1].plan.position == 90


def test_each_reason_for_which_partitions_wait_is_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Another reason within the same ten seconds was told of by nobody, and one reason six times a minute."""
    reader = FakeReader()
    reader.commits = {
        source(0): KafkaTimeoutError("a transaction is open"),
        source(1): NodeNotReadyError("Node paused: {'max_in_flight'}"),
    }
    with running(reader) as thread:
        ask(thread, 0)
        wait_for(lambda: reader.calls.count("commit of 0") > 3)
        reader.commit(0, position=90, labels_from=0)
        answers(thread)
        ask(thread, 1)
        wait_for(lambda: reader.calls.count("commit of 1") > 3)
    assert caplog.messages == [
        "texts[0]: can't find where to begin yet: KafkaTimeoutError: a transaction is open",
        "texts[1]: can't find where to begin yet: the broker in charge does not answer",
    ]


def test_an_operators_reset_is_not_committed_again_beside_labels() -> None:
    """For a successor, no label would count as published: labels in the same transaction were published twice."""
    reader = FakeReader()
    reader.commits[source()] = OffsetAndMetadata(30, "", -1)
    reader.end = 10
    with running(reader) as thread:
        ask(thread)
        [found] = answers(thread)
    assert (found.plan.position, found.published, found.committed) == (30, {}, None)


def test_an_output_that_ends_before_the_labels_that_are_to_be_read_is_read_from_its_start() -> None:
    """The topic was created anew; labels published since have lower offsets than the committed ones."""
    reader = FakeReader()
    reader.commit(0, position=90, labels_from=500)
    reader.labels, reader.end = [label(0, 100, 0), label(0, 101, 1)], 2
    with running(reader) as thread:
        ask(thread)
        [found] = answers(thread)
    assert records_of(found) == [100, 101]


def test_labels_that_never_come_are_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that was made anew while it was read ends sooner than it did; its partition was never recovered."""
    monkeypatch.setattr(recovery_thread, "WAITING_LONG_S", 0.1)
    reader = FakeReader()
    reader.commit(0, position=90, labels_from=0)
    reader.labels, reader.end = [label(0, 100, 0)], 50

    def make_anew() -> None:
        reader.end = 1

    reader.polled = make_anew
    with running(reader) as thread:
        ask(thread)
        [found] = answers(thread)
    assert records_of(found) == [100]


def test_records_past_the_commit_that_have_a_dead_letter_are_known() -> None:
    """Kafka came back from a kill with a commit of half an hour ago: 817 dead letters were written twice."""
    reader = FakeReader()
    reader.commit(0, position=90, labels_from=0)
    reader.letters = [letter(offset % 2, 86 + offset, offset) for offset in range(12)]
    reader.letters.append(letter(0, 98, 12, topic="images"))
    with running(reader) as thread:
        ask(thread)
        [found] = answers(thread)
    assert found.reported == {90, 92, 94, 96}


def test_after_an_operators_reset_dead_letters_are_written_again_like_labels() -> None:
    reader = FakeReader()
    reader.commits[source()] = OffsetAndMetadata(30, "", -1)
    reader.letters = [letter(0, 40, 0)]
    with running(reader) as thread:
        ask(thread)
        [found] = answers(thread)
    assert found.reported == set()


def test_a_bounded_partition_waits_for_a_commit_that_says_where_it_ends() -> None:
    """Read without, it would never end; taken for ended, its records would have no labels."""
    reader = FakeReader()
    reader.commit(0, 50, labels_from=0)
    with running(reader, bounded=True) as thread:
        ask(thread)
        time.sleep(0.1)
        assert not thread.found
        reader.commit(0, 50, labels_from=0, end=70)
        (found,) = answers(thread)
    assert found.plan.end == 70


def test_while_topics_cannot_be_looked_at_newcomers_wait_and_their_commits_are_read_again() -> None:
    reader = FakeReader()
    reader.topics_fail = 3
    with running(reader) as thread:
        ask(thread)
        answers(thread)
        assert reader.calls.count("topics") == 4
        assert reader.calls.count("commit of 0") == 4
