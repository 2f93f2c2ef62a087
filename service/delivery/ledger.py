"""Which position of a partition may be committed: the newest one before which all output is acknowledged."""

import collections
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.delivery.letter import Letter


@dataclass(slots=True, eq=False)
class Segment:
    """The input between two snapshots: ``owed`` counts its outputs that Kafka hasn't acknowledged.

    ``letters`` are dead letters kept back until the position after their records is committed.
    """

    owed: int = 0
    letters: list[Letter] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Point:
    """A snapshot: the position, from where to replay and to read back labels, and which devices a replay skips.

    docs/delivery.md explains each under "The snapshot".
    """

    position: int
    rewind_to: int
    labels_from: int
    skip_until: Mapping[bytes, int] = field(default_factory=dict)


class Ledger:
    """The segments of one partition, oldest first.

    A snapshot may be committed when every output promised before it was taken has been acknowledged. An
    unacknowledged output delays the commit; it doesn't lower the snapshot's ``rewind_to``. The worker's thread calls
    ``promise`` and ``seal``; any thread calls ``acknowledge``.
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
        """How many outputs were promised and not acknowledged."""
        return self._owed

    def promise(self, outputs: int) -> Segment:
        """Count labels or dead letters that will be sent; return the segment to acknowledge them to."""
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
        """Count outputs that Kafka has acknowledged; a negative number takes that back."""
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
                # It waits for the same outputs as the one before, which it replaces because it is newer.
                self._sealed[-1] = (self._sealed[-1][0], point)
                return
            self._sealed.append((self._open, point))
            self._open = Segment()

    def committable(self) -> Point | None:
        """Return the newest snapshot that may be committed, ignoring letters kept back; None if there is none."""
        due = self.due()
        return None if due is None else due[0]

    def due(self, most_letters: int | None = None) -> tuple[Point, list[Letter]] | None:
        """Return the newest snapshot that may be committed, and the letters kept back that must be sent with it.

        Both come from one call, because a snapshot without outputs that is taken in between would take the letters
        along. A snapshot that would exceed ``most_letters`` is left for the next call, unless it is the first with
        letters and ``most_letters`` isn't 0.
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
        """Drop letters that were kept back: Kafka has them, or will never take them."""
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
            waits = any(sealed == point for _, sealed in self._sealed)  # else a newer one has replaced it
            while self._sealed and self._sealed[0][1].position <= point.position and not self._sealed[0][0].owed:
                if not waits and self._sealed[0][1].position == point.position:
                    break  # a later snapshot at the same position, which is still to be committed
                if self._sealed.popleft()[1] == point:
                    break

    @property
    def letter_bytes(self) -> int:
        """Bytes of the dead letters kept back."""
        return self._letter_bytes

    @property
    def settled(self) -> bool:
        """Whether all output is acknowledged and every snapshot committed."""
        with self._lock:
            return not self._sealed and not self._open.owed and not self._open.letters

    def __len__(self) -> int:
        """Return how many snapshots wait for acknowledgements."""
        return len(self._sealed)
