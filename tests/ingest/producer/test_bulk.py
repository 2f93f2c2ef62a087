"""Batches beside kafka-python's own, byte for byte, and what becomes of the records in them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.errors import IllegalStateError, KafkaTimeoutError, MessageSizeTooLargeError
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import TopicPartition

from ingest.producer.bulk import BATCH_BYTES, BulkProducer, BulkRecords, Sending
from ingest.record_batches.bodies import Bodies, Outgoing, pack

HEADERS = st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=8)), max_size=3)
RECORDS = st.lists(st.tuples(st.binary(max_size=80), st.binary(max_size=300), HEADERS), min_size=1, max_size=90)
WHERE = TopicPartition("labels", 3)
NOW_MS = 1_700_000_000_000


def labels(count: int, size: int = 1) -> Bodies:
    return pack([(b"key", b"%d" % number * size, []) for number in range(count)])


def taken(*pieces: Bodies, records: BulkRecords | None = None) -> tuple[BulkRecords, list[Sending]]:
    """A batch with pieces in it, each of which it has room for."""
    records = records or BulkRecords()
    sendings = [Sending(WHERE, len(bodies)) for bodies in pieces]
    for bodies, sending in zip(pieces, sendings, strict=True):
        assert records.take(bodies, 0, NOW_MS, sending) == len(bodies)
    return records, sendings


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(st.tuples(RECORDS, st.integers(-(2**40), 2**40)), min_size=1, max_size=3),
    st.sampled_from([(-1, -1, -1, False), (4711, 3, 2**31 - 1, False), (2**40, 0, 0, True)]),
)
def test_a_batch_is_byte_for_byte_what_kafka_python_makes_of_its_records(
    pieces: list[tuple[list[Outgoing], int]], state: tuple[int, int, int, bool]
) -> None:
    ours, theirs = BulkRecords(), MemoryRecordsBuilder(2, 0, 2**30)
    for outgoing, timestamp_ms in pieces:
        assert ours.take(pack(outgoing), 0, timestamp_ms, Sending(WHERE, len(outgoing))) == len(outgoing)
        for key, value, headers in outgoing:
            theirs.append(timestamp_ms, key, value, headers)
    most = ours.size_in_bytes()
    for records in (ours, theirs):
        records.set_producer_state(*state)
        records.close()
    assert ours.buffer() == theirs.buffer()
    assert ours.size_in_bytes() == theirs.size_in_bytes() <= most
    assert ours.next_offset() == theirs.next_offset()
    found = (ours.producer_id, ours.producer_epoch, ours.base_sequence)
    assert found == (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence)


def test_a_batch_that_is_closed_twice_is_written_once_and_takes_nothing_more() -> None:
    """As it is when it is sent again."""
    records, _ = taken(labels(3))
    records.set_producer_state(7, 0, 5, False)
    records.close()
    written = bytes(records.buffer())
    records.close()
    assert bytes(records.buffer()) == written
    assert records.take(labels(1), 0, NOW_MS, Sending(WHERE, 1)) == 0
    with pytest.raises(IllegalStateError):
        records.set_producer_state(8, 0, 0, False)


def test_a_batch_takes_no_more_than_its_share_but_for_one_record() -> None:
    bodies = labels(5, size=BATCH_BYTES // 3)
    records = BulkRecords()
    sending = Sending(WHERE, 5)
    assert records.take(bodies, 1, NOW_MS, sending) == 3
    assert records.take(bodies, 3, NOW_MS, sending) == 3
    huge = labels(2, size=2 * BATCH_BYTES)
    assert BulkRecords().take(huge, 0, NOW_MS, sending) == 1


def test_a_single_record_begins_a_batch_of_its_own() -> None:
    records, _ = taken(labels(1))
    appended: object = ProducerBatch(WHERE, records).try_append(NOW_MS, b"key", b"value", [])
    assert appended is None
    assert records.next_offset() == 1


def test_pieces_of_one_batch_are_told_where_their_last_records_lie() -> None:
    records, (first, second) = taken(labels(3), labels(2))
    records.answered((1000, -1, None))
    assert (first.get(0), second.get(0)) == (1002, 1004)


def test_a_piece_in_two_batches_ends_with_the_last_of_them() -> None:
    bodies, sending = labels(5), Sending(WHERE, 5)
    batches = [BulkRecords(), BulkRecords()]
    batches[0].take(Bodies(bodies.content, bodies.begins[:4]), 0, NOW_MS, sending)
    batches[1].take(bodies, 3, NOW_MS, sending)
    batches[0].answered((10, -1, None))
    assert not sending.is_done
    batches[1].answered((2000, -1, None))
    assert sending.get(0) == 2001


def test_a_batch_that_the_broker_has_but_has_forgotten_where_is_acknowledged() -> None:
    records, (sending,) = taken(labels(2))
    records.answered((-1, -1, None))
    assert sending.get(0) == -1


def test_a_piece_fails_when_all_its_records_have_ended_and_with_the_first_error() -> None:
    sending = Sending(WHERE, 3)
    sending.refused(1, MessageSizeTooLargeError("too large"))
    assert not sending.is_done
    sending.acknowledged(1, 10)
    sending.refused(1, KafkaTimeoutError("later"))
    with pytest.raises(MessageSizeTooLargeError):
        sending.get(0)


def test_a_wait_for_a_piece_has_its_deadline() -> None:
    with pytest.raises(KafkaTimeoutError):
        Sending(WHERE, 1).get(0.01)


# -- in kafka-python's accumulator


class Alone(BulkProducer):
    """A producer with an accumulator and no broker."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self._accumulator = RecordAccumulator(delivery_timeout_ms=120_000)
        self._closed = True

    def send_alone(self, bodies: Bodies) -> Sending:
        sending = Sending(WHERE, len(bodies))
        self._append(WHERE, bodies, NOW_MS, sending)
        return sending

    @property
    def waiting(self) -> Any:
        return self._accumulator._batches[WHERE]

    def leave(self) -> Any:
        """Have the first batch leave, as the sender does."""
        batch = self.waiting.popleft()
        batch.records.close()
        return batch


