"""One input partition, while it is assigned to this worker."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest import snapshot
from service.delivery.ledger import Ledger, Point
from service.delivery.published import Published
from service.delivery.recovery_plan import NO_END
from service.kind import Block, Stream


@dataclass(slots=True, eq=False)
class Output:
    """The output partition of an input partition's labels, one of ``partitions`` of the topic.

    ``end`` is its end as far as this worker knows: labels that are sent from now on lie there or after it.
    """

    partition: TopicPartition
    partitions: int
    end: int

    def reached(self, offset: int) -> None:
        """Record that a label lies at this offset."""
        self.end = max(self.end, offset + 1)


@dataclass(slots=True, eq=False)
class Partition:
    """An assigned partition. The object stands for this assignment, the epoch: results that outlive it are dropped.

    Records before ``live_from`` are replayed: they only rebuild open windows, and nothing is committed until the replay
    has passed them. With ``publishes_replay``, windows that close there are published, too, unless they have been.
    ``reported`` holds the offsets of records whose dead letters are in their topic already, or can't be delivered.
    Records from ``end`` on are not read.
    """

    source: TopicPartition
    stream: Stream
    output: Output
    position: int
    live_from: int
    end: int = NO_END
    ledger: Ledger = field(default_factory=Ledger)
    committed_before: OffsetAndMetadata = None  # as it was found; if there was none, an equivalent one
    published: Published = field(default_factory=Published)
    reported: Collection[int] = ()
    rules: str = ""
    publishes_replay: bool = False
    alive: bool = True
    work: Iterator[Block] | None = None
    block: Block | None = None  # cut, but not taken by the core yet: it had no room
    paused: bool = False
    withheld: int = 0  # dead letters among those owed that wait for their topic: nothing else waits for them
    behind: bool = False  # more records wait than a poll returns, so its labels may be gathered
    silence_checked_at: float = float("-inf")
    rewind: int = 0
    progress_ms: int | None = None
    recovering_since: float | None = None

    def __post_init__(self) -> None:
        self.rewind = self.position
        if self.committed_before is None:
            self.committed_before = self.as_commit(
                Point(self.live_from, self.live_from, self._labels_from(self.published.first()))
            )

    def move_to(self, position: int) -> None:
        """Advance to ``position``, at most to the end."""
        self.position = max(self.position, min(position, self.end))

    @property
    def ends(self) -> bool:
        """Whether it is read only up to an end."""
        return self.end < NO_END

    @property
    def ended(self) -> bool:
        """Whether all records before its end have been taken in."""
        return self.position >= self.end

    @property
    def at_boundary(self) -> bool:
        """Whether every record before the position has been cut into frames, so that a snapshot can be taken."""
        return self.work is None and self.position >= self.live_from

    def seal(self) -> None:
        """Take a snapshot at the position."""
        closed = self.ended and not len(self.stream)  # there will be no replay, so nothing needs to be rewound
        self.rewind = self.position if closed else self.stream.rewind_to(self.position)
        # Only at a boundary: until the replay is over, windows aren't open that will be.
        labels_from = self._labels_from(self.published.oldest_label(self.rewind, self.stream.is_open))
        self.ledger.seal(Point(self.position, self.rewind, labels_from, self.stream.skip_until()))

    def _labels_from(self, published_from: int | None) -> int:
        return self.output.end if published_from is None else min(published_from, self.output.end)

    def unchanged(self) -> OffsetAndMetadata:
        """Return the current commit, to be committed again."""
        point = self.ledger.committed
        return self.committed_before if point is None else self.as_commit(point)

    def as_commit(self, point: Point) -> OffsetAndMetadata:
        """Return the commit of a snapshot."""
        metadata = snapshot.Snapshot(
            rewind_to=point.rewind_to,
            topic=self.output.partition.topic,
            partition=self.output.partition.partition,
            partitions=self.output.partitions,
            labels_from=point.labels_from,
            skip_until={device: record - point.rewind_to for device, record in point.skip_until.items()},
            rules=self.rules,
            end=self.end if self.ends else msgspec.UNSET,
        )
        return OffsetAndMetadata(point.position, snapshot.encode(metadata), -1)


def names(sources: Iterable[Any]) -> str:
    """Format partitions for a log line."""
    return ", ".join(f"{source.topic}[{source.partition}]" for source in sorted(sources)) or "no partition"
