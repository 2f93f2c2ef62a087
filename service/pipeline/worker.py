"""The worker: records in, labels out, and offsets committed when Kafka has acknowledged the labels.

The worker's own thread polls, decodes and cuts frames. While it waits in a poll, the consumer's IO thread may do the
same for partitions that a rebalance assigns or revokes. The core's thread classifies; the publisher's thread publishes
labels. Whichever thread learns of an acknowledgement records it in the partition's ledger. The parts, each in its file:

    Kind              what differs between kinds of worker: records to frames, predictions to labels
    Clients           the connections to Kafka
    Assignment        the partitions assigned to the worker
    RecoveryThread    where newly assigned partitions start, and which labels are published; a thread of its own
    Feed              records to frames, while there is room
    Publisher         predictions to labels; a thread of its own
    Keeper            keeps windows for people to label, if the kind does that; a thread of its own
    Delivery          labels and dead letters to Kafka, acknowledgements to commits: at least or exactly once
"""

import contextlib
import functools
import logging
import math
import threading
import time
from collections.abc import Callable

from kafka.errors import KafkaError, LogTruncationError
from kafka.structs import MemberState, TopicPartition

from inference.lanes import Lane
from ingest.client.access import remedy
from ingest.consumer.fetch_progress import FetchProgress
from ingest.consumer.lease import Lease
from ingest.consumer.rebalance_listener import RebalanceListener
from ingest.record_batches.record_columns import Records
from service.configuration.settings import WorkerSettings
from service.delivery.assignment import Assignment
from service.delivery.at_least_once import AtLeastOnce
from service.delivery.exactly_once import ExactlyOnce
from service.delivery.partition import Partition
from service.delivery.protocol import Delivery
from service.delivery.recovery_thread import RecoveryThread
from service.kind import Keeper, Kind, OpenStream, WorkerError
from service.monitoring.metrics import WorkerMetrics
from service.pipeline.clients import GIVE_UP_S, Clients, leave
from service.pipeline.feed import Feed
from service.pipeline.kafka_silence import KafkaSilence
from service.pipeline.losses import Losses
from service.pipeline.publisher import Publisher

log = logging.getLogger(__name__)

# A poll, and the fetch, batch and request to Kafka that it leads to, cost mostly a fixed amount each. So while records
# come all the time, they gather for a moment (`gather_ms`), unless so many come at once that it doesn't matter.
GATHERED = 1000
POLL_S = 0.1
BLOCKED_POLL_S = 0.01
# How long to wait for a heartbeat's answer before polled records are dropped, to be polled again.
HEARTBEAT_WAIT_S = 1.0
HEARTBEAT_POLL_S = 0.005
HANDOVER_S = 5.0
LIVE_WITHIN_S = 15.0


