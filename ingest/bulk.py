"""A producer that sends records by the hundred: no object, call or future for each record.

`KafkaProducer.send` takes 40 microseconds a record. Here whole pieces of records go into kafka-python's accumulator at
once, as their bodies (``ingest/bodies.py``), in kafka-python's own batches but for their content. All else is left to
kafka-python: sequence numbers, transactions, retries, timeouts, and the splitting of batches that are too large for a
topic. While a batch waits for its turn (one of a partition is in flight at any time), the next pieces join it.

It relies on undocumented parts of kafka-python (3.0.12); `refuse_without_parts` checks for them.
"""

import bisect
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import kafka
import numpy as np
from kafka.errors import IllegalStateError, KafkaTimeoutError
from kafka.producer.future import FutureProduceResult, FutureRecordMetadata
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.transaction_manager import TransactionManager
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder
from kafka.structs import TopicPartition

from ingest.bodies import Bodies
from ingest.kafka_python import refuse_lacking
from ingest.label_kernel import BYTES_OF_A_HEAD, write_records

# Bytes of bodies in a batch, five or six hundred labels. Well below what a topic takes by default (1 MiB).
BATCH_BYTES = 256 * 1024
_HEADER_BYTES = DefaultRecordBatchBuilder.HEADER_STRUCT.size
# How long to wait for metadata if a partition isn't known: it may have been added since the last update, which
# kafka-python makes every five minutes.
LOOK_S = 1.0
_UNKNOWN = -1  # the offset of a duplicate batch: the broker may no longer know where the first one lies


class Sending(FutureProduceResult):  # type: ignore[misc]
    """The future of a send: done when Kafka has all its records, with the last one's offset, -1 if that isn't known.

    It fails, with the first error, when all of its records have ended and one or more have failed.
    """

    __slots__ = ("_counting", "_error", "_last_offset", "_left")

    def __init__(self, partition: TopicPartition, records: int) -> None:
        super().__init__(partition)
        self._counting = threading.Lock()
        self._left = records
        self._last_offset = _UNKNOWN
        self._error: Exception | None = None

    def get(self, timeout: float | None = None) -> int:
        """Wait up to so many seconds for its end; return the last record's offset, or raise its error."""
        if not self.wait(timeout):
            raise KafkaTimeoutError(f"no answer for {timeout} s")
        if self.exception is not None:
            raise self.exception
        return int(self.value)

    def acknowledged(self, records: int, last_offset: int) -> None:
        """Record that Kafka has some of the records."""
        self._end(records, last_offset, None)

    def refused(self, records: int, error: Exception) -> None:
        """Record that some of the records failed."""
        self._end(records, _UNKNOWN, error)

    def _end(self, records: int, last_offset: int, error: Exception | None) -> None:
        with self._counting:
            self._left -= records
            self._last_offset = max(self._last_offset, last_offset)
            self._error = self._error or error
            if self._left:
                return
        if self._error is None:
            self.success(self._last_offset)
        else:
            self.failure(self._error)


