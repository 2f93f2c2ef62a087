"""The partitions that a worker holds: who comes, who goes, and where to begin to read."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import kafka
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from ingest.consumer import Hearing, fetch_position
from service import recovery
from service.kind import Block, OpenStream, Stream
from service.ledger import Ledger, Point
from service.metrics import PartitionReading

log = logging.getLogger(__name__)

RETRY_S = 1.0
LOOKUP_TIMEOUT_MS = 3_000


@dataclass(slots=True, eq=False)
class Partition:
    """An assigned partition. Its object stands for this assignment: what outlives it is dropped."""

    source: TopicPartition
    stream: Stream
    position: int
    live_from: int
    ledger: Ledger = field(default_factory=Ledger)
    alive: bool = True
    work: Iterator[Block] | None = None
    block: Block | None = None  # cut, but the core had no room for it yet
    paused: bool = False
    silence_checked_at: float = float("-inf")
    rewind: int = 0
    progress_ms: int | None = None

    def __post_init__(self) -> None:
        self.rewind = self.position

    @property
    def at_boundary(self) -> bool:
        """Whether every record before the position has been cut, so that a snapshot can be taken."""
        return self.work is None and self.position >= self.live_from

    def seal(self) -> None:
        """Take a snapshot here."""
        self.rewind = self.stream.rewind_to(self.position)
        self.ledger.seal(Point(self.position, self.rewind))


class Assignment:
    """The partitions held, and the newcomers of which it isn't known yet where to begin.

    ``assigned`` and ``released`` run on the consumer's IO thread while the worker's waits in ``poll``.
    """

    def __init__(self, open_stream: OpenStream, hearing: Hearing, rebalanced: Callable[[], None]) -> None:
        self.held: dict[TopicPartition, Partition] = {}
        self.consumer: kafka.KafkaConsumer = None  # set when it has been opened
        self._open_stream = open_stream
        self._hearing = hearing
        self._rebalanced = rebalanced
        self._newcomers: set[TopicPartition] = set()
        self._retry_at = 0.0

    def __iter__(self) -> Iterator[Partition]:
        return iter(self.held.values())

    def among(self, sources: set[TopicPartition]) -> list[Partition]:
        """Return those of these partitions that are held."""
        return [self.held[source] for source in sources & self.held.keys()]

    # -- coming

    def assigned(self, sources: set[TopicPartition]) -> None:
        """Note newcomers, which are paused."""
        self._rebalanced()
        self._newcomers |= sources

    def welcome(self) -> None:
        """Find where to begin to read the partitions that have just come, and let them be fetched."""
        if not self._newcomers or time.monotonic() < self._retry_at:
            return
        try:
            newcomers = sorted(self._newcomers)
            starts = self.consumer.beginning_offsets(newcomers, timeout_ms=LOOKUP_TIMEOUT_MS)
            ends = self.consumer.end_offsets(newcomers, timeout_ms=LOOKUP_TIMEOUT_MS)
            for source in newcomers:
                committed = self.consumer.committed(source, metadata=True, timeout_ms=LOOKUP_TIMEOUT_MS)
                at = None if committed is None else (committed.offset, committed.metadata)
                self._begin(source, recovery.plan(at, log_start=starts[source], log_end=ends[source]))
                self._newcomers.discard(source)
        except KafkaError as error:
            log.warning("can't find where to begin to read, will try again: %s", error)
            self._retry_at = time.monotonic() + RETRY_S

    def _begin(self, source: TopicPartition, plan: recovery.Plan) -> None:
        for warning in plan.warnings:
            log.warning("%s: %s", names({source}), warning)
        log.info("took %s: position %d, reading from %d", names({source}), plan.position, plan.rewind_to)
        self._hearing.forget({source})
        self.held[source] = Partition(
            source, self._open_stream(source), position=plan.rewind_to, live_from=plan.position
        )
        self.consumer.seek(source, plan.rewind_to)
        self.consumer.resume(source)

    # -- going

    def released(self, sources: set[TopicPartition]) -> None:
        """Let go of partitions that another worker has next."""
        self._rebalanced()
        log.info("handed back %s", names(sources))
        self._drop(sources)
        self._newcomers -= sources

    def start_over(self, partition: Partition, why: str) -> None:
        """Recover a partition from the log, as if it had just been assigned."""
        source = partition.source
        log.error("%s: %s; recovering from what was committed", names({source}), why)
        if self.is_assigned(partition):
            self.consumer.pause(source)
        self._drop({source})
        self._newcomers.add(source)
        self._retry_at = time.monotonic() + RETRY_S

    def _drop(self, sources: set[TopicPartition]) -> None:
        for source in sources & self.held.keys():
            self.held.pop(source).alive = False
        self._hearing.forget(sources)

    # -- between

    def is_assigned(self, partition: Partition) -> bool:
        """Tell whether the consumer still has it; it may be on its way out."""
        return partition.source in self.consumer.assignment()

    def pause(self, partition: Partition, pause: bool) -> None:
        """Stop fetching a partition, or fetch it again."""
        if pause == partition.paused:
            return
        partition.paused = pause
        if self.is_assigned(partition):
            (self.consumer.pause if pause else self.consumer.resume)(partition.source)

    def follow(self) -> None:
        """Move the positions beyond control records and aborted ones, which no poll returns."""
        for partition in self:
            position = fetch_position(self.consumer, partition.source)
            if position is not None:
                partition.position = max(partition.position, position)

    def seek_back(self) -> None:
        """Go back to what has been taken: a poll that fails may have moved on past records that it never gave."""
        for partition in self:
            if self.is_assigned(partition):
                self.consumer.seek(partition.source, partition.position)

    def read(self) -> Iterator[PartitionReading]:
        """Give what the gauges show; called on the scrape's thread."""
        for partition in list(self.held.values()):
            end = self._hearing.high_watermark(partition.source)
            yield PartitionReading(
                topic=partition.source.topic,
                partition=partition.source.partition,
                lag=max(0, end - partition.position) if end is not None else 0,
                rewind=partition.position - partition.rewind,
                progress_s=None if partition.progress_ms is None else partition.progress_ms / 1000,
            )


def names(sources: Iterable[Any]) -> str:
    """Name partitions for a log line."""
    return ", ".join(f"{source.topic}[{source.partition}]" for source in sorted(sources)) or "no partition"
