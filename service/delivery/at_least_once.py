"""Delivery at least once: labels are sent as they come, and a position is committed when Kafka has acknowledged them.

A send whose fate is unknown is never repeated. Its partition is recovered instead, which reads back whether the labels
are there.
"""

import collections
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka.errors import InvalidTimestampError, KafkaError, TopicAuthorizationFailedError
from kafka.structs import MemberState, TopicPartition

from ingest.client.access import remedy
from ingest.client.errors import IngestError
from ingest.producer.bulk import BulkProducer
from ingest.producer.producer import REFUSED_FOR_GOOD, UnharmedError, close_producer, has_failed
from service.delivery.assignment import Assignment
from service.delivery.ledger import Point, Segment
from service.delivery.letter import Letter
from service.delivery.partition import Partition, names
from service.delivery.protocol import Labels, Offsets, give_up, seal_all
from service.delivery.withheld import TELL_EVERY_S, Withheld
from service.monitoring.metrics import WorkerMetrics

log = logging.getLogger(__name__)

IDLE_S = 1.0
REOPEN_S = 1.0
HEARTBEAT_POLL_S = 0.02


class AtLeastOnce:
    """Sends labels with an idempotent producer, and dead letters with another one (``ingest/producer/producer.py``)."""

    def __init__(
        self,
        assignment: Assignment,
        metrics: WorkerMetrics,
        *,
        open_labels: Callable[[], BulkProducer],
        open_letters: Callable[[], BulkProducer],
        commit_interval_s: float,
        may_write: Callable[[], bool],
    ) -> None:
        self.failed: collections.deque[tuple[Partition, Exception]] = collections.deque()
        self._assignment = assignment
        self._metrics = metrics
        self._open_labels = open_labels
        self._producer = open_labels()
        try:
            self._letter_producer = open_letters()
        except BaseException:
            close_producer(self._producer, 0.0)
            raise
        self._interval_s = commit_interval_s
        self._may_write = may_write
        self._due_at = 0.0
        self._refused = 0  # commits, since the last one that was taken
        self._tell_at = 0.0  # when to log the next of them
        # Dead letters in flight; for the worker's thread alone.
        self._letters: collections.deque[tuple[Any, int]] = collections.deque()  # futures and bytes
        self._letter_bytes = 0
        # Dead letters to send again, or once their topic can be written: they are certainly not in it.
        self._withheld = Withheld()
        self._came_back: collections.deque[tuple[Letter, Partition, Segment]] = collections.deque()  # any thread adds
        self._waiting: dict[str, list[tuple[Letter, Partition, Segment]]] = {}
        self._waiting_bytes: collections.Counter[Partition] = collections.Counter()
        self._stamp_letters = False  # their topic refuses timestamps as old as those of their records
        self._reopen_at = 0.0
        self._lock = threading.Lock()
        self._in_flight: collections.Counter[Partition] = collections.Counter()  # labels; guarded by the lock

    # -- labels: the publisher's thread

    def publish(self, labels: Sequence[Labels]) -> None:
        """Send labels, once the lease is certain to hold: other workers may own the partitions by now."""
        while not self._may_write() and any(piece.owner.alive for piece in labels):
            time.sleep(HEARTBEAT_POLL_S)
        with self._producer.together():
            for piece in labels:
                self._send(piece)

    def _send(self, piece: Labels) -> None:
        owner = piece.owner
        self._note_in_flight(owner, len(piece))
        if not owner.alive:  # checked after counting: `nothing_in_flight` sees the one or the other
            self._note_in_flight(owner, -len(piece))
            return
        try:
            future = self._producer.send_bodies(piece.output, piece.bodies, int(1000 * time.time()))
        except (KafkaError, ValueError) as error:  # ValueError: a partition that the topic no longer has
            self._labels_refused(piece, error)
            return
        future.add_callback(self._labels_arrived, piece)
        future.add_errback(self._labels_refused, piece)

    def turn(self) -> float:
        """Replace a producer that has refused everything since Kafka refused one record for good."""
        if has_failed(self._producer) and time.monotonic() >= self._reopen_at:
            self._reopen_at = time.monotonic() + REOPEN_S
            self._reopen()
        return IDLE_S

    def _reopen(self) -> None:
        log.warning("the producer of labels has failed for good; opening another")
        try:
            replacement = self._open_labels()
        except IngestError as error:
            log.warning("it can't be opened yet: %s", error)
            return
        failed, self._producer = self._producer, replacement
        close_producer(failed, 0.0)

    def _labels_arrived(self, piece: Labels, last_offset: int) -> None:
        piece.owner.output.reached(last_offset)
        piece.acknowledged()
        self._note_in_flight(piece.owner, -len(piece))
        piece.arrived(self._metrics)  # last, because nothing depends on it

    def _labels_refused(self, piece: Labels, error: Exception) -> None:
        self.failed.append((piece.owner, error))
        self._note_in_flight(piece.owner, -len(piece))

    def _note_in_flight(self, owner: Partition, labels: int) -> None:
        with self._lock:
            self._in_flight[owner] += labels
            if not self._in_flight[owner]:
                del self._in_flight[owner]

    # -- dead letters: the worker's own thread

    def reject(self, letters: Sequence[Letter], partition: Partition) -> None:
        """Send dead letters."""
        segment = partition.ledger.promise(len(letters))
        for letter in letters:
            if not self._send_letter(letter, partition, segment):
                return  # the partition is recovered; each of the others might wait as long for its topic as this one

    def _send_letter(self, letter: Letter, partition: Partition, segment: Segment) -> bool:
        """Send a dead letter, or keep it until its topic can be written; False if it failed but may succeed later."""
        if self._withheld.holds(letter.topic, self._letter_producer.knows):  # `send` would block for ten seconds
            self._keep(letter, partition, segment)
            return True
        stamped_anew = self._stamp_letters
        try:
            future = self._letter_producer.send(letter.topic, **letter.fields(stamped_anew=stamped_anew))
        except (KafkaError, ValueError) as error:
            self._letter_refused(letter, partition, segment, stamped_anew, error)
            return isinstance(error, REFUSED_FOR_GOOD)
        future.add_callback(lambda _: self._letter_arrived(letter, partition, segment))
        future.add_errback(functools.partial(self._letter_refused, letter, partition, segment, stamped_anew))
        self._letters.append((future, letter.size))
        self._letter_bytes += letter.size
        return True

    def _keep(self, letter: Letter, partition: Partition, segment: Segment) -> None:
        self._waiting.setdefault(letter.topic, []).append((letter, partition, segment))
        self._waiting_bytes[partition] += letter.size
        partition.withheld += 1

    def _letter_arrived(self, letter: Letter, partition: Partition, segment: Segment) -> None:
        self._withheld.written(letter.topic)
        partition.ledger.acknowledge(segment)

    def _send_waiting(self) -> None:
        """Send the letters that are certainly not in their topic, if it can be written now."""
        while self._came_back:
            self._keep(*self._came_back.popleft())
        gone = {partition for partition in self._waiting_bytes if not partition.alive}
        for topic in list(self._waiting):
            if gone or not self._withheld.holds(topic, self._letter_producer.knows):
                for letter, partition, segment in self._waiting.pop(topic):
                    self._waiting_bytes[partition] -= letter.size
                    partition.withheld -= 1
                    if partition.alive:
                        self._send_letter(letter, partition, segment)
        for partition in gone:
            del self._waiting_bytes[partition]

    def letter_bytes_waiting(self, partition: Partition) -> int:
        """Return the bytes of dead letters in flight, and of withheld ones if this partition has some itself."""
        while self._letters and self._letters[0][0].is_done:
            self._letter_bytes -= self._letters.popleft()[1]
        withheld = self._waiting_bytes.total() if self._waiting_bytes[partition] else 0
        return self._letter_bytes + withheld

    def _letter_refused(
        self, letter: Letter, partition: Partition, segment: Segment, stamped_anew: bool, error: Exception
    ) -> None:
        """Recover the partition; but keep a letter that is certainly not written, and drop one refused for good."""
        is_stale = isinstance(error, InvalidTimestampError)
        self._stamp_letters |= is_stale
        may_not = isinstance(error, TopicAuthorizationFailedError)
        if may_not:
            self._withheld.failed(letter.topic, error)
        if may_not or isinstance(error, UnharmedError) or (is_stale and not stamped_anew):
            self._came_back.append((letter, partition, segment))
        elif isinstance(error, REFUSED_FOR_GOOD):
            give_up(letter, error, self._metrics)
            self._assignment.undeliverable.note(partition.source, [letter.offset])
            partition.ledger.acknowledge(segment)
        else:
            self._metrics.dead_letter_failures.inc()
            self.failed.append((partition, error))

    # -- commits

    def commit(self) -> None:
        """Commit the positions that may be committed, if the interval has passed."""
        self._send_waiting()
        now = time.monotonic()
        if now < self._due_at:
            return
        if self._assignment.consumer.group_metadata().state == MemberState.REBALANCING:
            return  # Kafka refuses commits during a rebalance
        self._due_at = now + self._interval_s
        points = self._points(list(self._assignment))
        if points:
            offsets = {partition.source: partition.as_commit(point) for partition, point in points.items()}
            self._assignment.consumer.commit_async(offsets, callback=functools.partial(self._take_in, points))

    def _points(self, partitions: Sequence[Partition]) -> dict[Partition, Point]:
        """Take snapshots; return the newest ones that may be committed."""
        seal_all(partitions)
        found = {partition: partition.ledger.committable() for partition in partitions}
        return {partition: point for partition, point in found.items() if point is not None}

    def committed(self, offsets: Offsets, response: object) -> None:
        """Record the result of the last commit of revoked partitions."""
        self._take_in({}, offsets, response)

    def _take_in(self, points: dict[Partition, Point], offsets: Offsets, response: object) -> None:
        """Record the result of a commit; called by the next poll or commit, or on the consumer's IO thread."""
        if isinstance(response, Exception):
            self._metrics.commits["failure"].inc()
            self._tell_of_refusal(offsets, response)
            return
        self._metrics.commits["success"].inc()
        if self._refused:
            log.info("commits are taken again; %d were not", self._refused)
            self._refused, self._tell_at = 0, 0.0
        for partition, point in points.items():
            self._assignment.committed(partition, point)

    def _tell_of_refusal(self, offsets: Offsets, error: Exception) -> None:
        """Log the first commit that fails, and from then on one a minute until one is taken."""
        self._refused += 1
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            log.warning("commit of %s failed: %s; trying on", names(offsets), remedy(error))

    def settled(self, partitions: Sequence[Partition]) -> bool:
        """Return whether all output of these partitions is acknowledged."""
        self._send_waiting()
        return all(partition.ledger.owed == 0 for partition in partitions)

    def last_offsets(self, partitions: Sequence[Partition]) -> Offsets:
        """Return the commits of partitions that are revoked."""
        return {partition.source: partition.as_commit(point) for partition, point in self._points(partitions).items()}

    def nothing_in_flight(self, sources: set[TopicPartition]) -> bool:
        """Return whether no label of these partitions may still land: a read-back before then would miss it."""
        with self._lock:
            return not any(partition.source in sources for partition in self._in_flight)

    def close(self, timeout_s: float) -> None:
        """Flush and close the producers."""
        deadline = time.monotonic() + timeout_s
        for producer in (self._producer, self._letter_producer):
            close_producer(producer, max(0.1, deadline - time.monotonic()))
