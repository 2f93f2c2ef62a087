"""The interface of a delivery mode, and what both modes have in common: tickets, labels, dead letters.

``at_least_once.py`` and ``exactly_once.py`` are the two modes; docs/delivery.md says what each promises.
"""

import collections
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from kafka.structs import OffsetAndMetadata, TopicPartition

from inference.core import Result
from ingest.contract import SOURCE_OFFSET_HEADER, SOURCE_PARTITION_HEADER, SOURCE_TOPIC_HEADER
from ingest.messages.dead_letters import dead_letter
from ingest.record import ConsumedRecord
from ingest.record_batches.bodies import Bodies
from ingest.rejections import Rejection
from service.delivery.ledger import Segment
from service.delivery.letter import Letter
from service.delivery.partition import Partition
from service.kind import Block
from service.monitoring.metrics import WorkerMetrics, observe_all, observe_times

log = logging.getLogger(__name__)

# The headers of a dead letter that a log line shows: where its record is. The record's own may be of any size.
PLACE_HEADERS = (SOURCE_TOPIC_HEADER, SOURCE_PARTITION_HEADER, SOURCE_OFFSET_HEADER)

Offsets = dict[TopicPartition, OffsetAndMetadata]


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """What goes through the core with a block: its partition, and the segment to acknowledge its labels to."""

    block: Block
    owner: Partition
    segment: Segment
    publish: Callable[[Result], None]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels to send: their bodies, the first of their rows in the block, and when they were ready (monotonic).

    They are of one result, hence of one input partition. They go to one output partition, and succeed or fail together.
    """

    bodies: Bodies
    ticket: Ticket
    start: int
    ready_at: float

    def __len__(self) -> int:
        return len(self.bodies)

    @property
    def owner(self) -> Partition:
        """The input partition whose labels they are."""
        return self.ticket.owner

    @property
    def output(self) -> TopicPartition:
        """The output partition that they go to."""
        return self.ticket.owner.output.partition

    def acknowledged(self) -> None:
        """Record that Kafka has acknowledged them."""
        self.owner.ledger.acknowledge(self.ticket.segment, len(self))

    def taken_back(self) -> None:
        """Take the acknowledgement back: their transaction was not committed."""
        self.owner.ledger.acknowledge(self.ticket.segment, -len(self))

    def arrived(self, metrics: WorkerMetrics) -> None:
        """Record in the metrics that every reader can see them now."""
        now, rows = time.time(), slice(self.start, self.start + len(self))
        observe_times(metrics.stages["publish"], time.monotonic() - self.ready_at, len(self))
        timestamps = self.ticket.block.source_timestamp_ms[rows]
        observe_all(metrics.end_to_end, np.maximum(now - timestamps[timestamps >= 0] / 1000, 0.0))
        self.owner.stream.labelled(self.ticket.block, rows, now)


class Delivery(Protocol):
    """Publishes labels and dead letters and commits positions; each mode has its own order and handling of failures.

    ``failed`` holds partitions whose output failed, and why. The worker's thread recovers them.
    """

    failed: collections.deque[tuple[Partition, Exception]]

    def publish(self, labels: Sequence[Labels]) -> None:
        """Send labels, or queue them; called on the publisher's thread."""

    def turn(self) -> float:
        """Do what is due; return in how many seconds to call again. Called on the publisher's thread."""

    def reject(self, letters: Sequence[Letter], partition: Partition) -> None:
        """Send, or queue, dead letters of records before the partition's next snapshot; on the worker's thread."""

    def letter_bytes_waiting(self, partition: Partition) -> int:
        """Return the bytes of dead letters that a partition must wait for before it reads on.

        Called on the worker's thread.
        """

    def commit(self) -> None:
        """Commit what may be committed, or have it committed, if it is due; called on the worker's thread."""

    def settled(self, partitions: Sequence[Partition]) -> bool:
        """Finish these partitions at once; return whether all is acknowledged, and committed but for `last_offsets`."""

    def last_offsets(self, partitions: Sequence[Partition]) -> Offsets:
        """Return what is to be committed when these partitions are revoked."""

    def committed(self, offsets: Offsets, response: object) -> None:
        """Record the result of that last commit, an error or None; called on the consumer's IO thread."""

    def nothing_in_flight(self, sources: set[TopicPartition]) -> bool:
        """Return whether nothing of these partitions is being written; called on any thread, after their revocation."""

    def close(self, timeout_s: float) -> None:
        """Flush and close the producers; called when the publisher's thread has ended."""


def seal_all(partitions: Iterable[Partition]) -> None:
    """Take a snapshot of each partition that is at a boundary."""
    for partition in partitions:
        if partition.at_boundary:
            partition.seal()


def letter_of(record: ConsumedRecord, rejection: Rejection, source: TopicPartition, topic: str) -> Letter:
    """Return the dead letter of a rejected record, for ``topic``."""
    letter = dead_letter(record, rejection, source.topic, source.partition)
    return Letter(topic, letter.key, letter.value, letter.headers, letter.timestamp, record.offset)


def give_up(letter: Letter, error: Exception, metrics: WorkerMetrics) -> None:
    """Count and log a dead letter that its topic will never take; its record stays in the input topic."""
    metrics.dead_letter_failures.inc()
    told = {name: value.decode(errors="replace") for name, value in letter.headers if name in PLACE_HEADERS}
    log.error("%s takes no such record (%s): %s", letter.topic, error, told)