class Worker:
    """Runs one kind of worker until it is told to stop.

    ``open_stream`` opens the stream of a partition, as prepared by the kind. ``lane`` is its model's lane through the
    core, ``metrics`` its own series, ``keeper`` what its kind opened, if anything. A ``bounded`` worker reads each
    partition up to the end in the group's commit, and closes what is open there. Raises IngestError if Kafka can't be
    reached at the start, WorkerError if a topic is missing or a thread has died.
    """

    def __init__(
        self,
        kind: Kind,
        settings: WorkerSettings,
        open_stream: OpenStream,
        lane: Lane,
        metrics: WorkerMetrics,
        keeper: Keeper | None = None,
        *,
        bounded: bool = False,
    ) -> None:
        self.kind = kind
        self._settings = settings
        self._lane = lane
        self._metrics = metrics
        self._keeper = keeper
        self._last_poll = time.monotonic()
        self._poll_at = 0.0
        self._fetch_progress = FetchProgress()
        self._kafka_silence = KafkaSilence(self._fetch_progress, settings.kafka.bootstrap_servers)
        clients = Clients(kind.name, settings.kafka)
        self._assignment = Assignment(
            open_stream, kind.rules, self._fetch_progress, lambda request: self._recovery.ask(request), metrics
        )
        self._recovery = RecoveryThread(
            kind,
            clients.open_reader,
            self._assignment.awaits,
            lambda sources: self._delivery.nothing_in_flight(sources),
            metrics,
            bounded=bounded,
        )
        self._listener = RebalanceListener(
            assigned=self._assignment.assigned,
            settled=self._settled,
            snapshots=lambda sources: self._delivery.last_offsets(self._assignment.among(sources)),
            committed=lambda offsets, response: self._delivery.committed(offsets, response),
            released=self._assignment.released,
            nothing_in_flight=lambda sources: self._delivery.nothing_in_flight(sources),
            clock=time.monotonic,
            deadline_s=HANDOVER_S,
        )
        self._losses = Losses()
        topics = kind.settings
        with contextlib.ExitStack() as opened:  # if the start fails, or a signal ends it, what is open is closed
            self._delivery: Delivery = self._open_delivery(clients)
            opened.callback(self._delivery.close, GIVE_UP_S)
            self._publisher = Publisher(self._delivery, kind, lane.model.bundle.manifest.labels, metrics, keeper)
            self._feed = Feed(
                self._assignment,
                lane,
                self._delivery,
                self._publisher.put,
                topics.dead_letter_topic,
                metrics,
                self._losses,
            )
            # Last, because it joins the group. No callback comes before a poll.
            self._consumer = clients.open_consumer(topics.input_topic, self._listener, self._fetch_progress)
            self._assignment.consumer = self._consumer
            self._lease = Lease(self._consumer, settings.kafka.session_timeout_s, time.monotonic)
            opened.callback(leave, self._consumer, GIVE_UP_S)
            names = [topics.input_topic, topics.output_topic, topics.dead_letter_topic]
            clients.refuse_missing_topics(self._consumer, names)
            opened.pop_all()
        self._read_at_scrape()

    def _open_delivery(self, clients: Clients) -> Delivery:
        interval_s = self._settings.commit_interval_s
        if self._settings.delivery == "exactly_once":
            return ExactlyOnce(
                self._assignment,
                self._metrics,
                open_transactions=clients.open_transactions,
                wake=lambda: self._publisher.wake(),
                commit_interval_s=interval_s,
            )
        return AtLeastOnce(
            self._assignment,
            self._metrics,
            open_labels=clients.open_labels,
            open_letters=clients.open_letters,
            commit_interval_s=interval_s,
            may_write=lambda: self._lease.holds(),
        )

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set, then finish what is in flight, commit and leave the group."""
        if self._keeper is not None:
            self._keeper.start()
        self._publisher.start()
        self._recovery.start()
        settings = self.kind.settings
        log.info("%s worker started: %s -> %s", self.kind.name, settings.input_topic, settings.output_topic)
        try:
            while not stop.is_set():
                self._turn()
            held = list(self._assignment)
            if held and all(partition.ended for partition in held):
                log.info("%s worker has read all; stopping", self.kind.name)
            else:
                log.info("%s worker stopping: finishing what is in flight", self.kind.name)
        finally:
            self._finish()

    def abandon(self) -> None:
        """Close a worker that won't be run."""
        leave(self._consumer, GIVE_UP_S)
        self._delivery.close(GIVE_UP_S)

    @property
    def joined(self) -> bool:
        """Whether the worker has joined its group, with or without partitions."""
        return bool(self._consumer.group_metadata().generation_id >= 0)

    @property
    def live(self) -> bool:
        """Whether the poll loop runs and no thread has died."""
        fresh = time.monotonic() - self._last_poll < LIVE_WITHIN_S
        return fresh and self._thread_error is None

    @property
    def _thread_error(self) -> BaseException | None:
        return self._lane.error or self._publisher.error or self._recovery.error

    # -- one turn of the loop

    def _turn(self) -> None:
        self._raise_thread_error()
        self._recover_failed()
        owed = self._feed.owed()
        blocked = not all([self._feed.advance(partition, owed) for partition in self._assignment])
        self._take(self._poll(BLOCKED_POLL_S if blocked else POLL_S))
        self._assignment.follow()
        self._assignment.begin_all(self._recovery.found)
        owed = self._feed.owed()
        for partition in self._assignment:
            self._feed.notice_silence(partition, self._caught_up_at(partition), owed)
        self._losses.notice(time.monotonic(), (partition.stream for partition in self._assignment))
        self._kafka_silence.notice(fetching=not all(partition.paused for partition in self._assignment))
        self._delivery.commit()

    def _caught_up_at(self, partition: Partition) -> float:
        """Return when a partition was caught up; for one with an end: never before it, and for all time after."""
        if not partition.ends:
            return self._fetch_progress.caught_up_at(partition.source, partition.position)
        return math.inf if partition.ended else -math.inf

    def _raise_thread_error(self) -> None:
        error = self._thread_error
        if error is not None:
            raise WorkerError(
                f"the {self.kind.name} worker's inference, publishing or rereading has failed for good: {error}"
            ) from error

    def _recover_failed(self) -> None:
        """Recover the partitions whose output failed."""
        failed, alike = self._delivery.failed, dict[str, list[Partition]]()
        while failed:
            partition, error = failed.popleft()
            others = alike.setdefault(str(error), [])
            if self._assignment.held.get(partition.source) is partition and partition not in others:
                others.append(partition)
        for why, partitions in alike.items():
            self._assignment.start_all_over(partitions, f"a record could not be written ({why})")

    def _poll(self, wait_s: float) -> dict[TopicPartition, list[Records]]:
        time.sleep(max(0.0, self._poll_at - time.monotonic()))
        try:
            polled = self._consumer.poll(timeout_ms=int(1000 * wait_s))
        except LogTruncationError as error:  # an unclean election (KIP-320)
            for partition in self._assignment.among(set(error.divergent_offsets)):
                self._assignment.start_over(partition, f"its log was cut off ({error})")
            return {}
        except KafkaError as error:
            self._raise_thread_error()  # a rebalance callback may have failed because of theirs
            if not error.retriable:
                raise WorkerError(f"can't read {self.kind.settings.input_topic}: {remedy(error)}") from error
            log.warning("reading failed, and will be tried again: %s", remedy(error))
            self._assignment.seek_back()
            return {}
        return self._if_still_ours(polled)

    def _if_still_ours(self, polled: dict[TopicPartition, list[Records]]) -> dict[TopicPartition, list[Records]]:
        """Return the polled records; none, and seek back, if other workers may own the partitions by now."""
        deadline = time.monotonic() + HEARTBEAT_WAIT_S
        while polled and not self._lease.holds():
            if self._lease.is_out() or time.monotonic() > deadline:
                self._assignment.seek_back()
                return {}
            time.sleep(HEARTBEAT_POLL_S)
        return polled

    def _take(self, polled: dict[TopicPartition, list[Records]]) -> None:
        self._last_poll = time.monotonic()
        self._metrics.last_poll.set(time.time())
        records = {source: Records.join(pieces) for source, pieces in polled.items()}
        if 0 < sum(map(len, records.values())) < GATHERED:
            self._poll_at = self._last_poll + self._settings.gather_ms / 1000
        with self._lane.together():
            for source, some in records.items():
                partition = self._assignment.held.get(source)
                if partition is not None:
                    self._take_some(partition, some)

    def _take_some(self, partition: Partition, records: Records) -> None:
        first = int(records.offset[0])
        if first < partition.position:
            # An unclean election cut off the log, or the topic was created anew. kafka-python goes back by itself.
            self._assignment.start_over(partition, f"its log goes back to {first} from {partition.position}")
        else:
            self._assignment.report_expired(partition, first)
            self._feed.take(partition, records)

    def _settled(self, sources: set[TopicPartition]) -> bool:
        """Submit the frames of these partitions; return whether all their output is acknowledged."""
        leaving = [partition for partition in self._assignment.among(sources) if partition.alive]
        for partition in leaving:
            partition.behind = False  # don't gather labels any longer: the next owner waits
        cut = all([self._feed.advance(partition) for partition in leaving])
        return self._delivery.settled(leaving) and cut

    # -- the end

    def _finish(self) -> None:
        """Finish what is in flight within the grace period, commit, and leave the group."""
        deadline = time.monotonic() + self._settings.shutdown_grace_s
        try:
            self._drain(deadline)
        finally:
            self._losses.tell_refused()
            self._close(deadline)
        log.info("%s worker stopped", self.kind.name)

    def _drain(self, deadline: float) -> None:
        """Wait for what is in flight, and for a rebalance under way: within one, nothing can be committed."""
        while time.monotonic() < deadline:
            self._raise_thread_error()
            if self._lease.is_out():
                return  # what is in flight is no longer this worker's to publish
            joining = self._consumer.group_metadata().state == MemberState.REBALANCING
            if not joining and self._settled(set(self._assignment.held)):
                return
            # Without polls, the group would give the partitions to others in the end.
            self._consumer.pause(*self._consumer.assignment())
            self._poll(BLOCKED_POLL_S)
            self._last_poll = time.monotonic()
        log.warning("the grace period is over: what is still in flight will be done again after a restart")

    def _close(self, deadline: float) -> None:
        """Close all that was opened, by the deadline, or within a second each if that is over."""
        self._listener.deadline_s = 0.0  # what could be finished has been
        steps: list[Callable[[float], None]] = [functools.partial(leave, self._consumer)]
        steps += [each.close for each in (self._recovery, self._publisher, self._delivery, self._keeper) if each]
        with contextlib.ExitStack() as closing:  # a step that raises doesn't keep the others from being taken
            for close in reversed(steps):
                closing.callback(_close_by, close, deadline)

    def _read_at_scrape(self) -> None:
        add, lane, counts = self._metrics.read_at_scrape, self._lane, self.kind.counts
        if counts is not None:
            add(f"active_{counts}", f"{counts.capitalize()} with an open window.", self._count_active)
        add("ready", "1 once the model serves and the group has been joined.", lambda: self.live and self.joined)
        add("kafka_silence_seconds", "For how long a fetch or a heartbeat has been unanswered.", self._silence_s)
        add(
            "recovery_age_seconds",
            "For how long the partition lost the longest has been lost.",
            self._assignment.recovery_age_s,
        )
        add("queue_frames", "Frames waiting for the device.", lambda: lane.queued)
        add("queue_capacity_frames", "Frames that may wait.", lambda: lane.capacity)
        self._metrics.read_partitions_at_scrape(self._assignment.read)

    def _silence_s(self) -> float:
        """Return for how long Kafka has not answered. A worker that fetches nothing still sends heartbeats."""
        return max(self._kafka_silence.silence_s(), self._lease.silence_s())

    def _count_active(self) -> int:
        return sum(len(partition.stream) for partition in list(self._assignment.held.values()))


def _close_by(close: Callable[[float], None], deadline: float) -> None:
    """Close something by the deadline, or within a second if that is over."""
    close(max(1.0, deadline - time.monotonic()))
