"""The partitions assigned to a worker: which it holds, and where it starts to read each."""

import collections
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import kafka
from kafka.structs import TopicPartition

from ingest.consumer.consumer import PARTITION_RECORDS, fetch_position
from ingest.consumer.fetch_progress import FetchProgress
from service.delivery.ledger import Point
from service.delivery.partition import Partition, names
from service.delivery.published import Published
from service.delivery.read_back import ReadBack, Request
from service.delivery.undeliverable import Undeliverable
from service.kind import OpenStream
from service.monitoring.metrics import PartitionReading, WorkerMetrics

log = logging.getLogger(__name__)

RETRY_S = 1.0
LONGEST_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A partition whose output failed: how often in a row, and since when it is lost.

    Until the position ``until`` is committed, the same output may fail again.
    """

    times: int
    since: float
    until: int


class Assignment:
    """The partitions held, and the newcomers: newly assigned ones whose starting point isn't known yet.

    ``assigned`` and ``released`` run on the consumer's IO thread while the worker's thread waits in ``poll``. ``ask``
    requests the starting point of a newcomer; the answer comes to ``begin``.
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
        self.consumer: kafka.KafkaConsumer = None  # set once it is open
        self.undeliverable = Undeliverable()
        self._open_stream = open_stream
        self._rules = rules
        self._fetch_progress = fetch_progress
        self._ask = ask
        self._metrics = metrics
        self._newcomers: dict[TopicPartition, Request] = {}
        self._failures: dict[TopicPartition, Failure] = {}

    def __iter__(self) -> Iterator[Partition]:
        return iter(list(self.held.values()))

    def among(self, sources: set[TopicPartition]) -> list[Partition]:
        """Return the held ones among these partitions."""
        return [self.held[source] for source in sources & self.held.keys()]

    # -- assignment

    def assigned(self, sources: set[TopicPartition]) -> None:
        """Request the starting points of new partitions, which are paused."""
        self._metrics.rebalances.inc()
        for source in sources:
            self._find(source, wait_s=0.0)

    def _find(self, source: TopicPartition, wait_s: float) -> None:
        now = time.monotonic()
        request = self._newcomers[source] = Request(source, not_before=now + wait_s, asked_at=now)
        self._ask(request)

    def awaits(self, request: Request) -> bool:
        """Return whether a newcomer still waits for the answer to this request; called on any thread."""
        return self._newcomers.get(request.source) is request

    def begin_all(self, found: collections.deque[ReadBack]) -> None:
        """Start reading the partitions whose places were found, and say so in one line; on the worker's thread."""
        begun = []
        while found:
            if self.begin(each := found.popleft()):
                begun.append(each)
        if len(begun) == 1:
            log.info("took %s", _told(begun[0]))
        elif begun:
            log.info(
                "took %d partitions of %s: %d records to replay, %d labels and %d dead letters known",
                len(begun),
                begun[0].request.source.topic,
                sum(each.plan.position - each.plan.rewind_to for each in begun),
                sum(len(each.published) for each in begun),
                sum(len(each.reported) for each in begun),
            )
            for each in begun:
                log.debug("took %s", _told(each))

    def begin(self, found: ReadBack) -> bool:
        """Start reading a partition from the place that was found; return False if it isn't waited for any more."""
        if not self.awaits(found.request):
            return False
        source, plan = found.request.source, found.plan
        del self._newcomers[source]
        for warning in plan.warnings:
            log.warning("%s: %s", names({source}), warning)
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
            published=Published(found.published),
            reported=found.reported.union(self.undeliverable.of(source)),
            committed_before=found.committed,
            rules=self._rules,
            publishes_replay=plan.publishes_replay,
            recovering_since=found.request.asked_at,
        )
        if (failure := self._failures.get(source)) is not None and failure.until > found.log_end:  # it was made anew
            self._failures[source] = dataclasses.replace(failure, until=found.log_end)
        self.consumer.seek(source, plan.rewind_to)
        self.consumer.resume(source)
        return True

    # -- release

    def released(self, sources: set[TopicPartition]) -> None:
        """Drop partitions that go to another worker."""
        self._metrics.rebalances.inc()
        log.info("handed back %s", names(sources))
        self._drop(sources)
        self.undeliverable.forget(sources)
        for source in sources:
            self._newcomers.pop(source, None)
            self._failures.pop(source, None)

    def start_over(self, partition: Partition, why: str) -> None:
        """Recover a partition whose log was cut off, or made anew: its position may never come again."""
        self._recover({partition: 0}, why)

    def start_all_over(self, partitions: Iterable[Partition], why: str) -> None:
        """Recover partitions whose output failed from the log, at growing intervals if it fails again."""
        self._recover({partition: partition.position for partition in partitions}, why)

    def _recover(self, until: Mapping[Partition, int], why: str) -> None:
        """Recover partitions as if they had just been assigned; those that wait for as long are logged in one line."""
        waiting = dict[float, list[Partition]]()
        for partition, position in until.items():
            before = self._failures.get(partition.source)
            since = before.since if before else partition.recovering_since or time.monotonic()
            failure = Failure(before.times + 1 if before else 1, since, position)
            self._failures[partition.source] = failure
            waiting.setdefault(min(RETRY_S * 2 ** min(failure.times - 1, 10), LONGEST_RETRY_S), []).append(partition)
        for wait_s, alike in waiting.items():
            where = names(partition.source for partition in alike)
            log.error("%s: %s; recovering from what was committed in %.0f s", where, why, wait_s)
            for partition in alike:
                self._metrics.restarts.inc()
                if self.is_assigned(partition):
                    self.consumer.pause(partition.source)
                self._drop({partition.source})
                self._find(partition.source, wait_s)

    def _drop(self, sources: set[TopicPartition]) -> None:
        for source in sources & self.held.keys():
            self.held.pop(source).alive = False
        self._fetch_progress.forget(sources)

    # -- while a partition is held

    def committed(self, partition: Partition, point: Point) -> None:
        """Record a successful commit; called on any thread."""
        partition.ledger.commit(point)
        self.undeliverable.committed(partition.source, point.position)
        failure = self._failures.get(partition.source)
        if failure is not None and point.position >= failure.until:
            self._failures.pop(partition.source, None)

    def is_assigned(self, partition: Partition) -> bool:
        """Return whether the consumer still has the partition; it may be about to be revoked."""
        return partition.source in self.consumer.assignment()

    def pause(self, partition: Partition, pause: bool) -> None:
        """Pause or resume the fetching of a partition."""
        if pause == partition.paused:
            return
        partition.paused = pause
        if self.is_assigned(partition):
            (self.consumer.pause if pause else self.consumer.resume)(partition.source)

    def follow(self) -> None:
        """Move the positions past control records and aborted records, which no poll returns."""
        self._metrics.unreadable.inc(self._fetch_progress.take_unreadable())
        for partition in self:
            position = fetch_position(self.consumer, partition.source)
            if position is not None:
                self.report_expired(partition, position)
                partition.move_to(position)
            partition.behind = (self._lag(partition) or 0) > PARTITION_RECORDS
            if partition.recovering_since is not None and partition.position >= partition.live_from:
                self._metrics.recovery.observe(time.monotonic() - partition.recovering_since)
                partition.recovering_since = None

    def report_expired(self, partition: Partition, going_on_at: int) -> None:
        """Count and log records from the position on that expired before they were read: retention is too short."""
        source, lost = partition.source, min(going_on_at, partition.end) - partition.position
        if lost <= 0 or not self._fetch_progress.take_expired(source):
            return
        self._metrics.expired.inc(lost)
        where, first = names({source}), partition.position
        log.error("%s: %d records from %d on have expired before they were read", where, lost, first)

    def seek_back(self) -> None:
        """Go back to the positions: a poll that fails may have moved on past records that it never returned."""
        for partition in self:
            if self.is_assigned(partition):
                self.consumer.seek(partition.source, partition.position)

    def _lag(self, partition: Partition) -> int | None:
        """Return how many records the log has from the position on, as of the last fetch response, if there was one."""
        end = self._fetch_progress.high_watermark(partition.source)
        return None if end is None else max(0, end - partition.position)

    def recovery_age_s(self) -> float:
        """Return for how long the partition that is lost the longest has been lost, 0 if none is; for any thread.

        One whose output failed is lost until that is written: each of its recoveries may be quick, and help nothing.
        """
        begun = [request.asked_at for request in list(self._newcomers.values())]
        begun += [failure.since for failure in list(self._failures.values())]
        begun += [partition.recovering_since for partition in self if partition.recovering_since is not None]
        return time.monotonic() - min(begun) if begun else 0.0

    def read(self) -> Iterator[PartitionReading]:
        """Return the values of the gauges; called on the scrape's thread."""
        for partition in self:
            yield PartitionReading(
                topic=partition.source.topic,
                partition=partition.source.partition,
                lag=self._lag(partition),
                rewind=partition.position - partition.rewind,
                progress_s=None if partition.progress_ms is None else partition.progress_ms / 1000,
            )


def _told(found: ReadBack) -> str:
    plan, known = found.plan, f"{len(found.published)} labels and {len(found.reported)} dead letters known"
    return f"{names({found.request.source})}: position {plan.position}, reading from {plan.rewind_to}, {known}"
