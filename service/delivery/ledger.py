"""Which position of a partition may be committed: the newest one before which nothing is owed."""

import collections
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.delivery.letter import Letter


@dataclass(slots=True, eq=False)
class Segment:
    """A stretch of the input between two snapshots, and how many of its outputs Kafka hasn't acknowledged.

    ``letters`` are dead letters that are kept back until the position that passes them is committed.
    """

    owed: int = 0
    letters: list[Letter] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Point:
    """A snapshot: where the worker stood, where a successor must read from to stand there, what labels it must know."""

    position: int
    rewind_to: int
    labels_from: int
    skip_until: Mapping[bytes, int] = field(default_factory=dict)


class Ledger:
    """The segments of one partition, oldest first.

    A snapshot may be committed when every output promised before it was taken has been acknowledged. An
    unacknowledged output delays the commit; it doesn't lower the snapshot's ``rewind_to``. The worker's thread
    promises and seals; any thread acknowledges.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sealed: collections.deque[tuple[Segment, Point]] = collections.deque()
        self._open = Segment()
        self._committed: Point | None = None
        self._owed = 0
        self._letter_bytes = 0

    @property
    def committed(self) -> Point | None:
        """The newest snapshot that has been committed."""
        return self._committed

    @property
    def owed(self) -> int:
        """Outputs promised and not acknowledged."""
        return self._owed

    def promise(self, outputs: int) -> Segment:
        """Note that ``outputs`` labels or dead letters are owed; return the segment to acknowledge them to."""
        with self._lock:
            self._open.owed += outputs
            self._owed += outputs
            return self._open

    def keep_back(self, letters: Sequence[Letter]) -> None:
        """Keep dead letters until the snapshot after them may be committed."""
        with self._lock:
            self._open.letters += letters
            self._letter_bytes += sum(letter.size for letter in letters)

    def acknowledge(self, segment: Segment, outputs: int = 1) -> None:
        """Note that Kafka has them; with a number below 0, that it hasn't after all."""
        with self._lock:
            segment.owed -= outputs
            self._owed -= outputs

    def seal(self, point: Point) -> None:
        """Take a snapshot, at a record boundary, after every output promised so far."""
        with self._lock:
            quiet = self._open.owed == 0 and not self._open.letters
            if quiet and point == (self._sealed[-1][1] if self._sealed else self._committed):
                return
            if quiet and self._sealed:
                # It waits for the same outputs as the one before, and is the better of the two.
                self._sealed[-1] = (self._sealed[-1][0], point)
                return
            self._sealed.append((self._open, point))
            self._open = Segment()

    def committable(self) -> Point | None:
        """Return the newest snapshot that may be committed, apart from letters kept back; None if there is none."""
        due = self.due()
        return None if due is None else due[0]

    def due(self, most_letters: int | None = None) -> tuple[Point, list[Letter]] | None:
        """Return the newest snapshot that may be committed, and the letters kept back that must be out with it.

        Both at once, for a quiet snapshot taken in between would take the letters along. A snapshot that would bring
        the letters beyond the most is left for the next time, unless it is the first with letters and there is room.
        """
        with self._lock:
            newest, letters = None, list[Letter]()
            for segment, point in self._sealed:
                if segment.owed:
                    break
                many = most_letters is not None and len(letters) + len(segment.letters) > most_letters
                if many and segment.letters and (letters or most_letters == 0):
                    break
                newest = point
                letters += segment.letters
            return None if newest is None else (newest, letters)

    def drop_letters(self, letters: Sequence[Letter]) -> None:
        """Forget letters that were kept back: Kafka has them, or will never take them."""
        if not letters:
            return
        gone = set(map(id, letters))
        with self._lock:
            for segment, _ in self._sealed:
                self._letter_bytes -= sum(letter.size for letter in segment.letters if id(letter) in gone)
                segment.letters = [letter for letter in segment.letters if id(letter) not in gone]

    def commit(self, point: Point) -> None:
        """Note that a snapshot has been committed."""
        with self._lock:
            self._committed = point
            waits = any(sealed == point for _, sealed in self._sealed)  # else a better one has taken its place
            while self._sealed and self._sealed[0][1].position <= point.position and not self._sealed[0][0].owed:
                if not waits and self._sealed[0][1].position == point.position:
                    break  # taken since at the same position: it is still to be committed
                if self._sealed.popleft()[1] == point:
                    break

    @property
    def letter_bytes(self) -> int:
        """Bytes of the dead letters that are kept back."""
        return self._letter_bytes

    @property
    def settled(self) -> bool:
        """Whether everything promised is acknowledged and every snapshot committed."""
        with self._lock:
            return not self._sealed and not self._open.owed and not self._open.letters

    def __len__(self) -> int:
        """Return how many snapshots wait for acknowledgements."""
        return len(self._sealed)
