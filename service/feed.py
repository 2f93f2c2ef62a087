"""Records to frames: what a poll gave goes through its partition's stream to the core, as far as there is room."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np

from inference.core import Result
from inference.lanes import CoreError, Lane
from ingest.record_columns import Records
from service.delivery.assignment import Assignment
from service.delivery.partition import Partition
from service.delivery.protocol import Delivery, Ticket, letter_of
from service.kind import Block
from service.metrics import WorkerMetrics

SILENCE_CHECK_S = 0.1
# What a partition may be cut for at once, besides the block that takes longer: rebalances, signals and /livez wait.
CUT_S = 0.2
# Labels on their way to Kafka, in queues' worth of frames, beyond which reading pauses.
OWED_QUEUES = 4
# Likewise of dead letters, which are as large as their records: 16,384 of them may be gigabytes.
MAX_LETTER_BYTES = 64 << 20


class Feed:
    """Hands records to streams and frames to the core; a partition is paused while there is no room, and at its end."""

    def __init__(
        self,
        assignment: Assignment,
        lane: Lane,
        delivery: Delivery,
        publish: Callable[[Result], None],
        dead_letter_topic: str,
        metrics: WorkerMetrics,
    ) -> None:
        self._assignment = assignment
        self._lane = lane
        self._delivery = delivery
        self._publish = publish
        self._dead_letter_topic = dead_letter_topic
        self._metrics = metrics

    def take(self, partition: Partition, records: Records) -> None:
        """Take in what a poll gave of a partition, up to where it ends."""
        records = records[: int(np.searchsorted(records.offset, partition.end))]
        now = time.monotonic()
        live_at = int(np.searchsorted(records.offset, partition.live_from))
        if live_at:
            self._rebuild(partition, records[:live_at], now)
        if live_at < len(records):
            self._push(partition, records[live_at:], now)
        self.advance(partition)

    def _rebuild(self, partition: Partition, records: Records, now: float) -> None:
        """Replay records that were settled before; see ``Partition.aloud`` for when what they close is said."""
        self._metrics.recovered.inc(len(records))
        _, blocks = partition.stream.push(records, now, mute=not partition.aloud)
        if partition.aloud:
            partition.work = self._unsaid(partition, blocks)
            return
        for block in blocks:
            if partition.said:
                partition.said.forget(partition.stream.identities(block))

    def _push(self, partition: Partition, records: Records, now: float) -> None:
        metrics, source = self._metrics, partition.source
        metrics.records[source.topic].inc(len(records))
        partition.progress_ms = int(records.timestamp[-1])
        started = time.perf_counter()
        rejections, blocks = partition.stream.push(records, now, mute=False)
        metrics.stages["decode"].observe(time.perf_counter() - started)
        replayed = partition.work or ()
        partition.work = itertools.chain(replayed, self._timed(self._unsaid(partition, blocks)))
        for rejection in rejections:
            metrics.rejected[rejection.reason].inc()
        letters = [
            letter_of(records[refused.record], refused, source, self._dead_letter_topic)
            for refused in rejections
            if int(records.offset[refused.record]) not in partition.reported
        ]
        if letters:
            self._delivery.reject(letters, partition)

    def _unsaid(self, partition: Partition, blocks: Iterator[Block]) -> Iterator[Block]:
        """Pass on the rows of blocks that have not been said; remember those that a silence closes."""
        stream, said = partition.stream, partition.said
        for block in blocks:
            identities = stream.identities(block) if block.silent or said else []
            unsaid = [row for row, identity in enumerate(identities) if identity not in said] if said else None
            if block.silent:
                said.remember(identities, partition.output.end, stream.last_records(block))
            else:
                said.forget(identities)
            if unsaid is None or len(unsaid) == len(identities):
                yield block
                continue
            stream.found_said(len(identities) - len(unsaid))
            if unsaid:
                yield stream.select(block, np.array(unsaid))

    def _timed(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Pass blocks on as they are asked for, and observe how long all of them took to be cut."""
        spent, started = 0.0, time.perf_counter()
        for block in blocks:
            spent += time.perf_counter() - started
            yield block
            started = time.perf_counter()
        self._metrics.stages["window"].observe(spent + time.perf_counter() - started)

    def advance(self, partition: Partition, owed: int | None = None) -> bool:
        """Hand the partition's frames to the core; False, and it is paused, if there is no room or time for more.

        ``owed`` is what `owed` said a moment ago, for one with nothing to hand on: asked for each, it costs as the
        square of their number.
        """
        until = time.monotonic() + CUT_S
        while partition.work is not None:
            if partition.block is None:
                partition.block = next(partition.work, None)
            if partition.block is None:
                partition.work = None
            elif time.monotonic() < until and self._submit(partition, partition.block):
                partition.block, owed = None, None
            else:
                self._assignment.pause(partition, True)
                return False
        full = self._owes_much(owed) or self._delivery.letter_bytes_waiting(partition) >= MAX_LETTER_BYTES
        self._assignment.pause(partition, full or partition.ended)
        return not full

    def _submit(self, partition: Partition, block: Block) -> bool:
        # Its dead letters keep nothing of it back: exactly once, they leave only when it has been cut to its end.
        if self._owes_much():
            return False
        rows = len(block.frames)
        segment = partition.ledger.promise(rows)
        with contextlib.suppress(CoreError):  # it has died, and the next turn ends the worker for it
            if self._lane.submit(block.frames, Ticket(block, partition, segment, self._publish)):
                return True
        partition.ledger.acknowledge(segment, rows)
        return False

    def owed(self) -> int:
        """Return how many labels and dead letters of all partitions are on their way to Kafka."""
        return sum(other.ledger.owed - other.withheld for other in self._assignment)

    def _owes_much(self, owed: int | None = None) -> bool:
        """Whether so much is on its way to Kafka that nothing may be added; the producer has no bound of its own."""
        return (self.owed() if owed is None else owed) >= OWED_QUEUES * self._lane.capacity

    def notice_silence(self, partition: Partition, caught_up_at: float, owed: int | None = None) -> None:
        """Close what has been silent up to ``caught_up_at``, and take a snapshot if anything was; now and then.

        ``owed`` is as for `advance`.
        """
        now = time.monotonic()
        if not partition.at_boundary or now - partition.silence_checked_at < SILENCE_CHECK_S:
            return
        partition.silence_checked_at = now
        active = len(partition.stream)
        partition.work = self._unsaid(partition, partition.stream.fall_silent(caught_up_at))
        if self.advance(partition, owed) and len(partition.stream) < active:
            partition.seal()
