"""The thread that finds out where newcomers go on, and what has been said of them, while the others are worked on."""

import collections
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.connection import IngestError
from ingest.labels_reader import LabelsReader, source_of, topic_of
from service.delivery.looking_up import Lookup, Request, look_up
from service.delivery.partition import Output
from service.delivery.recovery import Plan
from service.delivery.said import ELSEWHERE, Identity, Mark
from service.kind import Kind
from service.metrics import WorkerMetrics

log = logging.getLogger(__name__)

POLL_MS = 50
IDLE_S = 1.0
RETRY_S = 0.5
WAITING_LONG_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """All that is needed to begin; ``reported`` are the records, by offset, whose dead letters are there already."""

    request: Request
    plan: Plan
    output: Output
    said: dict[Identity, Mark]
    reported: set[int]
    committed: OffsetAndMetadata | None  # None where there is no commit, or one that can't stand beside labels


class Rereading(threading.Thread):
    """Takes requests from the worker's thread, and gives back what it found, in whatever order it does.

    Where partitions are ``bounded``, their commits say where they end. ``open_reader`` connects to Kafka, ``wanted``
    tells whether somebody still waits for a request's answer, ``let_go`` whether this worker itself has nothing more on
    its way that belongs to a partition: its labels would land after they have been looked for. An error that isn't
    Kafka's ends the thread and waits in ``error``.
    """

    def __init__(
        self,
        kind: Kind,
        open_reader: Callable[[], LabelsReader],
        wanted: Callable[[Request], bool],
        let_go: Callable[[set[TopicPartition]], bool],
        metrics: WorkerMetrics,
        *,
        bounded: bool = False,
    ) -> None:
        super().__init__(name=f"{metrics.worker}-rereading", daemon=True)
        self.found: collections.deque[Found] = collections.deque()
        self.error: BaseException | None = None
        self._kind = kind
        self._bounded = bounded
        self._open_reader = open_reader
        self._wanted = wanted
        self._let_go = let_go
        self._metrics = metrics
        self._asked: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._waiting: list[Request] = []
        self._lookups: list[Lookup] = []
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
        if self._closing:
            return
        try:
            # Whether or not anything was asked for: a process doesn't grow when its first partition comes late.
            self._reader = self._reader or self._open_reader()
            self._begin(self._reader)
            self._read(self._reader)
        except IngestError as error:
            log.warning("can't read back what was said, will try again: %s", error)
            time.sleep(RETRY_S)
        except KafkaError as error:
            log.warning("reading back what was said failed, and will be tried again: %s", error)
            self._begin_again()

    def _take_requests(self) -> None:
        """Wait for something to do; drop what nobody waits for any more."""
        now = time.monotonic()
        if self._lookups:
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
        self._lookups = [lookup for lookup in self._lookups if self._wanted(lookup.request)]

    def _begin(self, reader: LabelsReader) -> None:
        """Look up the newcomers whose time has come, until one can't be: the others' labels are read meanwhile."""
        commits = self._read_commits(reader)
        try:
            if commits:
                reader.look_at_topics()  # once for all: what is known may be minutes old, and some have been added
        except KafkaError as error:
            for request in commits:
                self._put_off(request, error)
            return
        kind = self._kind
        for request, committed in commits.items():
            try:
                lookup = look_up(reader, kind.settings, kind.rules, request, committed, bounded=self._bounded)
            except KafkaError as error:
                self._put_off(request, error)
                return
            self._lookups.append(lookup)
            self._waiting.remove(request)
            self._reading_now = set()  # a newcomer may need labels that are behind those of the others

    def _read_commits(self, reader: LabelsReader) -> dict[Request, OffsetAndMetadata | None]:
        """Read the commits of the newcomers whose time has come, until one can't be."""
        now = time.monotonic()
        due = [request for request in self._waiting if request.not_before <= now]
        commits: dict[Request, OffsetAndMetadata | None] = {}
        for request in sorted(due, key=lambda request: request.not_before):
            if not self._let_go({request.source}):
                request.not_before = now + RETRY_S
                continue
            try:
                commits[request] = reader.committed(request.source)
            except KafkaError as error:
                # Above all while a transaction that may change the commit is open: a dead worker's, for some seconds.
                self._put_off(request, error)
                break
        return commits

    def _put_off(self, request: Request, error: KafkaError) -> None:
        request.not_before = time.monotonic() + RETRY_S
        if time.monotonic() >= request.tell_at:
            log.warning("%s[%d]: can't find where to begin yet: %s", *request.source, error)
            request.tell_at = time.monotonic() + WAITING_LONG_S

    def _read(self, reader: LabelsReader) -> None:
        """Read on, and hand over what has been read to its end."""
        for lookup in [lookup for lookup in self._lookups if lookup.done]:
            self._lookups.remove(lookup)
            self.found.append(
                Found(lookup.request, lookup.plan, lookup.output, lookup.said, lookup.reported, lookup.committed)
            )
        # Newcomers whose labels or letters share a partition are read together, from the first of their places.
        wanted: dict[TopicPartition, int] = {}
        for lookup in self._lookups:
            for partition, position in lookup.positions.items():
                if position < lookup.ends[partition]:
                    wanted[partition] = min(position, wanted.get(partition, position))
        if set(wanted) != self._reading_now:
            reader.read(wanted)
            self._reading_now = set(wanted)
            self._moved_at = time.monotonic()
        if not wanted:
            return
        records, reached = reader.poll(POLL_MS)
        for partition, found in records.items():
            self._take(partition, found)
        if any([lookup.move_on(reached) for lookup in self._lookups]):
            self._moved_at = time.monotonic()
        elif time.monotonic() - self._moved_at > WAITING_LONG_S:
            sources = ", ".join("{}[{}]".format(*lookup.request.source) for lookup in self._lookups)
            log.warning("%s: labels are waited for: is a transaction open on their output?", sources)
            self._begin_again()  # the output may have been made anew, and end sooner

    def _take(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        """Give labels, or dead letters, to those whose they are."""
        lookups = {lookup.request.source.partition: lookup for lookup in self._lookups if partition in lookup.positions}
        for record in records:
            source = source_of(record)
            lookup = None if source is None else lookups.get(source[0])
            if source is None or lookup is None:
                continue
            if not lookup.positions[partition] <= record.offset < lookup.ends[partition]:
                continue
            if partition.topic != lookup.output.partition.topic:
                self._take_letter(lookup, record, source[1])
            else:
                self._take_label(lookup, partition, record, source[1])

    def _take_letter(self, lookup: Lookup, record: Any, offset: int) -> None:
        # Beyond the log's end they are of records that were cut off: others will have their offsets.
        if lookup.plan.position <= offset < lookup.log_end and topic_of(record) == lookup.request.source.topic:
            lookup.reported.add(offset)

    def _take_label(self, lookup: Lookup, partition: TopicPartition, record: Any, offset: int) -> None:
        identity = self._kind.identify(record, offset)
        if identity is not None:
            place = record.offset if partition == lookup.output.partition else ELSEWHERE
            lookup.said[identity] = Mark(place, offset)
            self._metrics.reread.inc()

    def _begin_again(self) -> None:
        """Look everything up anew: what was asked for before may no longer hold."""
        now = time.monotonic()
        for lookup in self._lookups:
            lookup.request.not_before = now + RETRY_S
            self._waiting.append(lookup.request)
        self._lookups.clear()
        self._reading_now = set()
