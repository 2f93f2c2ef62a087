"""Acknowledgements to commits: which offsets may be committed now, and what became of those that were."""

import logging
import time
from collections.abc import Callable

from kafka.structs import MemberState, OffsetAndMetadata, TopicPartition

from ingest import snapshot
from service.assignment import Assignment, names
from service.ledger import Point
from service.metrics import WorkerMetrics

log = logging.getLogger(__name__)

Offsets = dict[TopicPartition, OffsetAndMetadata]


class Commits:
    """Commits the snapshots of the partitions held, each when nothing is owed before it."""

    def __init__(
        self,
        assignment: Assignment,
        metrics: WorkerMetrics,
        *,
        interval_s: float,
        output_topic: str,
        output_of: Callable[[int], int],
    ) -> None:
        self._assignment = assignment
        self._metrics = metrics
        self._interval_s = interval_s
        self._output_topic = output_topic
        self._output_of = output_of
        self._due_at = 0.0

    def commit(self) -> None:
        """Commit what may be, if it is time."""
        now = time.monotonic()
        if now < self._due_at:
            return
        if self._assignment.consumer.group_metadata().state == MemberState.REBALANCING:
            return  # Kafka refuses commits meanwhile
        self._due_at = now + self._interval_s
        offsets = self.snapshots(set(self._assignment.held))
        if offsets:
            self._assignment.consumer.commit_async(offsets, callback=self.committed)

    def snapshots(self, sources: set[TopicPartition]) -> Offsets:
        """Take snapshots of those of these partitions that are held; return what may be committed and is new."""
        offsets = {}
        for partition in self._assignment.among(sources):
            if partition.at_boundary:
                partition.seal()
            point = partition.ledger.committable()
            if point is not None:
                output = self._output_of(partition.source.partition)
                metadata = snapshot.encode(snapshot.Snapshot(point.rewind_to, self._output_topic, output))
                offsets[partition.source] = OffsetAndMetadata(point.position, metadata, -1)
        return offsets

    def committed(self, offsets: Offsets, response: object) -> None:
        """Take in how a commit went; called on the consumer's IO thread."""
        if isinstance(response, Exception):
            self._metrics.commits["failure"].inc()
            log.warning("commit of %s failed: %s", names(offsets), response)
            return
        self._metrics.commits["success"].inc()
        for source, offset in offsets.items():
            partition = self._assignment.held.get(source)
            if partition is not None:
                rewind_to = snapshot.decode(offset.metadata, offset.offset).rewind_to
                partition.ledger.committed = Point(offset.offset, rewind_to)
