"""Which position of a partition may be committed: the newest one before which nothing is owed."""

import collections
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Segment:
    """A stretch of the input between two snapshots, and how many of its outputs Kafka hasn't acknowledged."""

    owed: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """A snapshot: where the worker stood, and where a successor must begin to read to stand there too."""

    position: int
    rewind_to: int


class Ledger:
    """The segments of one partition, oldest first.

    A snapshot may be committed when every output promised before it was taken has been acknowledged. An
    unacknowledged output delays the commit; it doesn't lower the snapshot's ``rewind_to``.
    """

    def __init__(self) -> None:
        self._sealed: collections.deque[tuple[Segment, Point]] = collections.deque()
        self._open = Segment()
        self.committed: Point | None = None

    def promise(self, outputs: int) -> Segment:
        """Note that ``outputs`` labels or dead letters are owed; return the segment to acknowledge them to."""
        self._open.owed += outputs
        return self._open

    def seal(self, point: Point) -> None:
        """Take a snapshot, at a record boundary, after every output promised so far."""
        if self._open.owed == 0 and self._sealed:
            # It waits for the same outputs as the one before, and is the better of the two.
            self._sealed[-1] = (self._sealed[-1][0], point)
            return
        self._sealed.append((self._open, point))
        self._open = Segment()

    def committable(self) -> Point | None:
        """Return the newest snapshot that may be committed and differs from the last one; None if there is none."""
        newest = None
        while self._sealed and self._sealed[0][0].owed == 0:
            newest = self._sealed.popleft()[1]
        return newest if newest != self.committed else None

    def __len__(self) -> int:
        """Return how many snapshots wait for acknowledgements."""
        return len(self._sealed)

    @property
    def owed(self) -> int:
        """Outputs promised and not acknowledged."""
        return self._open.owed + sum(segment.owed for segment, _ in self._sealed)
