"""From records to frames: polled records go through their partition's stream to the core, while there is room."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np

from inference.core import Result
from inference.lanes import CoreError, Lane
from ingest.record_batches.record_columns import Records
from service.delivery.assignment import Assignment
from service.delivery.partition import Partition
from service.delivery.protocol import Delivery, Ticket, letter_of
from service.kind import Block
from service.monitoring.metrics import WorkerMetrics
from service.pipeline.losses import Losses

SILENCE_CHECK_S = 0.1
# For so long a partition is cut into frames at once, or for one block if that takes longer. Rebalances, signals and
# /livez wait meanwhile.
CUT_S = 0.2
# Reading pauses if more labels are in flight to Kafka than so many times the core's queue holds frames.
OWED_QUEUES = 4
# Likewise for dead letters, in bytes: they are as large as their records, so 16,384 of them may be gigabytes.
MAX_LETTER_BYTES = 64 << 20


class Feed:
    """Passes records to streams and frames to the core; pauses a partition while there is no room, and at its end."""

    def __init__(
        self,
        assignment: Assignment,
        lane: Lane,
        delivery: Delivery,
        publish: Callable[[Result], None],
        dead_letter_topic: str,
        metrics: WorkerMetrics,
        losses: Losses,
    ) -> None:
        self._assignment = assignment
        self._lane = lane
        self._delivery = delivery
        self._publish = publish
        self._dead_letter_topic = dead_letter_topic
        self._metrics = metrics
        self._losses = losses

    def take(self, partition: Partition, records: Records) -> None:
        """Take in polled records of a partition, up to its end."""
        records = records[: int(np.searchsorted(records.offset, partition.end))]
        now = time.monotonic()
        live_at = int(np.searchsorted(records.offset, partition.live_from))
        if live_at:
            self._rebuild(partition, records[:live_at], now)
        if live_at < len(records):
            self._push(partition, records[live_at:], now)
        self.advance(partition)

    def _rebuild(self, partition: Partition, records: Records, now: float) -> None:
        """Replay records before the committed position; ``Partition`` says when what they close is published."""
        self._metrics.recovered.inc(len(records))
        _, blocks = partition.stream.push(records, now, mute=not partition.publishes_replay)
        if partition.publishes_replay:
            partition.work = self._unpublished(partition, blocks)
            return
        for block in blocks:
            if partition.published:
                partition.published.forget(partition.stream.identities(block))

    def _push(self, partition: Partition, records: Records, now: float) -> None:
        metrics, source = self._metrics, partition.source
        metrics.records[source.topic].inc(len(records))
        partition.progress_ms = int(records.timestamp[-1])
        started = time.perf_counter()
        rejections, blocks = partition.stream.push(records, now, mute=False)
        metrics.stages["decode"].observe(time.perf_counter() - started)
        replayed = partition.work or ()
        partition.work = itertools.chain(replayed, self._timed(self._unpublished(partition, blocks)))
        for rejection in rejections:
            metrics.rejected[rejection.reason].inc()
        if rejections:
            self._losses.refused(source, records, rejections)
        letters = [
            letter_of(records[refused.record], refused, source, self._dead_letter_topic)
            for refused in rejections
            if int(records.offset[refused.record]) not in partition.reported
        ]
        if letters:
            self._delivery.reject(letters, partition)

    def _unpublished(self, partition: Partition, blocks: Iterator[Block]) -> Iterator[Block]:
        """Pass on the rows of blocks that have not been published; remember those that silence closes."""
        stream, published = partition.stream, partition.published
        for block in blocks:
            identities = stream.identities(block) if block.silent or published else []
            unpublished = (
                [row for row, identity in enumerate(identities) if identity not in published] if published else None
            )
            if block.silent:
                published.remember(identities, partition.output.end, stream.last_records(block))
            else:
                published.forget(identities)
            if unpublished is None or len(unpublished) == len(identities):
                yield block
                continue
            stream.count_duplicates(len(identities) - len(unpublished))
            if unpublished:
                yield stream.select(block, np.array(unpublished))

    def _timed(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Pass blocks on lazily, and observe how long it took to cut all of them."""
        spent, started = 0.0, time.perf_counter()
        for block in blocks:
            spent += time.perf_counter() - started
            yield block
            started = time.perf_counter()
        self._metrics.stages["window"].observe(spent + time.perf_counter() - started)

    def advance(self, partition: Partition, owed: int | None = None) -> bool:
        """Submit the partition's frames to the core; if there is no room or time for more, pause it and return False.

        ``owed`` is a recent result of `owed`, for partitions with nothing to submit: calling it for each would cost as
        much as the square of their number.
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
        # Waiting dead letters don't block it: exactly once, they are sent only when the block has been cut to its end.
        if self._owes_much():
            return False
        rows = len(block.frames)
        segment = partition.ledger.promise(rows)
        with contextlib.suppress(CoreError):  # the core has died; the next turn ends the worker
            if self._lane.submit(block.frames, Ticket(block, partition, segment, self._publish)):
                return True
        partition.ledger.acknowledge(segment, rows)
        return False

    def owed(self) -> int:
        """Return how many labels and dead letters of all partitions are in flight to Kafka."""
        return sum(other.ledger.owed - other.withheld for other in self._assignment)

    def _owes_much(self, owed: int | None = None) -> bool:
        """Return whether too much is in flight to Kafka to add more; the producer itself has no limit."""
        return (self.owed() if owed is None else owed) >= OWED_QUEUES * self._lane.capacity

    def notice_silence(self, partition: Partition, caught_up_at: float, owed: int | None = None) -> None:
        """Close the windows of devices that are silent at ``caught_up_at``; then take a snapshot if there were any.

        Does nothing within `SILENCE_CHECK_S` of the last check. ``owed`` is as for `advance`.
        """
        now = time.monotonic()
        if not partition.at_boundary or now - partition.silence_checked_at < SILENCE_CHECK_S:
            return
        partition.silence_checked_at = now
        active = len(partition.stream)
        partition.work = self._unpublished(partition, partition.stream.fall_silent(caught_up_at))
        if self.advance(partition, owed) and len(partition.stream) < active:
            partition.seal()
