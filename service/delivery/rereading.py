"""The thread that finds out where newcomers go on, and what has been said of them, while the others are worked on."""

import collections
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka.errors import KafkaError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.connection import IngestError
from ingest.labels_reader import LabelsReader, source_of, topic_of
from service.delivery.partition import Output
from service.delivery.recovery import Labels, Place, Plan, plan
from service.delivery.said import ELSEWHERE, Identity, Mark
from service.kind import Kind
from service.metrics import WorkerMetrics

log = logging.getLogger(__name__)

POLL_MS = 50
IDLE_S = 1.0
RETRY_S = 0.5
WAITING_LONG_S = 10.0
# A dead letter has its record's timestamp: how much older than a record before it another one may say that it is.
LETTER_SKEW_MS = 60_000


@dataclass(slots=True, eq=False)
class Request:
    """A partition that has been assigned; its object stands for this assignment.

    ``not_before`` and ``tell_at`` are the thread's own: when to look, and when to tell that there is nothing to see.
    """

    source: TopicPartition
    not_before: float
    asked_at: float
    tell_at: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """All that is needed to begin; ``reported`` are the records, by offset, whose dead letters are there already."""

    request: Request
    plan: Plan
    output: Output
    said: dict[Identity, Mark]
    reported: set[int]
    committed: OffsetAndMetadata | None  # None where there is no commit, or one that can't stand beside labels


@dataclass(slots=True, eq=False)
class _Reading:
    """One newcomer whose labels and dead letters are being read: how far, of which partitions, each with its end."""

    request: Request
    plan: Plan
    output: Output
    committed: OffsetAndMetadata | None
    positions: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]
    said: dict[Identity, Mark] = field(default_factory=dict)
    reported: set[int] = field(default_factory=set)

    @property
    def done(self) -> bool:
        return all(self.positions[partition] >= end for partition, end in self.ends.items())

    def move_on(self, reached: Mapping[TopicPartition, int]) -> bool:
        """Take note of how far has been read; tell whether that is further than before."""
        further = {
            partition: reached[partition]
            for partition, position in self.positions.items()
            if reached.get(partition, position) > position
        }
        self.positions |= further
        return bool(further)


