"""The worker: records in, labels out, and the offset committed when Kafka has acknowledged them.

One thread, the worker's own, polls, decodes and cuts windows, and is the only one that touches partitions and
their ledgers. The core's thread classifies; the publisher's thread says labels. What differs between kinds of
worker is in a ``Kind``: see ``service/activity_worker.py``.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import kafka
from kafka.errors import KafkaError
from kafka.structs import MemberState, OffsetAndMetadata, TopicPartition

from inference.core import Core, CoreError
from ingest import snapshot
from ingest.consumer import Handover, Hearing, fetch_position, open_consumer
from ingest.producer import open_producer
from service import recovery
from service.ledger import Ledger, Point
from service.metrics import PartitionReading, WorkerMetrics
from service.publisher import Block, Message, Publisher, Say, Ticket
from service.settings import Settings

log = logging.getLogger(__name__)

POLL_S = 0.1
BLOCKED_POLL_S = 0.01
SILENCE_CHECK_S = 0.1
FINISH_POLL_S = 0.005
RETRY_S = 1.0
LOOKUP_TIMEOUT_MS = 3_000
HANDOVER_S = 5.0
# For closing each client of a worker that has not begun: it holds nothing that could be lost.
GIVE_UP_S = 0.5
LIVE_WITHIN_S = 15.0
# A fetch is answered within FETCH_MAX_WAIT_MS, records or none.
NO_ANSWER_S = 5.0
# Labels on their way to Kafka, in queues' worth of frames, beyond which reading pauses.
OWED_QUEUES = 4


class WorkerError(Exception):
    """The worker can't go on; the text says why."""


class Stream(Protocol):
    """One partition's way from records to frames; made anew for each assignment."""

    def push(self, records: Sequence[Any], processed_at: float, *, mute: bool) -> tuple[list[Message], Iterator[Block]]:
        """Take records in; return dead letters, and the blocks of windows that close, cut as they are asked for.

        ``mute`` marks records that are read again only to rebuild what was open: they are not counted.
        """

    def fall_silent(self, heard_until: float) -> Iterator[Block]:
        """Close the windows of devices that have been silent up to ``heard_until``."""

    def rewind_to(self, position: int) -> int:
        """Return the offset of the oldest record that an open window holds; ``position`` where there is none."""

    def __len__(self) -> int:
        """Return how many devices are active."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What one kind of worker does differently from another."""

    name: str
    input_topic: str
    output_topic: str
    dead_letter_topic: str
    open_stream: Callable[[TopicPartition], Stream]
    say: Say


@dataclass(slots=True, eq=False)
class Partition:
    """An assigned partition. Its object stands for this assignment: what outlives it is dropped."""

    source: TopicPartition
    stream: Stream
    position: int
    live_from: int
    ledger: Ledger = field(default_factory=Ledger)
    alive: bool = True
    work: Iterator[Block] | None = None
    block: Block | None = None  # cut, but the core had no room for it yet
    paused: bool = False
    silence_checked_at: float = float("-inf")
    rewind: int = 0
    progress_ms: int | None = None

    def __post_init__(self) -> None:
        self.rewind = self.position

    @property
    def at_boundary(self) -> bool:
        """Whether every record before the position has been cut, so that a snapshot can be taken."""
        return self.work is None and self.position >= self.live_from

    def seal(self) -> None:
        """Take a snapshot here."""
        self.rewind = self.stream.rewind_to(self.position)
        self.ledger.seal(Point(self.position, self.rewind))


