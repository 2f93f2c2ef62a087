"""The worker: records in, labels out, and the offset committed when Kafka has acknowledged them.

One thread, the worker's own, polls, decodes and cuts frames, and is the only one that touches partitions and
their ledgers. The core's thread classifies; the publisher's thread says labels. The parts, each in a file of its own:

    Kind          what differs between kinds of worker: records to frames, predictions to labels
    Clients       the connections to Kafka
    Assignment    the partitions held: who comes, who goes, where to begin to read
    Feed          records to frames, as far as there is room
    Publisher     predictions to labels; what Kafka acknowledged
    Commits       acknowledgements to commits
"""

import logging
import threading
import time
from typing import Any

from kafka.errors import KafkaError
from kafka.structs import MemberState, TopicPartition

from inference.core import Lane
from ingest.consumer import Handover, Hearing
from service.absence import Absence
from service.assignment import Assignment
from service.clients import GIVE_UP_S, Clients
from service.commits import Commits
from service.feed import Feed
from service.kind import Kind, OpenStream, WorkerError
from service.metrics import WorkerMetrics
from service.publisher import Publisher
from service.settings import ServiceSettings

log = logging.getLogger(__name__)

POLL_S = 0.1
BLOCKED_POLL_S = 0.01
FINISH_POLL_S = 0.005
HANDOVER_S = 5.0
LIVE_WITHIN_S = 15.0


