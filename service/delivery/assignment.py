"""The partitions that a worker holds: who comes, who goes, and where to begin to read."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import kafka
from kafka.structs import TopicPartition

from ingest.consumer import PARTITION_RECORDS, fetch_position
from ingest.fetch_progress import FetchProgress
from service.delivery.given_up import GivenUp
from service.delivery.ledger import Point
from service.delivery.looking_up import Request
from service.delivery.partition import Partition
from service.delivery.rereading import Found
from service.delivery.said import Said
from service.kind import OpenStream
from service.metrics import PartitionReading, WorkerMetrics

log = logging.getLogger(__name__)

RETRY_S = 1.0
LONGEST_RETRY_S = 30.0


class Assignment:
    """The partitions held, and the newcomers of which it isn't known yet where to begin.

    ``assigned`` and ``released`` run on the consumer's IO thread while the worker's waits in ``poll``. ``ask`` has
    somebody find out about a newcomer; what was found comes to ``begin``.
    """

    def __init__(
        self,
        open_stream: OpenStream,
        rules: str,
        fetch_progress: FetchProgress,
        ask: Callable[[Request], None],
        metrics: WorkerMetrics,
    ) -> None:
        self.held: dict[TopicPartition, Partition] = {}
        self.consumer: kafka.KafkaConsumer = None  # set when it has been opened
        self.given_up = GivenUp()
        self._open_stream = open_stream
        self._rules = rules
        self._fetch_progress = fetch_progress
        self._ask = ask
        self._metrics = metrics
        self._newcomers: dict[TopicPartition, Request] = {}
        # Of output, in a row: how many, and where the partition stood at the last. Until that is committed, what
        # failed may fail again.
        self._failures: dict[TopicPartition, tuple[int, int]] = {}

    def __iter__(self) -> Iterator[Partition]:
        return iter(list(self.held.values()))

    def among(self, sources: set[TopicPartition]) -> list[Partition]:
        """Return those of these partitions that are held."""
        return [self.held[source] for source in sources & self.held.keys()]

    # -- coming

    def assigned(self, sources: set[TopicPartition]) -> None:
        """Note newcomers, which are paused."""
        self._metrics.rebalances.inc()
        for source in sources:
            self._find(source, wait_s=0.0)

    def _find(self, source: TopicPartition, wait_s: float) -> None:
        now = time.monotonic()
        request = self._newcomers[source] = Request(source, not_before=now + wait_s, asked_at=now)
        self._ask(request)

    def awaits(self, request: Request) -> bool:
        """Tell whether a newcomer still waits for this answer; called on any thread."""
        return self._newcomers.get(request.source) is request

    def begin(self, found: Found) -> None:
        """Read a partition from the place that was found, if it is still waited for."""
        if not self.awaits(found.request):
            return
        source, plan = found.request.source, found.plan
        del self._newcomers[source]
        for warning in plan.warnings:
            log.warning("%s: %s", names({source}), warning)
        log.info(
            "took %s: position %d, reading from %d, %d labels and %d dead letters known",
            names({source}),
            plan.position,
            plan.rewind_to,
            len(found.said),
            len(found.reported),
        )
        self._fetch_progress.forget({source})
        stream = self._open_stream(source)
        stream.restore(plan.skip_until)
        self.held[source] = Partition(
            source,
            stream,
            found.output,
            position=plan.rewind_to,
            live_from=plan.position,
            end=plan.end,
            said=Said(found.said),
            reported=found.reported.union(self.given_up.of(source)),
            committed_before=found.committed,
            rules=self._rules,
            aloud=plan.aloud,
            recovering_since=found.request.asked_at,
        )
        self.consumer.seek(source, plan.rewind_to)
        self.consumer.resume(source)

    # -- going

    def released(self, sources: set[TopicPartition]) -> None:
        """Let go of partitions that another worker has next."""
        self._metrics.rebalances.inc()
        log.info("handed back %s", names(sources))
        self._drop(sources)
        self.given_up.forget(sources)
        for source in sources:
            self._newcomers.pop(source, None)
            self._failures.pop(source, None)

    def start_over(self, partition: Partition, why: str) -> None:
        """Recover a partition from the log, as if it had just been assigned; later and later if that doesn't help."""
        source = partition.source
        failures = self._failures.get(source, (0, 0))[0] + 1
        self._failures[source] = failures, partition.position
        wait_s = min(RETRY_S * 2 ** min(failures - 1, 10), LONGEST_RETRY_S)
        log.error("%s: %s; recovering from what was committed in %.0f s", names({source}), why, wait_s)
        self._metrics.restarts.inc()
        if self.is_assigned(partition):
            self.consumer.pause(source)
        self._drop({source})
        self._find(source, wait_s)

    def _drop(self, sources: set[TopicPartition]) -> None:
        for source in sources & self.held.keys():
            self.held.pop(source).alive = False
        self._fetch_progress.forget(sources)

    # -- between

    def committed(self, partition: Partition, point: Point) -> None:
        """Take note of a commit; called on any thread."""
        partition.ledger.commit(point)
        self.given_up.committed(partition.source, point.position)
        if point.position >= self._failures.get(partition.source, (0, 0))[1]:
            self._failures.pop(partition.source, None)

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
        self._metrics.unreadable.inc(self._fetch_progress.take_unreadable())
        for partition in self:
            position = fetch_position(self.consumer, partition.source)
            if position is not None:
                self.tell_if_expired(partition, position)
                partition.move_to(position)
            partition.behind = self._lag(partition) > PARTITION_RECORDS
            if partition.recovering_since is not None and partition.position >= partition.live_from:
                self._metrics.recovery.observe(time.monotonic() - partition.recovering_since)
                partition.recovering_since = None

    def tell_if_expired(self, partition: Partition, going_on_at: int) -> None:
        """Tell if records from the position on were gone before they were read: the log keeps too little."""
        source, lost = partition.source, min(going_on_at, partition.end) - partition.position
        if source not in self._fetch_progress.expired or lost <= 0:
            return
        self._fetch_progress.expired.discard(source)
        self._metrics.expired.inc(lost)
        where, first = names({source}), partition.position
        log.error("%s: %d records from %d on have expired before they were read", where, lost, first)

    def seek_back(self) -> None:
        """Go back to what has been taken: a poll that fails may have moved on past records that it never gave."""
        for partition in self:
            if self.is_assigned(partition):
                self.consumer.seek(partition.source, partition.position)

    def _lag(self, partition: Partition) -> int:
        """How many records the log has from the position on, by the last that was heard of it."""
        end = self._fetch_progress.high_watermark(partition.source)
        return 0 if end is None else max(0, end - partition.position)

    def read(self) -> Iterator[PartitionReading]:
        """Give what the gauges show; called on the scrape's thread."""
        for partition in self:
            yield PartitionReading(
                topic=partition.source.topic,
                partition=partition.source.partition,
                lag=self._lag(partition),
                rewind=partition.position - partition.rewind,
                progress_s=None if partition.progress_ms is None else partition.progress_ms / 1000,
            )


def names(sources: Iterable[Any]) -> str:
    """Name partitions for a log line."""
    return ", ".join(f"{source.topic}[{source.partition}]" for source in sorted(sources)) or "no partition"