@pytest.fixture
def alone() -> Alone:
    return Alone()


def read(batch: Any) -> list[bytes]:
    """The values of a batch, as kafka-python reads them."""
    return [record.value for found in batch.records.records() for record in found]


def test_what_waits_for_its_turn_takes_the_next_piece_along_and_what_has_left_does_not(alone: Alone) -> None:
    sendings = [alone.send_alone(labels(2)), alone.send_alone(labels(3))]
    gone = alone.leave()
    sendings.append(alone.send_alone(labels(4)))
    assert [batch.record_count for batch in [gone, *alone.waiting]] == [5, 4]
    gone.complete(100, -1)
    assert [sending.is_done for sending in sendings] == [True, True, False]


def test_a_large_piece_becomes_batches_of_bounded_size_in_order(alone: Alone) -> None:
    alone.send_alone(labels(3000, size=100))
    assert len(alone.waiting) > 3
    records = []
    while alone.waiting:
        batch = alone.leave()
        assert batch.records.size_in_bytes() < BATCH_BYTES + 30_000
        records += read(batch)
    assert records == [b"%d" % number * 100 for number in range(3000)]


def test_records_sent_singly_and_in_bulk_keep_their_order(alone: Alone) -> None:
    alone._accumulator.append(WHERE, NOW_MS, b"key", b"before", [])
    alone.send_alone(labels(2))
    alone._accumulator.append(WHERE, NOW_MS, b"key", b"after", [])
    alone.send_alone(labels(1))
    found = []
    while alone.waiting:
        found.append(read(alone.leave()))
    assert found == [[b"before"], [b"0", b"1"], [b"after"], [b"0"]]


def test_a_batch_that_its_topic_finds_too_large_is_split_down_to_the_record(alone: Alone) -> None:
    """kafka-python splits it, and binds futures record by record."""
    pieces = [alone.send_alone(labels(3)), alone.send_alone(labels(2))]
    seen, offset = [], 500
    while alone.waiting:
        batch = alone.leave()
        if batch.record_count > 1:
            alone._accumulator.split_and_reenqueue(batch)
            alone._accumulator.deallocate(batch)
            continue
        seen += read(batch)
        batch.complete(offset, -1)
        alone._accumulator.deallocate(batch)
        offset += 10  # another producer's records lie between
    assert seen == [b"0", b"1", b"2", b"0", b"1"]
    assert [sending.get(0) for sending in pieces] == [520, 540]
    assert not alone._accumulator.has_incomplete


def test_one_record_that_its_topic_never_takes_fails_its_piece_alone(alone: Alone) -> None:
    pieces = [alone.send_alone(labels(1)), alone.send_alone(labels(1))]
    alone._accumulator.split_and_reenqueue(alone.leave())
    alone.leave().complete_exceptionally(MessageSizeTooLargeError(), lambda _: MessageSizeTooLargeError("too large"))
    alone.leave().complete(500, -1)
    with pytest.raises(MessageSizeTooLargeError):
        pieces[0].get(0)
    assert pieces[1].get(0) == 500


def test_what_is_given_up_when_the_producer_closes_fails(alone: Alone) -> None:
    sending = alone.send_alone(labels(2))
    alone._accumulator.abort_incomplete_batches()
    with pytest.raises(IllegalStateError):
        sending.get(0)
    alone._accumulator.close()
    with pytest.raises(IllegalStateError):
        alone.send_alone(labels(1))


def test_what_waits_too_long_expires(alone: Alone) -> None:
    sending = alone.send_alone(labels(2))
    (batch,) = alone._accumulator.expired_batches(now=alone.waiting[0].created + 121)
    batch.complete_exceptionally(KafkaTimeoutError(), lambda _: KafkaTimeoutError("expired"))
    with pytest.raises(KafkaTimeoutError):
        sending.get(0)
