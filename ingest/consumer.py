"""The consumer: kafka-python's, in a group, with manual commits, and two things it doesn't give by itself.

``Hearing`` tells up to which moment a partition has been heard: when the latest fetch was sent whose high
watermark has been processed since. Silence is judged against that, never against the clock alone.
``Handover`` finishes the partitions that a rebalance takes away before it lets them go.

Both lean on parts of kafka-python that are not public: the fetcher's response handler (called with the moment
of sending), the sleep of its IO loop, and the commit that is done when it is. So do ``fetched``, ``assignor``,
``pacing``, ``rejoining`` and ``resumption``, which mend it, and ``lease``; ``kafka_python`` says which versions have
them.
"""

import collections
import functools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import kafka
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import KafkaError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.access import Servers
from ingest.assignor import HonestAssignor
from ingest.connection import connect
from ingest.fetched import PartitionRecords
from ingest.kafka_python import refuse_other_versions
from ingest.pacing import wait_a_little
from ingest.record_places import warm_up
from ingest.rejoining import end_what_was_begun, read_on_while_joining
from ingest.resumption import take_turns

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
_REMEMBERED_FETCHES = 4096
_SETTLE_POLL_S = 0.005
_LAST_COMMIT_TIMEOUT_MS = 3_000
_LET_GO_S = 2.0


class Hearing:
    """Up to which moment each partition has been heard, on the clock of ``time.monotonic``.

    The consumer's IO thread notes, the worker's asks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetches: dict[TopicPartition, collections.deque[tuple[float, int]]] = {}
        self._high_watermarks: dict[TopicPartition, int] = {}
        self._heard_until: dict[TopicPartition, float] = {}
        self._last_answer: float | None = None
        self._unreadable = 0
        # Whose fetch was refused because its records have expired; who tells of it takes it out.
        self.expired: set[TopicPartition] = set()

    def note_response(
        self,
        partitions: Iterable[TopicPartition],
        sent_at: float,
        high_watermarks: Mapping[TopicPartition, int],
    ) -> None:
        """Take in one fetch response; called on the consumer's IO thread.

        A partition that was asked for but is absent from an incremental fetch session's response has the same
        high watermark as before (KIP-227).
        """
        with self._lock:
            self._last_answer = sent_at
            for partition in partitions:
                mark = high_watermarks.get(partition, self._high_watermarks.get(partition))
                if mark is not None and mark >= 0:
                    self._note(partition, sent_at, mark)

    def _note(self, partition: TopicPartition, sent_at: float, mark: int) -> None:
        self._high_watermarks[partition] = mark
        fetches = self._fetches.setdefault(partition, collections.deque(maxlen=_REMEMBERED_FETCHES))
        if fetches and fetches[-1][1] == mark:  # only the latest fetch of a high watermark is ever asked for
            fetches.pop()
        fetches.append((sent_at, mark))

    def heard_until(self, partition: TopicPartition, position: int) -> float:
        """Return when the latest fetch was sent whose high watermark is at or below ``position``."""
        with self._lock:
            fetches = self._fetches.get(partition)
            while fetches and fetches[0][1] <= position:
                self._heard_until[partition] = fetches.popleft()[0]
            return self._heard_until.get(partition, float("-inf"))

    @property
    def last_answer(self) -> float | None:
        """When the latest fetch was sent that Kafka has answered, for whatever partition; None before the first."""
        return self._last_answer

    def high_watermark(self, partition: TopicPartition) -> int | None:
        """Return the end of the log as the last response had it."""
        return self._high_watermarks.get(partition)

    def note_unreadable(self, _partition: TopicPartition, records: int) -> None:
        """Take in that records were passed over."""
        with self._lock:
            self._unreadable += records

    def take_unreadable(self) -> int:
        """Return how many records have been passed over since this was asked last."""
        with self._lock:
            taken, self._unreadable = self._unreadable, 0
            return taken

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop what was heard of partitions that have gone."""
        with self._lock:
            for partition in partitions:
                self.expired.discard(partition)
                for table in (self._fetches, self._high_watermarks, self._heard_until):
                    table.pop(partition, None)


