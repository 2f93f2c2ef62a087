"""The consumer: kafka-python's, in a group, with manual commits, its missing features added and its bugs fixed.

It relies on parts of kafka-python that are not public. ``fetch_progress`` and ``rebalance_listener`` add features;
``fetched``, ``assignor``, ``pacing``, ``rejoining``, ``resumption`` and ``lease`` fix or work around bugs.
``ingest/client/kafka_python.py`` names them, and the versions that have them.
"""

import functools
import logging
from typing import Any

import kafka
from kafka.structs import TopicPartition

from ingest.client.access import Servers
from ingest.client.connection import connect
from ingest.client.kafka_python import tell_version
from ingest.consumer.assignor import HonestAssignor
from ingest.consumer.fetch_progress import FetchProgress, track
from ingest.consumer.pacing import wait_at_least
from ingest.consumer.rebalance_listener import RebalanceListener
from ingest.consumer.rejoining import fetch_while_joining, finish_joins
from ingest.consumer.resumption import resume_parked
from ingest.record_batches.fetched import PartitionRecords
from ingest.record_batches.record_places import warm_up

log = logging.getLogger(__name__)

FETCH_MAX_WAIT_MS = 200
# Members learn of a rebalance by their heartbeats, and each takes two or three rounds.
HEARTBEAT_MS = 1_000
# What a fetch, a poll, a block of windows and a request with their labels cost is mostly by the piece, so pieces are
# large: what a fetch brings of a partition (more only where its next batch is larger), and what a poll gives before it
# takes no further partition. Of one partition a poll gives at most PARTITION_RECORDS: should all of them be refused,
# that is one piece of work, which nothing interrupts, and of 0.1 ms a record; in a transaction, too.
PARTITION_FETCH_BYTES = 2 << 20
PARTITION_RECORDS = 25_000
MAX_POLL_RECORDS = 40_000
# A group waits for so long for a member that it doesn't know to be dead: Kafka 4.4.0 has been seen to lose the sessions
# of those that died around its own crash. A worker whose polls stop for so long gives its partitions to others.
MAX_POLL_INTERVAL_MS = 60_000
# New partitions of the topic are noticed within this.
METADATA_MAX_AGE_MS = 30_000


def open_consumer(
    topic: str,
    listener: RebalanceListener,
    fetch_progress: FetchProgress,
    *,
    bootstrap_servers: Servers,
    group_id: str,
    client_id: str,
    session_timeout_s: float = 10.0,
) -> kafka.KafkaConsumer:
    """Subscribe to ``topic`` in a group, without automatic commits, from the earliest record.

    Raises IngestError when no broker answers or kafka-python is not a version that this works with.
    """
    assignor = HonestAssignor()
    consumer = connect(
        kafka.KafkaConsumer,
        bootstrap_servers,
        group_id=group_id,
        client_id=client_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        partition_assignment_strategy=[assignor],
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        heartbeat_interval_ms=min(HEARTBEAT_MS, int(1000 * session_timeout_s / 3)),
        session_timeout_ms=int(1000 * session_timeout_s),
        max_poll_interval_ms=max(MAX_POLL_INTERVAL_MS, int(1000 * session_timeout_s)),
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        max_poll_records=MAX_POLL_RECORDS,
    )
    tell_version()
    warm_up()  # a second where nothing is cached, which the first poll would wait for
    listener.consumer = consumer
    assignor.held = consumer._subscription.assigned_partitions
    consumer._fetcher.PartitionRecords = functools.partial(PartitionRecords, tell=fetch_progress.note_unreadable)
    resume_parked(consumer._fetcher)
    _take_whole_responses(consumer._fetcher)
    finish_joins(consumer._coordinator)
    fetch_while_joining(consumer._coordinator, consumer._subscription)
    wait_at_least(consumer._coordinator)
    track(consumer, fetch_progress)
    consumer.subscribe([topic], listener=listener)
    return consumer


def fetch_position(consumer: kafka.KafkaConsumer, partition: TopicPartition) -> int | None:
    """Return the next offset that ``poll`` will give, beyond control records; None while it isn't known.

    Unlike ``KafkaConsumer.position`` it never asks the broker.
    """
    state = consumer._subscription.assignment.get(partition)
    return None if state is None or state.position is None else int(state.position.offset)


def _take_whole_responses(fetcher: Any) -> None:
    """Don't cut a partition's response where a poll is nearly full: both pieces would cost as much as the whole.

    One that holds more than a poll may give of a partition ends the poll.
    """
    append = fetcher._append

    def append_some(drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:
        taken: int = append(drained, part, PARTITION_RECORDS, update_offsets)
        return taken if taken < PARTITION_RECORDS else max(taken, max_records)

    fetcher._append = append_some
