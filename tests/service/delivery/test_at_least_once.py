"""What is sent, committed and given up at least once, on producers that answer when they are told to."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    TopicAuthorizationFailedError,
)
from kafka.future import Future
from kafka.structs import MemberState, OffsetAndMetadata, TopicPartition

from ingest.client.errors import IngestError
from ingest.producer.producer import UnharmedError
from ingest.record_batches.bodies import Bodies
from service.delivery import at_least_once, withheld
from service.delivery.at_least_once import REOPEN_S, AtLeastOnce
from tests.clock import Clock
from tests.service.delivery.doors import (
    MEMBER,
    FakeAssignment,
    make_letter,
    make_metrics,
    make_partition,
    owe,
    promise,
    together,
    values_in,
)

INTERVAL_S = 1.0


class FakeProducer:
    """Keeps what is sent, with its future."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[bytes], Any]] = []
        self.refuses: Exception | None = None
        self.unknown: set[str] = set()
        self.stamps: list[int | None] = []  # of the dead letters
        self.failed = self.closed = False
        self._transaction_manager = SimpleNamespace(has_fatal_error=lambda: self.failed)

    def send(self, topic: str, *, value: bytes, timestamp_ms: int | None, **message: Any) -> Any:
        self.stamps.append(timestamp_ms)
        if self.refuses:
            raise self.refuses
        return self._keep([value])

    def send_bodies(self, partition: TopicPartition, bodies: Bodies, timestamp_ms: int) -> Any:
        if self.refuses:
            raise self.refuses
        return self._keep(values_in(bodies))

    def knows(self, topic: str) -> bool:
        return topic not in self.unknown

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _keep(self, values: list[bytes]) -> Any:
        self.sent.append((values, Future()))
        return self.sent[-1][1]

    def acknowledge(self, last_offset: int = 200) -> None:
        for _, future in self.sent:
            future.success(last_offset)
        self.sent.clear()

    def refuse(self, error: Exception) -> None:
        for _, future in self.sent:
            future.failure(error)
        self.sent.clear()

    def close(self, timeout: float) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(at_least_once, "time", clock)
    monkeypatch.setattr(withheld, "time", clock)
    return clock


def make(
    assignment: FakeAssignment,
    *labels: FakeProducer,
    letters: FakeProducer | None = None,
    may_write: Callable[[], bool] = lambda: True,
) -> AtLeastOnce:
    producers = list(labels)

    def open_labels() -> FakeProducer:
        if not producers:
            raise IngestError("no broker")
        return producers.pop(0)

    return AtLeastOnce(
        assignment,  # type: ignore[arg-type]
        make_metrics(),
        open_labels=open_labels,  # type: ignore[arg-type]
        open_letters=lambda: letters or FakeProducer(),  # type: ignore[arg-type,return-value]
        commit_interval_s=INTERVAL_S,
        may_write=may_write,
    )


def test_a_position_is_committed_when_all_labels_before_it_are_acknowledged(clock: Clock) -> None:
    partition, producer = make_partition(), FakeProducer()
    assignment = FakeAssignment(partition)
    delivery = make(assignment, producer)
    delivery.publish(owe(partition, 2, position=10))
    delivery.commit()
    assert assignment.committing == []
    producer.acknowledge()
    clock.now += 2 * INTERVAL_S
    delivery.commit()
    [(offsets, committed)] = assignment.committing
    assert offsets[partition.source].offset == 10
    assert partition.ledger.committed is None
    committed(offsets, None)
    assert partition.ledger.committed is not None


def test_a_commit_that_failed_is_tried_again_at_the_next_interval(clock: Clock) -> None:
    partition = make_partition(position=10)
    assignment = FakeAssignment(partition)
    delivery = make(assignment, FakeProducer())
    delivery.commit()
    assignment.committing[0][1]({partition.source: None}, KafkaTimeoutError())
    delivery.commit()
    assert len(assignment.committing) == 1
    clock.now += 2 * INTERVAL_S
    delivery.commit()
    assert assignment.committing[1][0][partition.source].offset == 10


def test_commits_that_fail_are_told_of_once_a_minute_and_when_they_are_taken_again(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """While too few replicas were there, each worker logged two lines a second."""
    caplog.set_level("INFO")
    partition, producer = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), producer)
    offsets = {partition.source: OffsetAndMetadata(10, "", -1)}
    for passed_s in (0, 1, 58, 2, 1):
        clock.now += passed_s
        delivery.committed(offsets, NodeNotReadyError("Node paused: {'max_in_flight'}"))
    delivery.committed(offsets, None)
    delivery.committed(offsets, None)
    failed = "commit of texts[0] failed: the broker in charge does not answer; trying on"
    assert [record.getMessage() for record in caplog.records] == [
        failed,
        failed,
        "commits are taken again; 5 were not",
    ]