class Handover(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """What happens when partitions come and go.

    The callbacks run on the consumer's IO thread while the worker's own thread waits in ``poll`` (only ``poll``
    and ``close`` drive a rebalance), so what they touch is not touched by anyone else.
    """

    def __init__(
        self,
        *,
        assigned: Callable[[set[TopicPartition]], None],
        settled: Callable[[set[TopicPartition]], bool],
        snapshots: Callable[[set[TopicPartition]], dict[TopicPartition, OffsetAndMetadata]],
        committed: Callable[[dict[TopicPartition, OffsetAndMetadata], object], None],
        released: Callable[[set[TopicPartition]], None],
        let_go: Callable[[set[TopicPartition]], bool],
        clock: Callable[[], float],
        deadline_s: float,
    ) -> None:
        self._assigned = assigned
        self._settled = settled
        self._snapshots = snapshots
        self._committed = committed
        self._released = released
        self._let_go = let_go
        self._clock = clock
        self.deadline_s = deadline_s
        self.consumer: Any = None  # set by open_consumer

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Pause the newcomers until the worker has found where to begin; nothing may be fetched before.

        They are given a position, whatever it is: each poll would ask for their commits first, and where a dead
        worker's transaction may yet change one, wait for its whole time, and the other partitions with it.
        """
        self.consumer.pause(*assigned)
        for partition in assigned:
            self.consumer.seek(partition, 0)
        self._assigned(set(assigned))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Wait for what is in flight, commit it while we still may, then let go."""
        try:
            deadline = self._clock() + self.deadline_s
            while not self._settled(revoked) and self._clock() < deadline:
                await self.consumer._net.sleep(_SETTLE_POLL_S)
            await self._commit(self._snapshots(revoked))
        finally:  # whatever failed, another worker has them next
            self._released(revoked)
        await self._await_letting_go(revoked)

    async def _commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit, and be done only when that is.

        ``commit_async`` won't do: where the coordinator has first to be found, its future is done with the finding,
        and the commit that follows could overtake those of the partition's next owner.
        """
        if not offsets:
            return
        try:
            await self.consumer._coordinator._commit_offsets_sync_async(offsets, _LAST_COMMIT_TIMEOUT_MS)
        except KafkaError as error:
            self._committed(offsets, error)
        else:
            self._committed(offsets, None)

    async def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        """Let go without a commit: the group has already given them to someone else."""
        log.warning("lost %s: another worker has them", _names(lost))
        self._released(lost)
        await self._await_letting_go(lost)

    async def _await_letting_go(self, gone: set[TopicPartition]) -> None:
        """Wait until no open transaction holds anything of what is gone: what could not be finished is dropped."""
        deadline = self._clock() + min(self.deadline_s, _LET_GO_S)
        while not self._let_go(gone) and self._clock() < deadline:
            await self.consumer._net.sleep(_SETTLE_POLL_S)


def open_consumer(
    topic: str,
    handover: Handover,
    hearing: Hearing,
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
    refuse_other_versions(consumer)
    warm_up()  # a second where nothing is cached, which the first poll would wait for
    handover.consumer = consumer
    assignor.held = consumer._subscription.assigned_partitions
    consumer._fetcher.PartitionRecords = functools.partial(PartitionRecords, tell=hearing.note_unreadable)
    take_turns(consumer._fetcher)
    _take_whole_responses(consumer._fetcher)
    end_what_was_begun(consumer._coordinator)
    read_on_while_joining(consumer._coordinator, consumer._subscription)
    wait_a_little(consumer._coordinator)
    _listen(consumer, hearing)
    consumer.subscribe([topic], listener=handover)
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


def _listen(consumer: kafka.KafkaConsumer, hearing: Hearing) -> None:
    fetcher = consumer._fetcher
    handle = fetcher._handle_fetch_response

    def handle_and_note(
        node_id: int, fetch_offsets: Mapping[TopicPartition, int], sent_at: float, response: Any
    ) -> None:
        high_watermarks = {
            TopicPartition(topic.topic, partition.partition_index): partition.high_watermark
            for topic in response.responses
            for partition in topic.partitions
        }
        hearing.expired |= {
            TopicPartition(topic.topic, partition.partition_index)
            for topic in response.responses
            for partition in topic.partitions
            if partition.error_code == OffsetOutOfRangeError.errno
        }
        handle(node_id, fetch_offsets, sent_at, response)
        if response.error_code == 0:
            # A client over its quota is answered at once and with nothing: what is absent then may well have changed.
            told = high_watermarks if response.throttle_time_ms else fetch_offsets
            hearing.note_response(told, sent_at, high_watermarks)

    fetcher._handle_fetch_response = handle_and_note


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(sorted(f"{partition.topic}[{partition.partition}]" for partition in partitions))