class BulkProducer(kafka.KafkaProducer):  # type: ignore[misc]
    """A KafkaProducer that also takes whole pieces of records; uncompressed."""

    _wakes = True

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Wake the sender once for all pieces sent in the body, so that they go in one request; for one thread."""
        self._wakes = False
        try:
            yield
        finally:
            self._wakes = True
            self._sender.wakeup()

    def knows(self, topic: str) -> bool:
        """Return whether a topic exists, by known metadata; if not, request its metadata, without waiting."""
        if self._metadata.partitions_for_topic(topic):
            return True
        self.look_for(topic)
        return False

    def look_for(self, topic: str) -> None:
        """Request the metadata of a topic, without waiting."""
        self._sender.add_topic(topic)
        self._metadata.request_update()

    def send_bodies(self, partition: TopicPartition, bodies: Bodies, timestamp_ms: int) -> Sending:
        """Send records to a partition, in their order and after all that was sent to it before.

        Blocks only to update the topic's metadata, if the partition isn't known. Raises as `send` does: KafkaError, or
        ValueError for a partition that the topic doesn't have.
        """
        if self._closed:
            raise IllegalStateError("the producer is closed")
        largest = int(np.diff(bodies.begins).max()) if len(bodies) else 0
        self._ensure_valid_record_size(largest + BYTES_OF_A_HEAD + _HEADER_BYTES)
        known = self._metadata.partitions_for_topic(partition.topic)
        if known is None:
            self._wait_on_metadata(partition.topic, self.config["max_block_ms"])
        elif partition.partition not in known:
            self._look_again()
        if self._partition(partition.topic, partition.partition, None, None, None, None) is None:
            raise ValueError(f"there is no topic {partition.topic}")
        manager = self._transaction_manager
        if manager is not None and manager.is_transactional():
            manager.maybe_add_partition_to_transaction(partition)
        sending = Sending(partition, len(bodies))
        if not len(bodies):
            return sending.success(_UNKNOWN)  # type: ignore[no-any-return]
        self._append(partition, bodies, timestamp_ms, sending)
        if self._wakes:
            self._sender.wakeup()
        return sending

    def _look_again(self) -> None:
        """Update the metadata of all topics, and wait for it, but not for long."""
        answered = threading.Event()
        self._metadata.request_update().add_both(lambda *_: answered.set())
        self._sender.wakeup()
        answered.wait(LOOK_S)

    def _append(self, partition: TopicPartition, bodies: Bodies, timestamp_ms: int, sending: Sending) -> None:
        """Add records to the partition's last batch, if it has room, and to new ones after it."""
        accumulator = self._accumulator
        accumulator._appends_in_progress.increment()
        try:
            with accumulator._tp_lock(partition):
                if accumulator._closed:
                    raise IllegalStateError("the producer is closed")
                waiting = accumulator._batches[partition]
                row = 0
                if waiting and isinstance(waiting[-1].records, BulkRecords):
                    row = waiting[-1].records.take(bodies, row, timestamp_ms, sending)
                while row < len(bodies):
                    records = BulkRecords()
                    row = records.take(bodies, row, timestamp_ms, sending)
                    batch = ProducerBatch(partition, records)
                    batch.produce_future.add_callback(records.answered)
                    batch._record_futures = _FuturesOfASplit(batch.produce_future, records)
                    waiting.append(batch)
                    accumulator._incomplete.add(batch)
        finally:
            accumulator._appends_in_progress.decrement()


class _Stretch:
    """Records `start` to `stop` of a piece, which are in their batch from index `first` on."""

    __slots__ = ("bodies", "first", "sending", "start", "stop", "timestamp_ms")

    def __init__(self, bodies: Bodies, start: int, stop: int, first: int, timestamp_ms: int, sending: Sending) -> None:
        self.bodies = bodies
        self.start = start
        self.stop = stop
        self.first = first
        self.timestamp_ms = timestamp_ms
        self.sending = sending

    def __len__(self) -> int:
        return self.stop - self.start