def test_nothing_is_committed_while_the_group_rebalances(clock: Clock) -> None:
    assignment = FakeAssignment(make_partition(position=10))
    delivery = make(assignment, FakeProducer())
    assignment.group = MEMBER._replace(state=MemberState.REBALANCING)
    delivery.commit()
    assert assignment.committing == []


def test_what_may_be_committed_of_partitions_that_go_is_their_newest_acknowledged_position() -> None:
    partition, producer = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), producer)
    delivery.publish(owe(partition, 1, position=10))
    producer.acknowledge()
    delivery.publish(owe(partition, 1, position=20))
    assert not delivery.settled([partition])
    assert delivery.last_offsets([partition])[partition.source].offset == 10
    producer.acknowledge()
    assert delivery.settled([partition])
    assert delivery.last_offsets([partition])[partition.source].offset == 20


@pytest.mark.parametrize("at_once", [True, False])
def test_a_label_whose_fate_is_unknown_is_not_sent_again_but_its_partition_recovered(at_once: bool) -> None:
    partition, producer = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), producer)
    error = KafkaTimeoutError()
    producer.refuses = error if at_once else None
    delivery.publish(owe(partition, 1, position=10))
    producer.refuse(error)
    assert list(delivery.failed) == [(partition, error)]
    assert (producer.sent, partition.ledger.committable()) == ([], None)


def test_labels_of_an_older_assignment_are_not_sent() -> None:
    partition, producer = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(), producer)
    partition.alive = False
    delivery.publish(owe(partition, 1, position=10))
    assert producer.sent == []
    assert delivery.nothing_in_flight({partition.source})


@pytest.mark.parametrize("arrives", [True, False])
def test_a_partition_is_let_go_when_none_of_its_labels_may_still_land(arrives: bool) -> None:
    """Not even those of an older assignment: a reading back before they land would miss them."""
    partition, producer = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), producer)
    delivery.publish(owe(partition, 2, position=10))
    partition.alive = False
    assert not delivery.nothing_in_flight({partition.source})
    assert delivery.nothing_in_flight({make_partition(1).source})
    if arrives:
        producer.acknowledge()
    else:
        producer.refuse(KafkaTimeoutError())
    assert delivery.nothing_in_flight({partition.source})


def test_labels_of_a_result_are_sent_together_and_each_is_accounted_for(clock: Clock) -> None:
    partition, producer = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), producer)
    labels = owe(partition, 3, position=10)
    delivery.publish([together(labels[:2]), labels[2]])
    assert [values for values, _ in producer.sent] == [[b"0", b"1"], [b"2"]]
    producer.sent.pop(0)[1].success(201)
    assert (partition.ledger.owed, delivery.nothing_in_flight({partition.source})) == (1, False)
    producer.acknowledge()
    assert (partition.ledger.owed, delivery.nothing_in_flight({partition.source})) == (0, True)


def test_what_is_acknowledged_says_where_the_output_ends() -> None:
    partition, producer = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), producer)
    delivery.publish(promise(partition, 1))
    producer.acknowledge(last_offset=300)
    assert partition.output.end == 301


def test_a_producer_that_refuses_everything_is_replaced_as_soon_as_a_broker_answers(clock: Clock) -> None:
    first, second, partition = FakeProducer(), FakeProducer(), make_partition()
    delivery = make(FakeAssignment(partition), first, second)
    delivery.turn()
    first.failed = True
    delivery.turn()
    delivery.publish(promise(partition, 1))
    assert first.closed
    assert len(second.sent) == 1
    second.failed = True
    for _ in range(2):  # no broker answers
        clock.now += 2 * REOPEN_S
        delivery.turn()
    assert not second.closed


def test_a_dead_letter_delays_the_position_behind_its_record_until_it_is_acknowledged() -> None:
    partition, letters = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), FakeProducer(), letters=letters)
    delivery.reject([make_letter()], partition)
    partition.position = 10
    partition.seal()
    assert (partition.ledger.committable(), delivery.letter_bytes_waiting(partition)) == (None, make_letter().size)
    letters.acknowledge()
    point = partition.ledger.committable()
    assert point is not None
    assert (point.position, delivery.letter_bytes_waiting(partition)) == (10, 0)


def test_a_dead_letter_that_is_too_large_is_given_up() -> None:
    partition, letters = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), FakeProducer(), letters=letters)
    delivery.reject([make_letter()], partition)
    letters.refuse(MessageSizeTooLargeError())
    assert (partition.ledger.owed, list(delivery.failed)) == (0, [])


def test_dead_letters_whose_topic_refuses_old_timestamps_are_sent_again_with_new_ones() -> None:
    partition, letters = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), FakeProducer(), letters=letters)
    delivery.reject([make_letter(timestamp_ms=7)], partition)
    letters.refuse(InvalidTimestampError())
    assert partition.ledger.owed == 1
    delivery.commit()
    assert letters.stamps == [7, None]
    letters.acknowledge()
    assert (partition.ledger.owed, list(delivery.failed)) == (0, [])