class Worker:
    """Runs one kind of worker until it is told to stop.

    ``open_stream`` opens a partition, as the kind prepared it; ``lane`` is its model's way through the core,
    ``metrics`` its own series. Raises IngestError when Kafka can't be reached at the start, WorkerError when a topic
    is missing or a thread has died.
    """

    def __init__(
        self, kind: Kind, settings: ServiceSettings, open_stream: OpenStream, lane: Lane, metrics: WorkerMetrics
    ) -> None:
        self.kind = kind
        self._settings = settings
        self._lane = lane
        self._metrics = metrics
        self._last_poll = time.monotonic()
        self._hearing = Hearing()
        self._absence = Absence(self._hearing, settings.kafka.bootstrap_servers)
        self._assignment = Assignment(open_stream, self._hearing, metrics.rebalances.inc)
        # Called by a poll, so not before all that is named here is there.
        self._handover = Handover(
            assigned=self._assignment.assigned,
            settled=self._settled,
            snapshots=lambda sources: self._commits.snapshots(sources),
            committed=lambda offsets, response: self._commits.committed(offsets, response),
            released=self._assignment.released,
            clock=time.monotonic,
            deadline_s=HANDOVER_S,
        )
        self._clients = Clients(kind, settings.kafka, self._handover, self._hearing)
        self._consumer = self._assignment.consumer = self._clients.consumer
        self._publisher = Publisher(
            self._clients.producer, self._clients.dead_letter_producer, kind, lane.model.bundle.manifest.labels, metrics
        )
        self._feed = Feed(self._assignment, lane, self._publisher, metrics)
        self._commits = Commits(
            self._assignment,
            metrics,
            interval_s=settings.commit_interval_s,
            output_topic=kind.settings.output_topic,
            output_of=self._publisher.output_of,
        )
        self._read_at_scrape()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set, then finish what is in flight, commit and leave the group."""
        self._publisher.start()
        settings = self.kind.settings
        log.info("%s worker started: %s -> %s", self.kind.name, settings.input_topic, settings.output_topic)
        try:
            while not stop.is_set():
                self._turn()
            log.info("%s worker stopping: finishing what is in flight", self.kind.name)
        finally:
            self._finish()

    def abandon(self) -> None:
        """Close a worker that is not to run after all."""
        self._clients.leave(GIVE_UP_S)
        self._clients.close(GIVE_UP_S)

    @property
    def joined(self) -> bool:
        """Whether the group has been joined; holding no partition is fine."""
        return bool(self._consumer.group_metadata().generation_id >= 0)

    @property
    def live(self) -> bool:
        """Whether the poll loop turns and no thread has died."""
        fresh = time.monotonic() - self._last_poll < LIVE_WITHIN_S
        return fresh and self._publisher.error is None and self._lane.error is None

    # -- one turn of the loop

    def _turn(self) -> None:
        self._look_after_threads()
        self._settle()
        blocked = not all([self._feed.advance(partition) for partition in self._assignment])
        self._take(self._poll(BLOCKED_POLL_S if blocked else POLL_S))
        self._assignment.follow()
        self._assignment.welcome()
        for partition in self._assignment:
            self._feed.notice_silence(partition, self._hearing.heard_until(partition.source, partition.position))
        self._absence.notice(fetching=not all(partition.paused for partition in self._assignment))
        self._commits.commit()

    def _look_after_threads(self) -> None:
        error = self._lane.error or self._publisher.error
        if error is not None:
            raise WorkerError(
                f"the {self.kind.name} worker's inference or publishing has failed for good: {error}"
            ) from error

    def _settle(self) -> None:
        acknowledged, failed = self._publisher.acknowledged, self._publisher.failed
        while acknowledged:
            acknowledged.popleft().owed -= 1
        while failed:
            owner, error = failed.popleft()
            if owner.alive:
                partition = self._assignment.held[owner.source]
                self._assignment.start_over(partition, f"a record of it could not be written ({error})")

    def _poll(self, wait_s: float) -> dict[TopicPartition, list[Any]]:
        try:
            return self._consumer.poll(timeout_ms=int(1000 * wait_s))  # type: ignore[no-any-return]
        except KafkaError as error:
            self._look_after_threads()  # a rebalance's callback may have failed for their failure
            if not error.retriable:
                raise WorkerError(f"can't read {self.kind.settings.input_topic}: {error}") from error
            log.warning("reading failed, and will be tried again: %s", error)
            self._assignment.seek_back()
            return {}

    def _take(self, polled: dict[TopicPartition, list[Any]]) -> None:
        self._last_poll = time.monotonic()
        self._metrics.last_poll.set(time.time())
        for source, records in polled.items():
            partition = self._assignment.held.get(source)
            if partition is None:
                continue
            if records[0].offset < partition.position:
                # An unclean election cut the log off, or the topic was made anew: kafka-python goes back by itself.
                why = f"its log goes back to {records[0].offset} from {partition.position}"
                self._assignment.start_over(partition, why)
            else:
                self._feed.take(partition, records)

    def _settled(self, sources: set[TopicPartition]) -> bool:
        """Go on with these partitions' frames; tell whether nothing of them is owed any more."""
        self._settle()
        leaving = self._assignment.among(sources)
        return all([self._feed.advance(partition) and partition.ledger.owed == 0 for partition in leaving])

    # -- the end

    def _finish(self) -> None:
        """Finish what is in flight within the grace period, commit, and leave the group."""
        deadline = time.monotonic() + self._settings.shutdown_grace_s
        try:
            self._drain(deadline)
        finally:
            self._close(max(1.0, deadline - time.monotonic()))
        log.info("%s worker stopped", self.kind.name)

    def _drain(self, deadline: float) -> None:
        """Wait for what is in flight, and for a rebalance under way: within one, nothing can be committed."""
        while time.monotonic() < deadline:
            self._look_after_threads()
            if self._consumer.group_metadata().state == MemberState.REBALANCING:
                self._consumer.pause(*self._consumer.assignment())
                self._poll(BLOCKED_POLL_S)
            elif self._settled(set(self._assignment.held)):
                return
            else:
                time.sleep(FINISH_POLL_S)
        log.warning("the grace period is over: what is still in flight will be done again after a restart")

    def _close(self, timeout_s: float) -> None:
        self._handover.deadline_s = 0.0  # all that could be waited for has been
        self._clients.leave(timeout_s)
        self._publisher.close(timeout_s)
        self._clients.close(timeout_s)

    def _read_at_scrape(self) -> None:
        add, lane, counts = self._metrics.read_at_scrape, self._lane, self.kind.counts
        if counts is not None:
            add(f"active_{counts}", f"{counts.capitalize()} with an open window.", self._count_active)
        add("queue_frames", "Frames waiting for the device.", lambda: lane.queued)
        add("queue_capacity_frames", "Frames that may wait.", lambda: lane.capacity)
        self._metrics.read_partitions_at_scrape(self._assignment.read)

    def _count_active(self) -> int:
        return sum(len(partition.stream) for partition in list(self._assignment.held.values()))
