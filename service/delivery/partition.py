"""One input partition, for as long as it is assigned to this worker."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import msgspec
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest import snapshot
from service.delivery.ledger import Ledger, Point
from service.delivery.recovery import NO_END
from service.delivery.said import Said
from service.kind import Block, Stream


@dataclass(slots=True, eq=False)
class Output:
    """Where a partition's labels go: one of so many partitions, and its end as far as this worker knows it.

    Labels that are sent from now on lie at ``end`` or after it.
    """

    partition: TopicPartition
    partitions: int
    end: int

    def reached(self, offset: int) -> None:
        """Take note that a label lies at this offset."""
        self.end = max(self.end, offset + 1)


@dataclass(slots=True, eq=False)
class Partition:
    """An assigned partition. Its object stands for this assignment, the epoch: what outlives it is dropped.

    Records before ``live_from`` only rebuild what was open; before it nothing is committed, and ``aloud`` tells
    whether what closes there is said all the same, unless it has been. ``reported`` are records, by offset, whose dead
    letters are there already, or have been given up. Records from ``end`` on are somebody else's, or nobody's.
    """

    source: TopicPartition
    stream: Stream
    output: Output
    position: int
    live_from: int
    end: int = NO_END
    ledger: Ledger = field(default_factory=Ledger)
    committed_before: OffsetAndMetadata = None  # as it was found; made up where there was none
    said: Said = field(default_factory=Said)
    reported: Collection[int] = ()
    rules: str = ""
    aloud: bool = False
    alive: bool = True
    work: Iterator[Block] | None = None
    block: Block | None = None  # cut, but the core had no room for it yet
    paused: bool = False
    withheld: int = 0  # of the dead letters that are owed, which wait for their topic: nothing else waits for them
    behind: bool = False  # more records wait than a poll gives: its labels may wait, too
    silence_checked_at: float = float("-inf")
    rewind: int = 0
    progress_ms: int | None = None
    recovering_since: float | None = None

    def __post_init__(self) -> None:
        self.rewind = self.position
        if self.committed_before is None:
            self.committed_before = self.as_commit(
                Point(self.live_from, self.live_from, self._labels_from(self.said.first()))
            )

    def move_to(self, position: int) -> None:
        """Go on with the record at ``position``, or with none where that lies at the end or beyond."""
        self.position = max(self.position, min(position, self.end))

    @property
    def ends(self) -> bool:
        """Whether there is an end to it."""
        return self.end < NO_END

    @property
    def ended(self) -> bool:
        """Whether all before its end has been taken in."""
        return self.position >= self.end

    @property
    def at_boundary(self) -> bool:
        """Whether every record before the position has been cut, so that a snapshot can be taken."""
        return self.work is None and self.position >= self.live_from

    def seal(self) -> None:
        """Take a snapshot here."""
        closed = self.ended and not len(self.stream)  # whatever the stream would have a replay see: there is none
        self.rewind = self.position if closed else self.stream.rewind_to(self.position)
        # Not before a boundary: until the replay is over, nothing is open that will be.
        labels_from = self._labels_from(self.said.oldest_label(self.rewind, self.stream.is_open))
        self.ledger.seal(Point(self.position, self.rewind, labels_from, self.stream.skip_until()))

    def _labels_from(self, said_from: int | None) -> int:
        return self.output.end if said_from is None else min(said_from, self.output.end)

    def unchanged(self) -> OffsetAndMetadata:
        """Return what is committed now, to be committed again: where a successor would go on."""
        point = self.ledger.committed
        return self.committed_before if point is None else self.as_commit(point)

    def as_commit(self, point: Point) -> OffsetAndMetadata:
        """Write a snapshot as what is committed for it."""
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
