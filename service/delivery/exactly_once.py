"""Delivery exactly once: labels, dead letters and positions in one transaction after another (KIP-98, KIP-447).

A transaction begins with the first label, gathers more for a moment, and ends with the positions that may be committed
with it. What comes while it ends waits for the next one. All of this happens on the publisher's thread.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka.structs import ConsumerGroupMetadata, TopicPartition

from ingest.client.errors import IngestError
from ingest.producer.transactions import (
    AbortableError,
    FencedError,
    RefusedError,
    SpoiltError,
    StaleError,
    TooLargeError,
    Transactions,
    UnwritableError,
)
from service.delivery.assignment import Assignment
from service.delivery.ledger import Point
from service.delivery.letter import Letter
from service.delivery.partition import Partition
from service.delivery.protocol import Labels, Offsets, give_up, seal_all
from service.delivery.withheld import Withheld
from service.monitoring.metrics import WorkerMetrics

log = logging.getLogger(__name__)

# A transaction ends when it is this old, or holds so many labels (a piece isn't split). Shorter ones cost throughput,
# longer ones latency, because a read-committed reader sees a label only when its transaction has ended.
GATHER_S = 0.005
MOST_LABELS = 20_000
# Dead letters in a transaction, unless one segment has more. They are sent one by one, about 10,000 a second.
MOST_LETTERS = 5_000
# So many bytes of dead letters don't wait for the commit interval. Beyond a few times that, reading pauses.
HURRIED_BYTES = 16 << 20
IDLE_S = 0.5
REOPEN_S = 1.0
# Wait for so long after an abort: this member learns of a change in its group by a heartbeat.
ABORTED_S = 0.1


@dataclass(slots=True, eq=False)
class _Attempt:
    """The open transaction. ``futures`` holds the future of each piece of ``labels``, in the same order."""

    group: ConsumerGroupMetadata
    began_at: float
    labels: list[Labels] = field(default_factory=list)
    futures: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.labels))


class ExactlyOnce:
    """Sends with one transactional producer. An abort keeps the labels and sends them again; a fence recovers all."""

    def __init__(
        self,
        assignment: Assignment,
        metrics: WorkerMetrics,
        *,
        open_transactions: Callable[[], Transactions],
        wake: Callable[[], None],
        commit_interval_s: float,
    ) -> None:
        self.failed: collections.deque[tuple[Partition, Exception]] = collections.deque()
        self._assignment = assignment
        self._metrics = metrics
        self._open_transactions = open_transactions
        self._wake = wake
        self._interval_s = commit_interval_s
        self._transactions: Transactions | None = open_transactions()
        self._reopen_at = 0.0
        self._begin_at = 0.0
        self._unsent: list[Labels] = []
        self._attempt: _Attempt | None = None
        self._commit_at = time.monotonic()
        self._hurried = threading.Event()
        self._had_letters: dict[Partition, int] = {}
        self._stamp_letters = False  # their topic refuses timestamps as old as those of their records
        self._letter_topics: set[str] = set()  # replaced as a whole, never changed
        self._with_letters: set[Partition] = set()  # until the next turn, also some that have none any more
        self._withheld = Withheld()
        self._refused = False  # letters of the last transaction were: the next one has none if it has labels
        # Partitions with labels in the open transaction; replaced as a whole, never changed.
        self._writing: set[Partition] = set()

    # -- the publisher's thread

    def publish(self, labels: Sequence[Labels]) -> None:
        """Queue labels; the next turn sends them."""
        self._unsent += labels

    def turn(self) -> float:
        """Send what waits, and end the transaction when it is due."""
        if self._transactions is None and not self._reopen():
            return REOPEN_S
        try:
            self._advance()
        except AbortableError as error:
            self._abort(error)
        except FencedError as error:
            self._fence(error)
        return self._wait_s()

    def _advance(self) -> None:
        now, hurried = time.monotonic(), self._hurried.is_set()
        self._hurried.clear()
        self._unsent = [piece for piece in self._unsent if piece.owner.alive]
        idle_commit = hurried or now >= self._commit_at
        if idle_commit:
            self._commit_at = now + self._interval_s
        if self._attempt is None and (self._unsent or (idle_commit and self._due())):
            self._begin()
        attempt = self._attempt
        if attempt is None:
            return
        self._send_unsent(attempt)
        age_s = now - attempt.began_at
        if idle_commit or age_s >= GATHER_S or len(attempt) >= MOST_LABELS:
            self._end(attempt)

    def _wait_s(self) -> float:
        if self._attempt is not None:
            return max(0.001, GATHER_S - (time.monotonic() - self._attempt.began_at))
        if self._unsent:
            return 0.001 if self._group() is not None and time.monotonic() >= self._begin_at else 0.02
        return min(IDLE_S, max(0.01, self._commit_at - time.monotonic()))

    def _group(self) -> ConsumerGroupMetadata | None:
        """Return the member that the broker is to check (KIP-447); None for no member, for which it checks nothing."""
        group = self._assignment.consumer.group_metadata()
        return group if group.generation_id >= 0 and group.member_id else None

    def _begin(self) -> None:
        group = self._group()
        if group is not None and self._transactions is not None and time.monotonic() >= self._begin_at:
            self._transactions.begin()
            self._attempt = _Attempt(group, time.monotonic())

    def _send_unsent(self, attempt: _Attempt) -> None:
        assert self._transactions is not None
        room, pieces = MOST_LABELS - len(attempt), 0
        while pieces < len(self._unsent) and room > 0:
            room -= len(self._unsent[pieces])
            pieces += 1
        sending, self._unsent = self._unsent[:pieces], self._unsent[pieces:]
        attempt.labels += sending  # before sending, so that an abort finds them whatever happens
        self._writing = {piece.owner for piece in attempt.labels}
        for piece in sending:
            now_ms = int(1000 * time.time())
            attempt.futures.append(self._transactions.send_bodies(piece.output, piece.bodies, now_ms))

    # -- the end of a transaction

    def _end(self, attempt: _Attempt) -> None:
        """Commit the transaction, with a position for every partition that it has labels of."""
        assert self._transactions is not None
        try:
            self._transactions.await_sends(attempt.futures)
        except (RefusedError, UnwritableError) as error:
            raise FencedError(f"a label is refused by its topic: {error}") from error
        for piece, future in zip(attempt.labels, attempt.futures, strict=True):
            piece.owner.output.reached(future.value)
            piece.acknowledged()
        committed = False
        try:
            committed = self._commit(attempt)
        finally:
            if not committed:
                for piece in attempt.labels:
                    piece.taken_back()

    def _commit(self, attempt: _Attempt) -> bool:
        assert self._transactions is not None
        due = self._due(0 if self._refused and attempt.labels else MOST_LETTERS)
        self._refused = False
        self._had_letters = {partition: len(letters) for partition, (_, letters) in due.items()}
        points = {partition: point for partition, (point, _) in due.items()}
        self._send_letters({partition: letters for partition, (_, letters) in due.items()})
        writing = {piece.owner for piece in attempt.labels}
        if not all(partition.alive for partition in writing | points.keys()):
            raise AbortableError("a partition has gone to another worker")
        offsets = {partition.source: partition.as_commit(point) for partition, point in points.items()}
        for partition in writing - points.keys():
            offsets[partition.source] = partition.unchanged()
        if not offsets:
            raise AbortableError("there is nothing to commit any more")
        self._transactions.commit(offsets, attempt.group)
        self._metrics.transactions["committed"].inc()
        self._metrics.transaction_time.observe(time.monotonic() - attempt.began_at)
        self._metrics.commits["success"].inc()
        for partition, (point, letters) in due.items():
            partition.ledger.drop_letters(letters)
            self._assignment.committed(partition, point)
        self._commit_at = time.monotonic() + self._interval_s
        self._forget_attempt()
        for piece in attempt.labels:
            piece.arrived(self._metrics)
        return True

    def _due(self, room: int = MOST_LETTERS) -> dict[Partition, tuple[Point, list[Letter]]]:
        """Return the newest committable snapshot of each partition and its dead letters, at most ``room`` of them.

        Partitions that had many letters in the last transaction come last in the next one.
        """
        found = dict[Partition, tuple[Point, list[Letter]]]()
        for partition in sorted(self._assignment, key=lambda partition: self._had_letters.get(partition, 0)):
            due = partition.ledger.due(room) if partition.alive else None
            if due is not None and any(map(self._is_withheld, {letter.topic for letter in due[1]})):
                due = partition.ledger.due(0)  # up to the first letter: nothing else waits for such a topic
            if due is not None:
                found[partition] = due
                room = max(0, room - len(due[1]))
        return found

    def _is_withheld(self, topic: str) -> bool:
        return self._transactions is not None and self._withheld.holds(topic, self._transactions.knows)

    def _send_letters(self, due: Mapping[Partition, Sequence[Letter]]) -> None:
        """Send the dead letters of records that the transaction's positions pass; drop what its topic never takes.

        A refused letter ends the transaction, because Kafka reports it only then. The others are sent again without it,
        or all of them with new timestamps if those were the reason.
        """
        assert self._transactions is not None
        sent, gone = list[tuple[Partition, Letter, Any]](), set[Letter]()
        for partition, letter in ((partition, letter) for partition, letters in due.items() for letter in letters):
            try:
                fields = letter.fields(stamped_anew=self._stamp_letters)
                sent.append((partition, letter, self._transactions.send(letter.topic, **fields)))
            except SpoiltError:
                break  # an earlier one has the reason
            except UnwritableError as error:
                self._withheld.failed(letter.topic, error)
                raise
            except RefusedError as error:
                self._give_up(partition, [(letter, error)])
                gone.add(letter)
        refusals = dict[Letter, RefusedError]()
        for _, letter, future in sent:
            try:
                self._transactions.await_send(future, letter.topic)
            except RefusedError as error:
                refusals[letter] = error
            except UnwritableError as error:
                self._withheld.failed(letter.topic, error)
                raise
            except FencedError:
                if not refusals:
                    raise
        if refusals:
            left = {owner: [letter for letter in letters if letter not in gone] for owner, letters in due.items()}
            self._take_in_refusals(refusals, left)
        for topic in {letter.topic for _, letter, _ in sent}:
            self._withheld.written(topic)

    def _take_in_refusals(
        self, refusals: Mapping[Letter, RefusedError], due: Mapping[Partition, Sequence[Letter]]
    ) -> None:
        """Drop refused letters and those that would be refused alike; raise the error that ends the transaction."""
        self._refused = True
        own = {letter: error for letter, error in refusals.items() if not isinstance(error, SpoiltError)}
        if not own:
            raise FencedError(f"a dead letter was refused, and none knows which: {next(iter(refusals.values()))}")
        self._stamp_letters |= any(isinstance(error, StaleError) for error in own.values())
        lasting = {letter: error for letter, error in own.items() if not isinstance(error, StaleError)}
        telling = _telling(lasting)
        for partition, letters in due.items():
            whys = [(letter, lasting.get(letter) or _why(letter, telling)) for letter in letters]
            self._give_up(partition, [(letter, error) for letter, error in whys if error is not None])
        raise next(iter(own.values()))

    def _give_up(self, partition: Partition, letters: Sequence[tuple[Letter, RefusedError]]) -> None:
        for letter, error in letters:
            give_up(letter, error, self._metrics)
        partition.ledger.drop_letters([letter for letter, _ in letters])
        self._assignment.undeliverable.note(partition.source, [letter.offset for letter, _ in letters])

    def _abort(self, error: AbortableError) -> None:
        """Abort the transaction; what it held is sent again if this worker still has the partition."""
        assert self._transactions is not None
        log.info("a transaction is aborted, and its labels are sent again for partitions still held: %s", error)
        attempt = self._attempt
        try:
            if not isinstance(error, UnwritableError):
                self._transactions.abort()
        except FencedError as fence:
            self._fence(fence)
            return
        if isinstance(error, (RefusedError, UnwritableError)):
            self._transactions.close(0.0)
            self._transactions, self._reopen_at = None, 0.0
        self._metrics.transactions["aborted"].inc()
        self._begin_at = time.monotonic() + ABORTED_S
        if attempt is not None:
            self._unsent = attempt.labels + self._unsent
        self._forget_attempt()

    def _fence(self, error: Exception) -> None:
        """Give up the producer: how its transaction ended is unknown. The recovery reads back what was published."""
        log.error("exactly once goes on with another producer, and every partition is recovered: %s", error)
        self._metrics.transactions["fenced"].inc()
        transactions, self._transactions = self._transactions, None
        if transactions is not None:
            transactions.close(0.0)
        self._unsent = []
        for partition in self._assignment:
            partition.alive = False
            self.failed.append((partition, error))
        self._forget_attempt()

    def _forget_attempt(self) -> None:
        self._attempt = None
        self._writing = set()

    def _reopen(self) -> bool:
        if time.monotonic() < self._reopen_at:
            return False
        self._reopen_at = time.monotonic() + REOPEN_S
        try:
            self._transactions = self._open_transactions()
            self._look_for(self._letter_topics)
        except IngestError as error:
            log.warning("%s; trying on", error)
        return self._transactions is not None

    # -- the worker's thread, and the consumer's IO thread when partitions are revoked

    def reject(self, letters: Sequence[Letter], partition: Partition) -> None:
        """Keep dead letters back until a transaction commits the position after their records."""
        partition.ledger.keep_back(list(letters))
        self._with_letters.add(partition)
        new = {letter.topic for letter in letters} - self._letter_topics
        self._letter_topics = self._letter_topics | new
        self._look_for(new)

    def _look_for(self, topics: Iterable[str]) -> None:
        """Request the topics' metadata without waiting, so that it is there when they are to be written."""
        transactions = self._transactions
        if transactions is not None:
            for topic in topics:
                transactions.knows(topic)

    def letter_bytes_waiting(self, partition: Partition) -> int:
        """Return the bytes of dead letters kept back; while some wait for a topic, only if it has some itself."""
        if self._withheld.holds_any() and not partition.ledger.letter_bytes:
            return 0
        return self._letter_bytes()

    def commit(self) -> None:
        """Take snapshots; the publisher's thread commits them, at once if many bytes of dead letters wait."""
        self._seal(self._assignment)
        if self._letter_bytes() >= HURRIED_BYTES and not self._withheld.holds_any():
            self._hurry()

    def _seal(self, partitions: Iterable[Partition]) -> None:
        seal_all(partitions)
        self._with_letters = {partition for partition in self._assignment if partition.ledger.letter_bytes}

    def _letter_bytes(self) -> int:
        # Sums over few partitions, because it is called for each of what may be thousands.
        return sum(partition.ledger.letter_bytes for partition in self._with_letters)

    def _hurry(self) -> None:
        self._hurried.set()
        self._wake()

    def settled(self, partitions: Sequence[Partition]) -> bool:
        """End the transaction now; return whether nothing of these partitions is left to commit."""
        self._seal(partitions)
        if all(partition.ledger.settled and partition not in self._writing for partition in partitions):
            return True
        self._hurry()
        return False

    def last_offsets(self, partitions: Sequence[Partition]) -> Offsets:
        """Return nothing: all positions are committed in transactions."""
        return {}

    def committed(self, offsets: Offsets, response: object) -> None:
        """Do nothing: see ``last_offsets``."""

    def nothing_in_flight(self, sources: set[TopicPartition]) -> bool:
        """Return whether the open transaction holds nothing of these partitions."""
        return not any(partition.source in sources for partition in self._writing)

    def close(self, timeout_s: float) -> None:
        """Close the producer; a transaction that is still open is left to its timeout."""
        if self._transactions is not None:
            self._transactions.close(timeout_s)


def _telling(refusals: Mapping[Letter, RefusedError]) -> list[tuple[Letter, RefusedError]]:
    """Return the refusals that tell which other letters will be refused, at most two of each topic."""
    too_large, keyless = dict[str, tuple[Letter, RefusedError]](), dict[str, tuple[Letter, RefusedError]]()
    for letter, error in refusals.items():
        if not isinstance(error, TooLargeError):
            if letter.key is None:
                keyless[letter.topic] = letter, error
        elif letter.topic not in too_large or letter.record_bytes < too_large[letter.topic][0].record_bytes:
            too_large[letter.topic] = letter, error
    return [*too_large.values(), *keyless.values()]


def _why(letter: Letter, telling: Sequence[tuple[Letter, RefusedError]]) -> RefusedError | None:
    """Return the error for which a letter will be refused; None if there is none."""
    return next((error for refused, error in telling if _likewise(letter, refused, error)), None)


def _likewise(letter: Letter, refused: Letter, error: RefusedError) -> bool:
    """Return whether a letter will be refused like another one: it is as large, or has no key either."""
    if letter.topic != refused.topic:
        return False
    if isinstance(error, TooLargeError):
        return letter.record_bytes >= refused.record_bytes
    return letter.key is None