def test_a_dead_letter_that_its_topic_refuses_with_a_new_timestamp_too_has_its_partition_recovered() -> None:
    partition, letters = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), FakeProducer(), letters=letters)
    delivery.reject([make_letter(timestamp_ms=7)], partition)
    for _ in range(2):
        letters.refuse(InvalidTimestampError())
        delivery.commit()
    assert (partition.ledger.owed, len(delivery.failed)) == (1, 1)


def test_dead_letters_in_a_batch_with_one_that_is_refused_are_sent_again() -> None:
    """Their partition was recovered, met the same record, sent the same batch, and so on for ever."""
    partition, letters = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), FakeProducer(), letters=letters)
    delivery.reject([make_letter(b"1"), make_letter(b"2")], partition)
    for (_, future), error in zip(letters.sent, (InvalidRecordError("no key"), UnharmedError()), strict=True):
        future.failure(error)
    letters.sent.clear()
    delivery.commit()
    assert [values for values, _ in letters.sent] == [[b"2"]]
    letters.acknowledge()
    assert (partition.ledger.owed, list(delivery.failed)) == (0, [])


def test_dead_letters_whose_topic_is_not_known_wait_for_it_and_their_position_with_them(clock: Clock) -> None:
    """Each record stood still for ten seconds, and its partition was recovered."""
    partition, letters = make_partition(), FakeProducer()
    letters.unknown = {"dead"}
    delivery = make(FakeAssignment(partition), FakeProducer(), letters=letters)
    delivery.reject([make_letter(b"1"), make_letter(b"2")], partition)
    partition.position = 10
    delivery.commit()
    size = 2 * make_letter(b"1").size
    assert (letters.sent, partition.withheld, delivery.letter_bytes_waiting(partition)) == ([], 2, size)
    assert delivery.letter_bytes_waiting(make_partition(1)) == 0
    letters.unknown = set()
    clock.now += 1.0
    delivery.commit()
    assert [values for values, _ in letters.sent] == [[b"1"], [b"2"]]
    assert partition.withheld == 0
    letters.acknowledge()
    assert (partition.ledger.owed, list(delivery.failed)) == (0, [])


def test_dead_letters_that_wait_are_dropped_with_their_partition(clock: Clock) -> None:
    partition, letters = make_partition(), FakeProducer()
    letters.unknown = {"dead"}
    delivery = make(FakeAssignment(partition), FakeProducer(), letters=letters)
    delivery.reject([make_letter()], partition)
    partition.alive = False
    delivery.commit()
    letters.unknown = set()
    clock.now += 1.0
    delivery.commit()
    assert (letters.sent, delivery.letter_bytes_waiting(partition)) == ([], 0)


def test_dead_letters_whose_topic_may_not_be_written_wait_until_it_may(clock: Clock) -> None:
    partition, letters = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), FakeProducer(), letters=letters)
    delivery.reject([make_letter()], partition)
    letters.refuse(TopicAuthorizationFailedError("dead"))
    delivery.commit()
    assert letters.sent == []
    clock.now += 2.0
    delivery.commit()
    letters.acknowledge()
    assert (partition.ledger.owed, list(delivery.failed)) == (0, [])


def test_of_many_dead_letters_whose_topic_is_gone_one_is_waited_for() -> None:
    """Each send waited ten seconds for it: with a poll's worth of them the worker stood still for hours."""
    partition, letters = make_partition(), FakeProducer()
    letters.refuses = KafkaTimeoutError()
    delivery = make(FakeAssignment(partition), FakeProducer(), letters=letters)
    delivery.reject([make_letter()] * 100, partition)
    assert len(letters.stamps) == 1
    assert list(delivery.failed) == [(partition, letters.refuses)]
    assert partition.ledger.owed == 100


def test_a_dead_letter_that_fails_otherwise_has_its_partition_recovered() -> None:
    partition, letters = make_partition(), FakeProducer()
    delivery = make(FakeAssignment(partition), FakeProducer(), letters=letters)
    delivery.reject([make_letter()], partition)
    error = KafkaTimeoutError()
    letters.refuse(error)
    assert (partition.ledger.owed, list(delivery.failed)) == (1, [(partition, error)])


@pytest.mark.parametrize("lost", [False, True])
def test_labels_wait_until_their_partition_is_certainly_ours_and_are_dropped_if_it_is_lost(lost: bool) -> None:
    partition, producer = make_partition(), FakeProducer()
    known, checked = threading.Event(), threading.Event()

    def may_write() -> bool:
        checked.set()
        return known.is_set()

    delivery = make(FakeAssignment(partition), producer, may_write=may_write)
    publishing = threading.Thread(target=delivery.publish, args=(owe(partition, 2, position=10),), daemon=True)
    publishing.start()
    assert checked.wait(10)
    assert producer.sent == []
    if lost:
        partition.alive = False
    else:
        known.set()
    publishing.join(10)
    assert not publishing.is_alive()
    assert len(producer.sent) == (0 if lost else 2)
