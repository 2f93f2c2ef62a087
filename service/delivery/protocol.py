"""What the two ways of delivery have in common: what is to be sent, for whom, and what a worker asks of them.

``at_least_once.py`` and ``exactly_once.py`` are the two; docs/delivery.md says what each promises.
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
from ingest.bodies import Bodies
from ingest.contract import SOURCE_OFFSET_HEADER, SOURCE_PARTITION_HEADER, SOURCE_TOPIC_HEADER
from ingest.dead_letters import ConsumedRecord, dead_letter
from ingest.rejections import Rejection
from service.delivery.ledger import Segment
from service.delivery.letter import Letter
from service.delivery.partition import Partition
from service.kind import Block
from service.metrics import WorkerMetrics, observe_all, observe_times

log = logging.getLogger(__name__)

# What a log line tells of a dead letter: where its record is. The record's own headers have no bound.
PLACE_HEADERS = (SOURCE_TOPIC_HEADER, SOURCE_PARTITION_HEADER, SOURCE_OFFSET_HEADER)

Offsets = dict[TopicPartition, OffsetAndMetadata]


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """What travels through the core with a block: whose it is, and to which segment its labels are owed."""

    block: Block
    owner: Partition
    segment: Segment
    publish: Callable[[Result], None]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels on their way: what is sent, the rows of the block that they are about, and when they were ready.

    They are of one result, hence of one input partition, go to one of the output, and share their fate.
    """

    bodies: Bodies
    ticket: Ticket
    start: int
    ready_at: float

    def __len__(self) -> int:
        return len(self.bodies)

    @property
    def owner(self) -> Partition:
        """Whose labels they are."""
        return self.ticket.owner

    @property
    def output(self) -> TopicPartition:
        """Where they go."""
        return self.ticket.owner.output.partition

    def acknowledged(self) -> None:
        """Note that Kafka has them."""
        self.owner.ledger.acknowledge(self.ticket.segment, len(self))

    def taken_back(self) -> None:
        """Note that Kafka hasn't, after all."""
        self.owner.ledger.acknowledge(self.ticket.segment, -len(self))

    def arrived(self, metrics: WorkerMetrics) -> None:
        """Note that they are there for everyone to read."""
        now, rows = time.time(), slice(self.start, self.start + len(self))
        observe_times(metrics.stages["publish"], time.monotonic() - self.ready_at, len(self))
        timestamps = self.ticket.block.source_timestamp_ms[rows]
        observe_all(metrics.end_to_end, np.maximum(now - timestamps[timestamps >= 0] / 1000, 0.0))
        self.owner.stream.labelled(self.ticket.block, rows, now)


class Delivery(Protocol):
    """Says labels and dead letters, and commits positions; in what order, and what follows from a failure, is its own.

    ``failed`` holds partitions whose output failed, and why: the worker's thread recovers them.
    """

    failed: collections.deque[tuple[Partition, Exception]]

    def say(self, labels: Sequence[Labels]) -> None:
        """Take labels; called on the publisher's thread."""

    def turn(self) -> float:
        """Do what is due, and return in how many seconds to look again; called on the publisher's thread."""

    def reject(self, letters: Sequence[Letter], partition: Partition) -> None:
        """Take the dead letters of records before the partition's next snapshot; called on the worker's thread."""

    def letter_bytes_waiting(self, partition: Partition) -> int:
        """Return how much of the dead letters a partition must see answered before it has more.

        Called on the worker's thread.
        """

    def commit(self) -> None:
        """Commit what may be, or have it done, if it is time; called on the worker's thread."""

    def settled(self, partitions: Sequence[Partition]) -> bool:
        """Hurry, and tell whether nothing of these partitions is owed, or left to commit but by the last commit."""

    def last_offsets(self, partitions: Sequence[Partition]) -> Offsets:
        """Return what is to be committed when these partitions go."""

    def committed(self, offsets: Offsets, response: object) -> None:
        """Take in how the last commit went, an error or None; called on the consumer's IO thread."""

    def let_go(self, sources: set[TopicPartition]) -> bool:
        """Tell whether nothing of these partitions is being written; called on any thread, when they have gone."""

    def close(self, timeout_s: float) -> None:
        """Send what is still to be sent and close the producers; called when the publisher's thread has ended."""


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
    """Count and name a dead letter that its topic will never take, and stays where it is, in the input topic."""
    metrics.dead_letter_failures.inc()
    told = {name: value.decode(errors="replace") for name, value in letter.headers if name in PLACE_HEADERS}
    log.error("%s takes no such record (%s): %s", letter.topic, error, told)
