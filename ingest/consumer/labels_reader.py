"""Reads back published labels and dead letters, read-committed, up to the end of their topics when requested.

The end is requested read-uncommitted: the markers of a transaction's offsets can land before the markers of its labels,
so labels that a commit relies on may still look open.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import kafka
from kafka.errors import KafkaTimeoutError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.client.access import Servers
from ingest.client.connection import connect
from ingest.consumer.consumer import fetch_position
from ingest.consumer.leaders import follow_leaders
from ingest.contract import SOURCE_OFFSET_HEADER, SOURCE_PARTITION_HEADER, SOURCE_TOPIC_HEADER
from ingest.record_batches.fetched import PartitionRecords
from ingest.record_batches.record_columns import FetchedRecord, Records

TIMEOUT_MS = 3_000
# Timeout of reading a commit that an open transaction may change. It is short, because the reader's thread can't do
# anything else meanwhile; the commit is requested again later.
COMMIT_TIMEOUT_MS = 500
MAX_POLL_RECORDS = 4000
# Fetch size of the consumer that reads one record's timestamp: the first batch comes whole, and no other is wanted.
ONE_BATCH_BYTES = 1


class LabelsReader:
    """Two consumers that don't join a group; all methods are called by one thread.

    Its methods raise KafkaError; ``retriable`` says whether another try may help.
    """

    def __init__(self, *, bootstrap_servers: Servers, group_id: str, client_id: str) -> None:
        """Raise IngestError if no broker answers."""
        shared = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "max_poll_records": MAX_POLL_RECORDS}
        with ExitStack() as half_made:
            self._committed: kafka.KafkaConsumer = connect(
                kafka.KafkaConsumer,
                bootstrap_servers,
                group_id=group_id,
                client_id=f"{client_id}-rereading",
                isolation_level="read_committed",
                **shared,
            )
            half_made.callback(_close, self._committed)
            self._uncommitted: kafka.KafkaConsumer = connect(
                kafka.KafkaConsumer,
                bootstrap_servers,
                client_id=f"{client_id}-ends",
                max_partition_fetch_bytes=ONE_BATCH_BYTES,
                **shared,
            )
            half_made.pop_all()
        for consumer in (self._committed, self._uncommitted):
            consumer._fetcher.PartitionRecords = PartitionRecords
            follow_leaders(consumer._fetcher)

    def committed(self, source: TopicPartition) -> OffsetAndMetadata | None:
        """Return the group's commit; times out while a transaction that may change it is open (KIP-447)."""
        try:
            return self._committed.committed(source, metadata=True, timeout_ms=COMMIT_TIMEOUT_MS)
        except KafkaTimeoutError as error:
            self._committed._coordinator.coordinator_id = None  # looked for anew: it may stand still
            raise KafkaTimeoutError("a transaction is open that may change it, or no coordinator answers") from error

    def look_at_topics(self) -> None:
        """Update the metadata of topics and partitions; kafka-python does so at most once in 100 ms."""
        self._uncommitted.topics()

    def partitions_of(self, topic: str) -> int:
        """Return how many partitions a topic has by the last metadata; 0 if there is no such topic."""
        return len(self._uncommitted.partitions_for_topic(topic) or ())

    def bounds(
        self, partitions: Collection[TopicPartition], *, committed: bool
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Return each partition's first and next offset; the next one after committed records only, or after all."""
        if not partitions:
            return {}
        consumer = self._committed if committed else self._uncommitted
        with self._looking_again():
            starts = self._uncommitted.beginning_offsets(list(partitions), timeout_ms=TIMEOUT_MS)
            ends = consumer.end_offsets(list(partitions), timeout_ms=TIMEOUT_MS)
        return {partition: (int(starts[partition]), int(ends[partition])) for partition in partitions}

    def time_of(self, source: TopicPartition, offset: int) -> int | None:
        """Return the Kafka timestamp, in epoch ms, of the first record from an offset on; None if there is none.

        Raises KafkaTimeoutError if there should be one, but none came in time.
        """
        end = self.bounds([source], committed=False)[source][1]
        self._uncommitted.assign([source])
        self._uncommitted.seek(source, offset)
        try:
            records = self._uncommitted.poll(timeout_ms=TIMEOUT_MS, max_records=1).get(source)
            reached = fetch_position(self._uncommitted, source) or 0
        finally:
            self._uncommitted.unsubscribe()
        if records:
            return int(records[0].timestamp[0])
        if max(offset, reached) < end:
            raise KafkaTimeoutError(f"no record of {source.topic}[{source.partition}] came in {TIMEOUT_MS} ms")
        return None

    def offsets_at(self, partitions: Collection[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int | None]:
        """Return the first offset of each partition whose record has this timestamp or a later one; None if none has.

        A record without a timestamp counts as having -1.
        """
        times = dict.fromkeys(partitions, max(0, timestamp_ms))
        with self._looking_again():
            found = self._uncommitted.offsets_for_times(times, timeout_ms=TIMEOUT_MS)
        return {partition: None if at is None else int(at.offset) for partition, at in found.items()}

    def read(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions from now on, each from its position."""
        self._committed.assign(list(positions))
        for partition, position in positions.items():
            self._committed.seek(partition, position)

    def poll(self, timeout_ms: int) -> tuple[dict[TopicPartition, list[FetchedRecord]], dict[TopicPartition, int]]:
        """Return new records, and the positions reached, past markers and aborted records."""
        polled = self._committed.poll(timeout_ms=timeout_ms)
        records = {partition: list(Records.join(pieces)) for partition, pieces in polled.items()}
        reached = {partition: fetch_position(self._committed, partition) for partition in self._committed.assignment()}
        return records, {partition: position for partition, position in reached.items() if position is not None}

    @contextmanager
    def _looking_again(self) -> Iterator[None]:
        """Have the metadata updated before the next try: a leader that doesn't answer may have been replaced."""
        try:
            yield
        except KafkaTimeoutError:
            for consumer in (self._committed, self._uncommitted):
                consumer._fetcher._manager.cluster.request_update()
            raise

    def close(self) -> None:
        """Close both consumers; nothing can be lost."""
        _close(self._committed)
        _close(self._uncommitted)


def _close(consumer: kafka.KafkaConsumer) -> None:
    consumer.close(autocommit=False, timeout_ms=500)


def source_of(record: Any) -> tuple[int, int] | None:
    """Return the input partition and offset in the headers of a label or a dead letter; None without them.

    The last header of a name counts, as in Kafka's ``lastHeader``: a rejected record may itself be a dead letter.
    """
    partition = offset = None
    for name, value in record.headers:
        if name == SOURCE_PARTITION_HEADER:
            partition = _number(value)
        elif name == SOURCE_OFFSET_HEADER:
            offset = _number(value)
    return None if partition is None or offset is None else (partition, offset)


def topic_of(letter: Any) -> str | None:
    """Return the input topic in a dead letter's headers; None without it."""
    topics = [value for name, value in letter.headers if name == SOURCE_TOPIC_HEADER and value is not None]
    return topics[-1].decode(errors="replace") if topics else None


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and len(value) <= 19 and value.isdigit() else None