class Rereading(threading.Thread):
    """Takes requests from the worker's thread, and gives back what it found, in whatever order it does.

    ``open_reader`` connects to Kafka, ``wanted`` tells whether somebody still waits for a request's answer, ``let_go``
    whether this worker itself has nothing more on its way that belongs to a partition: its labels would land after
    they have been looked for. An error that isn't Kafka's ends the thread and waits in ``error``.
    """

    def __init__(
        self,
        kind: Kind,
        open_reader: Callable[[], LabelsReader],
        wanted: Callable[[Request], bool],
        let_go: Callable[[set[TopicPartition]], bool],
        metrics: WorkerMetrics,
    ) -> None:
        super().__init__(name=f"{metrics.worker}-rereading", daemon=True)
        self.found: collections.deque[Found] = collections.deque()
        self.error: BaseException | None = None
        self._kind = kind
        self._open_reader = open_reader
        self._wanted = wanted
        self._let_go = let_go
        self._metrics = metrics
        self._asked: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._waiting: list[Request] = []
        self._readings: list[_Reading] = []
        self._reading_now: set[TopicPartition] = set()
        self._moved_at = 0.0
        self._reader: LabelsReader | None = None
        self._closing = False

    # -- for the worker's thread

    def ask(self, request: Request) -> None:
        """Find out about a partition."""
        self._asked.put(request)

    def close(self, timeout_s: float) -> None:
        """End the thread, whatever it is waiting for."""
        self._asked.put(None)
        if self.is_alive():
            self.join(timeout_s)

    # -- the thread

    def run(self) -> None:
        """Answer until closed."""
        try:
            while not self._closing:
                self._turn()
        except BaseException as error:
            self.error = error
            log.exception("the thread that rereads labels died")
        finally:
            if self._reader is not None:
                self._reader.close()

    def _turn(self) -> None:
        self._take_requests()
        try:
            self._begin()
            self._read()
        except IngestError as error:
            log.warning("can't read back what was said, will try again: %s", error)
            time.sleep(RETRY_S)
        except KafkaError as error:
            log.warning("reading back what was said failed, and will be tried again: %s", error)
            self._begin_again()

    def _take_requests(self) -> None:
        """Wait for something to do; drop what nobody waits for any more."""
        now = time.monotonic()
        if self._readings:
            wait_s = 0.0
        else:
            wait_s = min([IDLE_S, *(max(0.0, request.not_before - now) for request in self._waiting)])
        try:
            while (request := self._asked.get(wait_s > 0, wait_s or None)) is not None:
                self._waiting.append(request)
                wait_s = 0.0
            self._closing = True
        except queue.Empty:
            pass
        self._waiting = [request for request in self._waiting if self._wanted(request)]
        self._readings = [reading for reading in self._readings if self._wanted(reading.request)]

    def _begin(self) -> None:
        """Look up the newcomers whose time has come, until one can't be: the others' labels are read meanwhile."""
        now = time.monotonic()
        due = [request for request in self._waiting if request.not_before <= now]
        for request in sorted(due, key=lambda request: request.not_before):
            if self._closing:
                return
            if not self._let_go({request.source}):
                request.not_before = now + RETRY_S
                continue
            if self._reader is None:
                self._reader = self._open_reader()
            try:
                self._readings.append(self._look_up(self._reader, request))
            except KafkaError as error:
                # Above all while a transaction that may change the commit is open: a dead worker's, for some seconds.
                request.not_before = time.monotonic() + RETRY_S
                if time.monotonic() >= request.tell_at:
                    log.warning("%s[%d]: can't find where to begin yet: %s", *request.source, error)
                    request.tell_at = time.monotonic() + WAITING_LONG_S
                return
            self._waiting.remove(request)
            self._reading_now = set()  # a newcomer may need labels that are behind those of the others

    def _look_up(self, reader: LabelsReader, request: Request) -> _Reading:
        source = request.source
        committed = reader.committed(source)
        start, end = reader.bounds(source, committed=True)
        topic = self._kind.settings.output_topic
        outputs = reader.partitions_of(topic)
        if not outputs:
            raise UnknownTopicOrPartitionError(f"{topic} is not there")
        own = TopicPartition(topic, source.partition % outputs)
        at = None if committed is None else (committed.offset, committed.metadata)
        planned = plan(Place(at, start, end, own, outputs, self._kind.rules))
        # The end is asked for after the commit was read: labels that the commit relies on are before it.
        labels = planned.labels
        if labels is not None and labels.offset is None and labels.since_offset >= end:
            labels = None  # no record yet, so no label of one
        positions, ends = self._ranges(reader, source, labels, own, outputs)
        own_end = ends[own] if own in ends else reader.bounds(own, committed=False)[1]
        if planned.labels is not None and planned.position < end:
            letters = self._letter_ranges(reader, source, planned.position)
            positions, ends = positions | letters[0], ends | letters[1]
        output = Output(own, outputs, own_end)
        if committed is not None and (committed.offset != planned.position or not committed.metadata):
            # Committed again beside labels, it would have a successor hold nothing as said, those labels neither.
            committed = None
        return _Reading(request, planned, output, committed, positions, ends)

    def _ranges(
        self, reader: LabelsReader, source: TopicPartition, labels: Labels | None, own: TopicPartition, outputs: int
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Return from where and up to where to read partitions of the output."""
        if labels is None:
            return {}, {}
        partitions = [own] if labels.offset is not None else [own._replace(partition=p) for p in range(outputs)]
        bounds = {partition: reader.bounds(partition, committed=False) for partition in partitions}
        ends = {partition: end for partition, (_, end) in bounds.items()}
        if labels.offset is not None:
            if labels.offset < bounds[own][0]:
                log.warning("labels from %d of %s[%d] have expired; one may be said again", labels.offset, *own)
            elif labels.offset > ends[own]:
                log.warning("%s[%d] ends at %d, before %d: all its labels are read", *own, ends[own], labels.offset)
                return {own: bounds[own][0]}, ends  # the topic was made anew
            return {own: max(labels.offset, bounds[own][0])}, ends
        timestamp = reader.time_of(source, labels.since_offset)
        if timestamp is None:  # there is no record yet, so no label of one
            return {}, {}
        found = reader.offsets_at(partitions, timestamp)
        return {partition: ends[partition] if at is None else at for partition, at in found.items()}, ends

    def _letter_ranges(
        self, reader: LabelsReader, source: TopicPartition, position: int
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Return from where and up to where dead letters may lie of records that are still to be read.

        Kafka has been seen to answer with a commit of half an hour ago, right after it came back. Labels make up for
        that; a record that was rejected since is known by its dead letter.
        """
        topic = self._kind.settings.dead_letter_topic
        partitions = [TopicPartition(topic, number) for number in range(reader.partitions_of(topic))]
        bounds = {partition: reader.bounds(partition, committed=False) for partition in partitions}
        ends = {partition: end for partition, (start, end) in bounds.items() if start < end}
        timestamp = reader.time_of(source, position) if ends else None
        if timestamp is None:
            return {}, {}
        found = reader.offsets_at(ends, timestamp - LETTER_SKEW_MS)
        positions = {partition: at for partition, at in found.items() if at is not None}
        return positions, {partition: ends[partition] for partition in positions}

    def _read(self) -> None:
        """Read on, and hand over what has been read to its end."""
        for reading in [reading for reading in self._readings if reading.done]:
            self._readings.remove(reading)
            self.found.append(
                Found(reading.request, reading.plan, reading.output, reading.said, reading.reported, reading.committed)
            )
        if self._reader is None:
            return
        # Newcomers whose labels or letters share a partition are read together, from the first of their places.
        wanted: dict[TopicPartition, int] = {}
        for reading in self._readings:
            for partition, position in reading.positions.items():
                if position < reading.ends[partition]:
                    wanted[partition] = min(position, wanted.get(partition, position))
        if set(wanted) != self._reading_now:
            self._reader.read(wanted)
            self._reading_now = set(wanted)
            self._moved_at = time.monotonic()
        if not wanted:
            return
        records, reached = self._reader.poll(POLL_MS)
        for partition, found in records.items():
            self._take(partition, found)
        if any([reading.move_on(reached) for reading in self._readings]):
            self._moved_at = time.monotonic()
        elif time.monotonic() - self._moved_at > WAITING_LONG_S:
            sources = ", ".join("{}[{}]".format(*reading.request.source) for reading in self._readings)
            log.warning("%s: labels are waited for: is a transaction open on their output?", sources)
            self._begin_again()  # the output may have been made anew, and end sooner

    def _take(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        """Give labels, or dead letters, to those whose they are."""
        readings = {
            reading.request.source.partition: reading for reading in self._readings if partition in reading.positions
        }
        for record in records:
            source = source_of(record)
            reading = None if source is None else readings.get(source[0])
            if source is None or reading is None:
                continue
            if not reading.positions[partition] <= record.offset < reading.ends[partition]:
                continue
            if partition.topic != reading.output.partition.topic:
                self._take_letter(reading, record, source[1])
            else:
                self._take_label(reading, partition, record, source[1])

    def _take_letter(self, reading: _Reading, record: Any, offset: int) -> None:
        if offset >= reading.plan.position and topic_of(record) == reading.request.source.topic:
            reading.reported.add(offset)

    def _take_label(self, reading: _Reading, partition: TopicPartition, record: Any, offset: int) -> None:
        identity = self._kind.identify(record, offset)
        if identity is not None:
            place = record.offset if partition == reading.output.partition else ELSEWHERE
            reading.said[identity] = Mark(place, offset)
            self._metrics.reread.inc()

    def _begin_again(self) -> None:
        """Look everything up anew: what was asked for before may no longer hold."""
        now = time.monotonic()
        for reading in self._readings:
            reading.request.not_before = now + RETRY_S
            self._waiting.append(reading.request)
        self._readings.clear()
        self._reading_now = set()
