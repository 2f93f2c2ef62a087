"""The latest records of a topic, for people who want to know what its producers send."""

from collections.abc import Iterator
from contextlib import contextmanager

import kafka
from kafka.structs import TopicPartition

from ingest.access import Servers
from ingest.connection import connect
from ingest.consumer import fetch_position
from ingest.fetched import PartitionRecords
from ingest.record_columns import Records

POLL_MS = 500
SILENT_POLLS = 20
TIMEOUT_MS = 10_000
# Records may be of a megabyte each.
MAX_BYTES = 256 << 20


def latest_records(bootstrap_servers: Servers, topic: str, count: int) -> dict[TopicPartition, Records]:
    """Read the last records of each partition, committed ones, `count` of all partitions together, or a few more.

    No group is joined. They are those that are in the log when it is asked; fewer where that is larger than MAX_BYTES,
    or nothing comes for ten seconds. Partitions that hold nothing are left out.

    Raises IngestError when no broker answers, KafkaError when one refuses.
    """
    with _reader(bootstrap_servers) as consumer:
        left = _begin(consumer, topic, count)
        found: dict[TopicPartition, list[Records]] = {}
        size = silent = 0
        while left and size < MAX_BYTES and silent < SILENT_POLLS:
            polled = consumer.poll(timeout_ms=POLL_MS)
            silent = 0 if polled else silent + 1
            for partition, pieces in polled.items():
                found.setdefault(partition, []).extend(pieces)
                size += sum(end - begin for begin, end in (piece.span for piece in pieces))
            done = [partition for partition, end in left.items() if (fetch_position(consumer, partition) or 0) >= end]
            consumer.pause(*done)
            for partition in done:
                del left[partition]
    return {partition: Records.join(pieces) for partition, pieces in sorted(found.items())}


@contextmanager
def _reader(bootstrap_servers: Servers) -> Iterator[kafka.KafkaConsumer]:
    consumer = connect(
        kafka.KafkaConsumer,
        bootstrap_servers,
        client_id="stridecast-latest",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=40_000,
    )
    consumer._fetcher.PartitionRecords = PartitionRecords
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False, timeout_ms=500)


def _begin(consumer: kafka.KafkaConsumer, topic: str, count: int) -> dict[TopicPartition, int]:
    """Have the consumer read the last records of each partition; return where those that hold any end."""
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    starts = consumer.beginning_offsets(partitions, timeout_ms=TIMEOUT_MS)
    ends = consumer.end_offsets(partitions, timeout_ms=TIMEOUT_MS)
    filled = [partition for partition in partitions if ends[partition] > starts[partition]]
    consumer.assign(filled)
    for partition in filled:
        consumer.seek(partition, max(starts[partition], ends[partition] - -(-count // len(filled))))
    return {partition: int(ends[partition]) for partition in filled}
