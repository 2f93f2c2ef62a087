"""Records to frames: what a poll gave goes through its partition's stream to the core, as far as there is room."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from inference.core import CoreError, Lane
from service.assignment import Assignment, Partition
from service.kind import Block
from service.metrics import WorkerMetrics
from service.publisher import Publisher, Ticket

SILENCE_CHECK_S = 0.1
# What a partition may be cut for at once, besides the block that takes longer: rebalances, signals and /livez wait.
CUT_S = 0.2
# Labels on their way to Kafka, in queues' worth of frames, beyond which reading pauses.
OWED_QUEUES = 4
# Likewise of dead letters, which are as large as their records: 16,384 of them may be gigabytes.
MAX_LETTER_BYTES = 64 << 20


class Feed:
    """Hands records to streams and frames to the core; a partition for which there is no room is paused."""

    def __init__(self, assignment: Assignment, lane: Lane, publisher: Publisher, metrics: WorkerMetrics) -> None:
        self._assignment = assignment
        self._lane = lane
        self._publisher = publisher
        self._metrics = metrics

    def take(self, partition: Partition, records: Sequence[Any]) -> None:
        """Take in what a poll gave of a partition."""
        now = time.monotonic()
        live_at = next(
            (row for row, record in enumerate(records) if record.offset >= partition.live_from), len(records)
        )
        if live_at:
            self._rebuild(partition, records[:live_at], now)
        if live_at < len(records):
            self._push(partition, records[live_at:], now)
            self.advance(partition)

    def _rebuild(self, partition: Partition, records: Sequence[Any], now: float) -> None:
        _, closed_before = partition.stream.push(records, now, mute=True)
        for _ in closed_before:
            pass
        self._metrics.recovered.inc(len(records))

    def _push(self, partition: Partition, records: Sequence[Any], now: float) -> None:
        metrics = self._metrics
        metrics.records[partition.source.topic].inc(len(records))
        partition.progress_ms = records[-1].timestamp
        started = time.perf_counter()
        rejections, blocks = partition.stream.push(records, now, mute=False)
        metrics.stages["decode"].observe(time.perf_counter() - started)
        partition.work = self._timed(blocks)
        segment = partition.ledger.promise(len(rejections))
        for rejection in rejections:
            metrics.rejected[rejection.reason].inc()
            self._publisher.send_dead_letter(records[rejection.record], rejection, partition, segment)

    def _timed(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Pass blocks on as they are asked for, and observe how long all of them took to be cut."""
        spent, started = 0.0, time.perf_counter()
        for block in blocks:
            spent += time.perf_counter() - started
            yield block
            started = time.perf_counter()
        self._metrics.stages["window"].observe(spent + time.perf_counter() - started)

    def advance(self, partition: Partition) -> bool:
        """Hand the partition's frames to the core; False, and it is paused, if there is no room or time for more."""
        until = time.monotonic() + CUT_S
        while partition.work is not None:
            if partition.block is None:
                partition.block = next(partition.work, None)
            if partition.block is None:
                partition.work = None
            elif time.monotonic() < until and self._submit(partition, partition.block):
                partition.block = None
            else:
                self._assignment.pause(partition, True)
                return False
        full = self._owes_much()  # dead letters alone may pile up too
        self._assignment.pause(partition, full)
        return not full

    def _submit(self, partition: Partition, block: Block) -> bool:
        if self._owes_much():
            return False
        rows = len(block.frames)
        segment = partition.ledger.promise(rows)
        with contextlib.suppress(CoreError):  # it has died, and the next turn ends the worker for it
            if self._lane.submit(block.frames, Ticket(block, partition, segment, self._publisher.put)):
                return True
        segment.owed -= rows
        return False

    def _owes_much(self) -> bool:
        """Whether so much is on its way to Kafka that nothing may be added; the producer has no bound of its own."""
        owed = sum(partition.ledger.owed for partition in self._assignment)
        return owed >= OWED_QUEUES * self._lane.capacity or self._publisher.letter_bytes_waiting() >= MAX_LETTER_BYTES

    def notice_silence(self, partition: Partition, heard_until: float) -> None:
        """Close what has been silent up to ``heard_until``, and take a snapshot if anything was; now and then."""
        now = time.monotonic()
        if not partition.at_boundary or now - partition.silence_checked_at < SILENCE_CHECK_S:
            return
        partition.silence_checked_at = now
        active = len(partition.stream)
        partition.work = partition.stream.fall_silent(heard_until)
        if self.advance(partition) and len(partition.stream) < active:
            partition.seal()
