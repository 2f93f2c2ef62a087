"""Reads the latest records of a topic, for people who want to know what its producers send."""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import kafka
import numpy as np
from kafka.structs import TopicPartition

from ingest.client.access import Servers
from ingest.client.connection import connect
from ingest.consumer.consumer import fetch_position
from ingest.consumer.leaders import follow_leaders
from ingest.record_batches.fetched import PartitionRecords
from ingest.record_batches.record_columns import Records

POLL_MS = 500
TIMEOUT_MS = 10_000
# Reading ends if nothing has come for so long, or not all within so long.
SILENCE_S = 10.0
DEADLINE_S = 120.0
# For all partitions together. A record may have a megabyte, and readings of binary chunks take five times their bytes.
MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Latest:
    """What was found at the end of a topic.

    `records` has the partitions with any. `unanswered` are partitions that were not read to their end in time. `barren`
    are those whose last offsets hold no record: markers, aborted or compacted records. `undecodable` is the number of
    skipped records, which a worker skips, too. `whole` says whether these are all records of the topic.
    """

    records: Mapping[TopicPartition, Records]
    unanswered: list[TopicPartition]
    barren: list[TopicPartition]
    undecodable: int
    whole: bool


def latest_records(bootstrap_servers: Servers, topic: str, count: int, clock: Callable[[], float]) -> Latest:
    """Read the last committed records of each partition, `count` of all partitions together.

    Joins no group. Reads up to the log's end as of the call, and keeps the latest records that fit into MAX_BYTES.
    `clock` returns seconds.

    Raises IngestError if no broker answers, KafkaError if one refuses.
    """
    undecodable: list[int] = []
    with _reader(bootstrap_servers, lambda _, records: undecodable.append(records)) as consumer:
        left, whole = _begin(consumer, topic, count)
        kept = {partition: _Newest(MAX_BYTES // len(left)) for partition in left}
        began = heard = clock()
        while left and clock() - heard < SILENCE_S and clock() - began < DEADLINE_S:
            for partition, pieces in consumer.poll(timeout_ms=POLL_MS).items():
                heard = clock()
                for piece in pieces:
                    kept[partition].add(piece[: int(np.searchsorted(piece.offset, left.get(partition, 0)))])
            reached = {partition: fetch_position(consumer, partition) or 0 for partition in left}
            done = [partition for partition, end in left.items() if reached[partition] >= end]
            consumer.pause(*done)
            for partition in done:
                del left[partition]
    found = {partition: newest.joined() for partition, newest in sorted(kept.items()) if newest.pieces}
    barren = [partition for partition in sorted(kept) if partition not in found and partition not in left]
    whole = whole and not left and not any(newest.dropped for newest in kept.values())
    return Latest(found, sorted(left), barren, sum(undecodable), whole)


class _Newest:
    """The last pieces of a partition that fit into so many bytes; at least the last one."""

    def __init__(self, most: int) -> None:
        self.pieces: deque[Records] = deque()
        self.dropped = False
        self._most = most
        self._size = 0

    def add(self, piece: Records) -> None:
        if not len(piece):
            return
        compact = piece.compact()  # else one record would keep the whole response in memory
        self.pieces.append(compact)
        self._size += compact.nbytes
        while self._size > self._most and len(self.pieces) > 1:
            self._size -= self.pieces.popleft().nbytes
            self.dropped = True

    def joined(self) -> Records:
        return Records.join(list(self.pieces))


@contextmanager
def _reader(bootstrap_servers: Servers, tell: Callable[[TopicPartition, int], None]) -> Iterator[kafka.KafkaConsumer]:
    consumer = connect(
        kafka.KafkaConsumer,
        bootstrap_servers,
        client_id="stridecast-latest",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=40_000,
    )
    consumer._fetcher.PartitionRecords = functools.partial(PartitionRecords, tell=tell)
    follow_leaders(consumer._fetcher)
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False, timeout_ms=500)


def _begin(consumer: kafka.KafkaConsumer, topic: str, count: int) -> tuple[dict[TopicPartition, int], bool]:
    """Make the consumer read the last records of each partition.

    Return the ends of the partitions that have any, and whether each is read from its start.
    """
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    starts = consumer.beginning_offsets(partitions, timeout_ms=TIMEOUT_MS)
    ends = consumer.end_offsets(partitions, timeout_ms=TIMEOUT_MS)
    shares = shared_out(count, {source: ends[source] - starts[source] for source in partitions})
    consumer.assign(list(shares))
    for partition, share in shares.items():
        consumer.seek(partition, ends[partition] - share)
    whole = all(share == ends[partition] - starts[partition] for partition, share in shares.items())
    return {partition: int(ends[partition]) for partition in shares}, whole


def shared_out(count: int, held: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Divide `count` evenly among non-empty partitions; what small ones don't need goes to larger ones."""
    shares: dict[TopicPartition, int] = {}
    filled = sorted((number, source) for source, number in held.items() if number > 0)
    for place, (number, source) in enumerate(filled):
        shares[source] = min(number, -(-max(0, count - sum(shares.values())) // (len(filled) - place)) or 1)
    return shares