class Worker:
    """Runs one kind of worker until it is told to stop.

    Raises IngestError when Kafka can't be reached at the start, WorkerError when a thread has died.
    """

    def __init__(self, kind: Kind, settings: Settings, core: Core, metrics: WorkerMetrics) -> None:
        self.kind = kind
        self.metrics = metrics
        self._settings = settings
        self._core = core
        self._hearing = Hearing()
        self._partitions: dict[TopicPartition, Partition] = {}
        self._newcomers: set[TopicPartition] = set()
        self._retry_at = 0.0
        self._commit_at = 0.0
        self._last_poll = time.monotonic()
        self._fetching_since = time.monotonic()
        self._unanswered_since: float | None = None  # set while Kafka is known to be away
        kafka_settings = settings.kafka
        client_id = f"stridecast-{kind.name}"
        self._handover = Handover(
            assigned=self._assigned,
            settled=self._settled,
            snapshots=self._snapshots,
            committed=self._committed,
            released=self._released,
            clock=time.monotonic,
            deadline_s=HANDOVER_S,
        )
        servers = kafka_settings.bootstrap_servers
        with contextlib.ExitStack() as opened:  # whatever ends the start, a signal too, closes what is open by then
            self._producer = open_producer(bootstrap_servers=servers, client_id=client_id)
            opened.callback(_close, self._producer.close, timeout=GIVE_UP_S)
            self._dead_letter_producer = open_producer(
                bootstrap_servers=servers, client_id=f"{client_id}-dead-letters", idempotent=False
            )
            opened.callback(_close, self._dead_letter_producer.close, timeout=GIVE_UP_S)
            self._consumer: kafka.KafkaConsumer = open_consumer(
                kind.input_topic,
                self._handover,
                self._hearing,
                bootstrap_servers=servers,
                group_id=kafka_settings.group_id,
                client_id=client_id,
            )
            opened.callback(_close, self._consumer.close, autocommit=False, timeout_ms=int(1000 * GIVE_UP_S))
            self._refuse_missing_topics()
            opened.pop_all()
        self._publisher = Publisher(
            self._producer,
            self._dead_letter_producer,
            kind.output_topic,
            kind.say,
            core.model.bundle.manifest.labels,
            metrics,
        )
        self._read_at_scrape()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set, then finish what is in flight, commit and leave the group."""
        self._publisher.start()
        log.info("worker started: %s -> %s", self.kind.input_topic, self.kind.output_topic)
        try:
            while not stop.is_set():
                self._turn()
            log.info("stopping: finishing what is in flight")
        finally:
            self._finish()

    @property
    def joined(self) -> bool:
        """Whether the group has been joined; holding no partition is fine."""
        return bool(self._consumer.group_metadata().generation_id >= 0)

    @property
    def live(self) -> bool:
        """Whether the poll loop turns and no thread has died."""
        fresh = time.monotonic() - self._last_poll < LIVE_WITHIN_S
        return fresh and self._publisher.error is None and self._core.error is None

    def _turn(self) -> None:
        self._look_after_threads()
        self._settle()
        blocked = not all([self._advance(partition) for partition in self._partitions.values()])
        polled = self._poll(BLOCKED_POLL_S if blocked else POLL_S)
        self._last_poll = time.monotonic()
        self.metrics.last_poll.set(time.time())
        for source, records in polled.items():
            partition = self._partitions.get(source)
            if partition is None:
                continue
            if records[0].offset < partition.position:
                # An unclean election cut the log off, or the topic was made anew: kafka-python goes back by itself.
                self._start_over(partition, f"its log goes back to {records[0].offset} from {partition.position}")
            else:
                self._take(partition, records)
        for partition in self._partitions.values():
            position = fetch_position(self._consumer, partition.source)
            if position is not None:
                partition.position = max(partition.position, position)
        if self._newcomers and self._last_poll >= self._retry_at:
            self._welcome()
        self._notice_silence()
        self._notice_absence()
        self._commit()

    def _poll(self, wait_s: float) -> dict[TopicPartition, list[Any]]:
        try:
            return self._consumer.poll(timeout_ms=int(1000 * wait_s))  # type: ignore[no-any-return]
        except KafkaError as error:
            self._look_after_threads()  # a rebalance's callback may have failed for their failure
            if not error.retriable:
                raise WorkerError(f"can't read {self.kind.input_topic}: {error}") from error
            log.warning("reading failed, and will be tried again: %s", error)
            self._seek_back()
            return {}

    def _seek_back(self) -> None:
        """Go back to what has been taken: a poll that fails may have moved on past records that it never gave."""
        assigned = self._consumer.assignment()
        for partition in self._partitions.values():
            if partition.source in assigned:
                self._consumer.seek(partition.source, partition.position)

    # -- records to frames

    def _take(self, partition: Partition, records: Sequence[Any]) -> None:
        now = time.monotonic()
        live_at = next(
            (row for row, record in enumerate(records) if record.offset >= partition.live_from), len(records)
        )
        if live_at:
            _, closed_before = partition.stream.push(records[:live_at], now, mute=True)
            for _ in closed_before:
                pass
            self.metrics.recovered.inc(live_at)
        if live_at < len(records):
            live = records[live_at:]
            self.metrics.records[self.kind.input_topic].inc(len(live))
            partition.progress_ms = live[-1].timestamp
            dead_letters, partition.work = partition.stream.push(live, now, mute=False)
            segment = partition.ledger.promise(len(dead_letters))
            for message in dead_letters:
                self._publisher.send_dead_letter(message, partition, segment)
            self._advance(partition)

    def _advance(self, partition: Partition) -> bool:
        """Hand the partition's frames to the core; False, and the partition paused, if there is no room for more."""
        while partition.work is not None:
            if partition.block is None:
                partition.block = next(partition.work, None)
            if partition.block is None:
                partition.work = None
            elif self._submit(partition, partition.block):
                partition.block = None
            else:
                self._pause(partition, True)
                return False
        full = self._owes_much()  # dead letters alone may pile up too
        self._pause(partition, full)
        return not full

    def _submit(self, partition: Partition, block: Block) -> bool:
        if self._owes_much():
            return False
        rows = len(block.frames)
        segment = partition.ledger.promise(rows)
        with contextlib.suppress(CoreError):  # it has died, and the next turn ends the worker for it
            if self._core.submit(block.frames, Ticket(block, partition, segment, self._publisher.put)):
                return True
        segment.owed -= rows
        return False

    def _pause(self, partition: Partition, pause: bool) -> None:
        if pause == partition.paused:
            return
        partition.paused = pause
        if partition.source in self._consumer.assignment():  # it may be on its way out
            (self._consumer.pause if pause else self._consumer.resume)(partition.source)

    def _notice_silence(self) -> None:
        now = time.monotonic()
        for partition in self._partitions.values():
            if not partition.at_boundary or now - partition.silence_checked_at < SILENCE_CHECK_S:
                continue
            partition.silence_checked_at = now
            active = len(partition.stream)
            until = self._hearing.heard_until(partition.source, partition.position)
            partition.work = partition.stream.fall_silent(until)
            if self._advance(partition) and len(partition.stream) < active:
                partition.seal()

    def _notice_absence(self) -> None:
        """Say once that Kafka no longer answers, and once that it does again; kafka-python tries on by itself."""
        now = time.monotonic()
        if all(partition.paused for partition in self._partitions.values()):
            self._fetching_since = now  # nothing is asked for, so no answer is missing
            return
        last_answer = self._hearing.last_answer or float("-inf")
        waiting_since = max(self._fetching_since, last_answer)
        if self._unanswered_since is None and now - waiting_since >= NO_ANSWER_S:
            self._unanswered_since = waiting_since
            servers = self._settings.kafka.bootstrap_servers
            log.warning("no answer from Kafka at %s for %.0f s; trying on", servers, now - waiting_since)
        elif self._unanswered_since is not None and last_answer > self._unanswered_since:
            log.info("Kafka answers again, after %.0f s", now - self._unanswered_since)
            self._unanswered_since = None

    # -- acknowledgements to commits

    def _owes_much(self) -> bool:
        """Whether so much is on its way to Kafka that nothing may be added; the producer has no bound of its own."""
        owed = sum(partition.ledger.owed for partition in self._partitions.values())
        return owed >= OWED_QUEUES * self._core.capacity

    def _settle(self) -> None:
        acknowledged, failed = self._publisher.acknowledged, self._publisher.failed
        while acknowledged:
            acknowledged.popleft().owed -= 1
        while failed:
            owner, error = failed.popleft()
            if owner.alive:
                self._start_over(self._partitions[owner.source], f"a record of it could not be written ({error})")

    def _commit(self) -> None:
        now = time.monotonic()
        if now < self._commit_at:
            return
        self._commit_at = now + self._settings.commit_interval_s
        offsets = self._snapshots(set(self._partitions))
        if offsets:
            self._consumer.commit_async(offsets, callback=self._committed)

    def _snapshots(self, sources: set[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        offsets = {}
        for source in sources & self._partitions.keys():
            partition = self._partitions[source]
            if partition.at_boundary:
                partition.seal()
            point = partition.ledger.committable()
            if point is not None:
                metadata = snapshot.Snapshot(
                    point.rewind_to, self.kind.output_topic, self._publisher.output_of(source.partition)
                )
                offsets[source] = OffsetAndMetadata(point.position, snapshot.encode(metadata), -1)
        return offsets

    def _committed(self, offsets: dict[TopicPartition, OffsetAndMetadata], response: object) -> None:
        if isinstance(response, Exception):
            self.metrics.commits["failure"].inc()
            log.warning("commit of %s failed: %s", _names(set(offsets)), response)
            return
        self.metrics.commits["success"].inc()
        for source, offset in offsets.items():
            partition = self._partitions.get(source)
            if partition is not None:
                rewind_to = snapshot.decode(offset.metadata, offset.offset).rewind_to
                partition.ledger.committed = Point(offset.offset, rewind_to)

    # -- partitions come and go (the first four on the consumer's IO thread, while this one waits in poll)

    def _assigned(self, sources: set[TopicPartition]) -> None:
        self.metrics.rebalances.inc()
        self._newcomers |= sources

    def _settled(self, sources: set[TopicPartition]) -> bool:
        self._settle()
        leaving = [self._partitions[source] for source in sources & self._partitions.keys()]
        return all([self._advance(partition) and partition.ledger.owed == 0 for partition in leaving])

    def _released(self, sources: set[TopicPartition]) -> None:
        self.metrics.rebalances.inc()
        log.info("handed back %s", _names(sources))
        self._drop(sources)
        self._newcomers -= sources

    def _drop(self, sources: set[TopicPartition]) -> None:
        for source in sources & self._partitions.keys():
            self._partitions.pop(source).alive = False
        self._hearing.forget(sources)

    def _start_over(self, partition: Partition, why: str) -> None:
        """Recover a partition from the log, as if it had just been assigned."""
        source = partition.source
        log.error("%s: %s; recovering from what was committed", _names({source}), why)
        if source in self._consumer.assignment():  # it may be on its way out
            self._consumer.pause(source)
        self._drop({source})
        self._newcomers.add(source)
        self._retry_at = time.monotonic() + RETRY_S

    def _welcome(self) -> None:
        """Find where to begin to read the partitions that have just come, and let them be fetched."""
        try:
            newcomers = sorted(self._newcomers)
            starts = self._consumer.beginning_offsets(newcomers, timeout_ms=LOOKUP_TIMEOUT_MS)
            ends = self._consumer.end_offsets(newcomers, timeout_ms=LOOKUP_TIMEOUT_MS)
            for source in newcomers:
                committed = self._consumer.committed(source, metadata=True, timeout_ms=LOOKUP_TIMEOUT_MS)
                at = None if committed is None else (committed.offset, committed.metadata)
                self._begin(source, recovery.plan(at, log_start=starts[source], log_end=ends[source]))
                self._newcomers.discard(source)
        except KafkaError as error:
            log.warning("can't find where to begin to read, will try again: %s", error)
            self._retry_at = time.monotonic() + RETRY_S

    def _begin(self, source: TopicPartition, plan: recovery.Plan) -> None:
        for warning in plan.warnings:
            log.warning("%s: %s", _names({source}), warning)
        log.info("took %s: position %d, reading from %d", _names({source}), plan.position, plan.rewind_to)
        self._hearing.forget({source})
        self._partitions[source] = Partition(
            source, self.kind.open_stream(source), position=plan.rewind_to, live_from=plan.position
        )
        self._consumer.seek(source, plan.rewind_to)
        self._consumer.resume(source)

    # -- the rest

    def _look_after_threads(self) -> None:
        error = self._core.error or self._publisher.error
        if error is not None:
            raise WorkerError(f"inference or publishing has failed for good: {error}") from error

    def _finish(self) -> None:
        """Finish what is in flight within the grace period, commit, and leave the group."""
        deadline = time.monotonic() + self._settings.shutdown_grace_s
        try:
            self._drain(deadline)
        finally:
            self._close(max(1.0, deadline - time.monotonic()))
        log.info("worker stopped")

    def _drain(self, deadline: float) -> None:
        """Wait for what is in flight, and for a rebalance under way: within one, nothing can be committed."""
        while time.monotonic() < deadline:
            self._look_after_threads()
            if self._consumer.group_metadata().state == MemberState.REBALANCING:
                self._consumer.pause(*self._consumer.assignment())
                self._poll(BLOCKED_POLL_S)
            elif self._settled(set(self._partitions)):
                return
            else:
                time.sleep(FINISH_POLL_S)
        log.warning("the grace period is over: what is still in flight will be done again after a restart")

    def _close(self, timeout_s: float) -> None:
        self._handover.deadline_s = 0.0  # all that could be waited for has been
        # Revokes the partitions, and so commits them: see Handover.
        _close(self._consumer.close, autocommit=False, timeout_ms=int(1000 * timeout_s))
        _close(self._publisher.close, timeout_s)
        _close(self._producer.close, timeout=timeout_s)
        _close(self._dead_letter_producer.close, timeout=timeout_s)

    def _refuse_missing_topics(self) -> None:
        wanted = {self.kind.input_topic, self.kind.output_topic, self.kind.dead_letter_topic}
        servers = self._settings.kafka.bootstrap_servers
        try:
            missing = wanted - self._consumer.topics()
            if not missing:
                self._dead_letter_producer.partitions_for(self.kind.dead_letter_topic)  # or the first one waits for it
        except KafkaError as error:
            raise WorkerError(f"can't ask Kafka at {servers} for its topics: {error}") from error
        if missing:
            raise WorkerError(
                f"Kafka at {servers} has no topic {', '.join(sorted(missing))}: "
                "`stridecast topics` creates what is missing"
            )

    def _read_at_scrape(self) -> None:
        add = self.metrics.read_at_scrape
        add("active_devices", "Devices with an open window.", self._count_devices)
        add("queue_frames", "Frames waiting for the device.", lambda: self._core.queued)
        add("queue_capacity_frames", "Frames that may wait.", lambda: self._core.capacity)
        self.metrics.read_partitions_at_scrape(self._read_partitions)

    def _count_devices(self) -> int:
        return sum(len(partition.stream) for partition in list(self._partitions.values()))

    def _read_partitions(self) -> Iterator[PartitionReading]:
        for partition in list(self._partitions.values()):
            end = self._hearing.high_watermark(partition.source)
            yield PartitionReading(
                topic=partition.source.topic,
                partition=partition.source.partition,
                lag=max(0, end - partition.position) if end is not None else 0,
                rewind=partition.position - partition.rewind,
                progress_s=None if partition.progress_ms is None else partition.progress_ms / 1000,
            )


def _close(close: Callable[..., None], *args: Any, **settings: Any) -> None:
    try:
        close(*args, **settings)
    except KafkaError as error:
        log.warning("closing was not clean: %s", error)


def _names(sources: set[TopicPartition]) -> str:
    return ", ".join(f"{source.topic}[{source.partition}]" for source in sorted(sources)) or "no partition"
