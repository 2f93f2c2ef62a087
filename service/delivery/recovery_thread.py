"""The thread that finds where to start newly assigned partitions and reads back their labels; the others go on."""

import collections
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.client.access import remedy
from ingest.client.errors import IngestError
from ingest.consumer.labels_reader import LabelsReader, source_of, topic_of
from service.delivery.partition import names
from service.delivery.published import ELSEWHERE, Mark
from service.delivery.read_back import ReadBack, Request, plan_read_back
from service.delivery.withheld import TELL_EVERY_S
from service.kind import Kind
from service.monitoring.metrics import WorkerMetrics

log = logging.getLogger(__name__)

POLL_MS = 50
IDLE_S = 1.0
RETRY_S = 0.5
WAITING_LONG_S = 10.0


class RecoveryThread(threading.Thread):
    """Takes requests from the worker's thread, and puts the answers into ``found``, in any order.

    If partitions are ``bounded``, their commits say where they end. ``open_reader`` connects to Kafka. ``wanted`` says
    whether a request is still waited for. ``nothing_in_flight`` says whether this worker itself has nothing of a
    partition in flight, whose labels would land after the read-back. An error that isn't Kafka's ends the thread and is
    kept in ``error``.
    """

    def __init__(
        self,
        kind: Kind,
        open_reader: Callable[[], LabelsReader],
        wanted: Callable[[Request], bool],
        nothing_in_flight: Callable[[set[TopicPartition]], bool],
        metrics: WorkerMetrics,
        *,
        bounded: bool = False,
    ) -> None:
        super().__init__(name=f"{metrics.worker}-rereading", daemon=True)
        self.found: collections.deque[ReadBack] = collections.deque()
        self.error: BaseException | None = None
        self._kind = kind
        self._bounded = bounded
        self._open_reader = open_reader
        self._wanted = wanted
        self._nothing_in_flight = nothing_in_flight
        self._metrics = metrics
        self._asked: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._waiting: list[Request] = []
        self._read_backs: list[ReadBack] = []
        self._reading_now: set[TopicPartition] = set()
        self._moved_at = 0.0
        self._tell_at: dict[str, float] = {}  # when to log each failure again
        self._reader: LabelsReader | None = None
        self._closing = False

    # -- for the worker's thread

    def ask(self, request: Request) -> None:
        """Request the starting point of a partition."""
        self._asked.put(request)

    def close(self, timeout_s: float) -> None:
        """End the thread, whatever it waits for."""
        self._asked.put(None)
        if self.is_alive():
            self.join(timeout_s)

    # -- the thread

    def run(self) -> None:
        """Answer requests until closed."""
        try:
            while not self._closing:
                self._turn()
        except BaseException as error:
            self.error = error
            log.exception("the thread that reads back labels died")
        finally:
            if self._reader is not None:
                self._reader.close()

    def _turn(self) -> None:
        self._take_requests()
        if self._closing:
            return
        try:
            # Also without a request, so that the process doesn't grow when its first partition comes late.
            self._reader = self._reader or self._open_reader()
            self._begin(self._reader)
            self._read(self._reader)
        except IngestError as error:
            self._tell("can't read back published labels, will try again", error)
            time.sleep(RETRY_S)
        except KafkaError as error:
            self._tell("reading back published labels failed, and will be tried again", error)
            self._begin_again()

    def _take_requests(self) -> None:
        """Wait for something to do; drop requests that nobody waits for any more."""
        now = time.monotonic()
        if self._read_backs:
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
        self._read_backs = [read_back for read_back in self._read_backs if self._wanted(read_back.request)]

    def _begin(self, reader: LabelsReader) -> None:
        """Start the read-backs that are due, until one fails: those that run are not to wait for its retry."""
        commits = self._read_commits(reader)
        try:
            if commits:
                reader.look_at_topics()  # once for all: the metadata may be minutes old, and partitions added
        except KafkaError as error:
            for request in commits:
                self._put_off(request, error)
            return
        kind = self._kind
        for request, committed in commits.items():
            try:
                read_back = plan_read_back(reader, kind.settings, kind.rules, request, committed, bounded=self._bounded)
            except KafkaError as error:
                self._put_off(request, error)
                return
            self._read_backs.append(read_back)
            self._waiting.remove(request)
            self._reading_now = set()  # the new one may need labels before those of the others

    def _read_commits(self, reader: LabelsReader) -> dict[Request, OffsetAndMetadata | None]:
        """Read the commits of the requests that are due, until one fails."""
        now = time.monotonic()
        due = [request for request in self._waiting if request.not_before <= now]
        commits: dict[Request, OffsetAndMetadata | None] = {}
        for request in sorted(due, key=lambda request: request.not_before):
            if not self._nothing_in_flight({request.source}):
                request.not_before = now + RETRY_S
                continue
            try:
                commits[request] = reader.committed(request.source)
            except KafkaError as error:
                # Mostly because a transaction that may change the commit is open: a dead worker's, for some seconds.
                self._put_off(request, error)
                break
        return commits

    def _put_off(self, request: Request, error: KafkaError) -> None:
        request.not_before = time.monotonic() + RETRY_S
        self._tell("can't find where to begin yet", error)

    def _tell(self, what: str, error: Exception) -> None:
        """Log why partitions wait, once a minute for each reason."""
        now, told = time.monotonic(), f"{what}: {remedy(error)}"
        self._tell_at = {text: at for text, at in self._tell_at.items() if at > now}
        if told not in self._tell_at:
            self._tell_at[told] = now + TELL_EVERY_S
            waiting = [*self._waiting, *(read_back.request for read_back in self._read_backs)]
            where = f"{names(request.source for request in waiting)}: " if waiting else ""
            log.warning("%s%s", where, told)

    def _read(self, reader: LabelsReader) -> None:
        """Read on, and hand over the read-backs that are complete."""
        for read_back in [read_back for read_back in self._read_backs if read_back.done]:
            self._read_backs.remove(read_back)
            self.found.append(read_back)
        # Read-backs that share an output or dead-letter partition read it together, from the lowest position.
        wanted: dict[TopicPartition, int] = {}
        for read_back in self._read_backs:
            for partition, position in read_back.positions.items():
                if position < read_back.ends[partition]:
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
        if any([read_back.move_on(reached) for read_back in self._read_backs]):
            self._moved_at = time.monotonic()
        elif time.monotonic() - self._moved_at > WAITING_LONG_S:
            sources = ", ".join("{}[{}]".format(*read_back.request.source) for read_back in self._read_backs)
            log.warning("%s: labels are waited for: is a transaction open on their output?", sources)
            self._begin_again()  # the output may have been created anew, and end sooner

    def _take(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        """Add labels, or dead letters, to the read-backs of their input partitions."""
        read_backs = {
            read_back.request.source.partition: read_back
            for read_back in self._read_backs
            if partition in read_back.positions
        }
        for record in records:
            source = source_of(record)
            read_back = None if source is None else read_backs.get(source[0])
            if source is None or read_back is None:
                continue
            if not read_back.positions[partition] <= record.offset < read_back.ends[partition]:
                continue
            if partition.topic != read_back.output.partition.topic:
                self._take_letter(read_back, record, source[1])
            else:
                self._take_label(read_back, partition, record, source[1])

    def _take_letter(self, read_back: ReadBack, record: Any, offset: int) -> None:
        # Letters beyond the log's end are of records that were cut off: other records will have their offsets.
        if read_back.plan.position <= offset < read_back.log_end and topic_of(record) == read_back.request.source.topic:
            read_back.reported.add(offset)

    def _take_label(self, read_back: ReadBack, partition: TopicPartition, record: Any, offset: int) -> None:
        identity = self._kind.identify(record, offset)
        if identity is not None:
            place = record.offset if partition == read_back.output.partition else ELSEWHERE
            read_back.published[identity] = Mark(place, offset)
            self._metrics.reread.inc()

    def _begin_again(self) -> None:
        """Start all read-backs over: their commits and ends may no longer hold."""
        now = time.monotonic()
        for read_back in self._read_backs:
            read_back.request.not_before = now + RETRY_S
            self._waiting.append(read_back.request)
        self._read_backs.clear()
        self._reading_now = set()