class BulkRecords:
    """The content of a batch, instead of kafka-python's `MemoryRecordsBuilder`; guarded by the partition's lock."""

    __slots__ = ("_buffer", "_bytes", "_count", "_is_transactional", "_stretches", "base_sequence", "producer_epoch",
                 "producer_id")  # fmt: skip

    def __init__(self) -> None:
        self.producer_id = self.producer_epoch = self.base_sequence = -1
        self._is_transactional = False
        self._stretches: list[_Stretch] = []
        self._count = 0
        self._bytes = 0  # of bodies
        self._buffer: memoryview | None = None  # when it is closed

    def take(self, bodies: Bodies, row: int, timestamp_ms: int, sending: Sending) -> int:
        """Add records from a row on while there is room, at least the first; return the row after them."""
        if self._buffer is not None:
            return row
        begin = int(bodies.begins[row])
        stop = int(np.searchsorted(bodies.begins, begin + BATCH_BYTES - self._bytes, "right")) - 1
        if not self._count:
            stop = max(stop, row + 1)
        if stop <= row:
            return row
        self._stretches.append(_Stretch(bodies, row, stop, self._count, timestamp_ms, sending))
        self._count += stop - row
        self._bytes += int(bodies.begins[stop]) - begin
        return stop

    def answered(self, result: tuple[int | None, int | None, Any]) -> None:
        """Record how the batch ended, as kafka-python resolves the futures of its records."""
        base_offset, _, error_of = result
        for stretch in self._stretches:
            if error_of is not None:
                stretch.sending.refused(len(stretch), error_of(stretch.first))
            elif base_offset is None or base_offset < 0:
                stretch.sending.acknowledged(len(stretch), _UNKNOWN)
            else:
                stretch.sending.acknowledged(len(stretch), base_offset + stretch.first + len(stretch) - 1)

    def sending_of(self, index: int) -> Sending:
        """Return the send that a record of the batch belongs to."""
        return self._stretches[bisect.bisect(self._stretches, index, key=lambda stretch: stretch.first) - 1].sending

    # -- called by kafka-python

    def append(self, timestamp: int | None, key: Any, value: Any, headers: Any = None) -> None:
        """Refuse a single record, which then begins a batch of its own after this one."""

    def set_producer_state(
        self, producer_id: int, producer_epoch: int, base_sequence: int, is_transactional: bool
    ) -> None:
        """Set the batch's sequence number, which it keeps when it is sent again."""
        if self._buffer is not None:
            raise IllegalStateError("a batch that has left keeps its sequence number")
        self.producer_id, self.producer_epoch, self.base_sequence = producer_id, producer_epoch, base_sequence
        self._is_transactional = is_transactional

    def close(self) -> None:
        """Encode the batch, which takes no more records from now on."""
        if self._buffer is None:
            self._buffer = self._write()

    def _write(self) -> memoryview:
        batch = np.empty(self.size_in_bytes(), np.uint8)
        times = [stretch.timestamp_ms for stretch in self._stretches]
        end = _HEADER_BYTES
        for stretch in self._stretches:
            bodies, delta = stretch.bodies, stretch.timestamp_ms - times[0]
            place = (stretch.start, stretch.stop, stretch.first, delta)
            end = write_records(batch, end, bodies.content, bodies.begins, *place)
        header = DefaultRecordBatchBuilder(
            2, 0, self._is_transactional, self.producer_id, self.producer_epoch, self.base_sequence, 0
        )
        header._buffer = batch.data[:end]
        header._first_timestamp, header._max_timestamp = times[0], max(times)
        header._last_offset, header._num_records = self._count - 1, self._count
        header.write_header()
        return header._buffer  # type: ignore[no-any-return]

    def buffer(self) -> memoryview:
        """Return the encoded batch."""
        assert self._buffer is not None
        return self._buffer

    def records(self) -> MemoryRecords:
        """Return the batch as kafka-python reads it."""
        return MemoryRecords(self.buffer())

    def size_in_bytes(self) -> int:
        """Return the batch's size in bytes; before it is closed, an upper bound."""
        if self._buffer is not None:
            return len(self._buffer)
        return int(_HEADER_BYTES + self._bytes + self._count * BYTES_OF_A_HEAD)

    def compression_rate(self) -> float:
        """Return 1: nothing is compressed."""
        return 1.0

    def is_full(self) -> bool:
        """Return that it may be sent at once, though more records may join it until then."""
        return True

    def next_offset(self) -> int:
        """Return the number of records."""
        return self._count


class _FuturesOfASplit:
    """The futures of a batch's records, made only when kafka-python splits the batch.

    It binds them to the smaller batches, and never resolves the whole one.
    """

    def __init__(self, produce_future: FutureProduceResult, records: BulkRecords) -> None:
        self._produce_future = produce_future
        self._records = records

    def __len__(self) -> int:
        return self._records.next_offset()

    def __getitem__(self, index: int) -> FutureRecordMetadata:
        sending = self._records.sending_of(index)
        future = FutureRecordMetadata(self._produce_future, index, None, None, -1, -1, -1)
        future.add_callback(lambda metadata: sending.acknowledged(1, metadata.offset))
        future.add_errback(lambda error: sending.refused(1, error))
        return future


def refuse_without_parts(producer: kafka.KafkaProducer) -> None:
    """Raise IngestError for a kafka-python without the parts that this file relies on."""
    batch = ProducerBatch(TopicPartition("", 0), BulkRecords())
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 0)
    leant_on = [
        (producer, "_closed"),
        (producer, "_metadata"),
        (producer, "_sender"),
        (producer, "_transaction_manager"),
        (producer, "_ensure_valid_record_size"),
        (producer, "_partition"),
        (producer, "_wait_on_metadata"),
        (producer._sender, "_record_exceptions_fn"),
        (producer._sender, "_client"),
        (producer._sender, "_dispatch_error"),
        (producer._sender, "_can_split"),
        (producer._sender._client, "await_ready"),
        (producer._sender._client, "poll"),
        (producer._accumulator, "_appends_in_progress"),
        (producer._accumulator, "_batches"),
        (producer._accumulator, "_closed"),
        (producer._accumulator, "_incomplete"),
        (producer._accumulator, "_tp_lock"),
        (batch, "produce_future"),
        (batch, "_record_futures"),
        (FutureRecordMetadata, "rebind"),
        *(
            (builder, name)
            for name in ("_buffer", "_first_timestamp", "_max_timestamp", "_last_offset", "_num_records")
        ),
        *((TransactionManager, name) for name in ("reset_producer_id", "transition_to_fatal_error")),
        *((BulkRecords, name) for name in dir(MemoryRecordsBuilder) if not name.startswith("_") and name != "skip"),
    ]
    refuse_lacking(leant_on)
