"""What a worker knows of a partition that it holds: the windows, what it owes, what must be found again."""

from collections import deque
from typing import NamedTuple

from tests.delivery.broker import Label, Letter, Place, Snapshot, Transaction
from tests.delivery.windows import Window, Windower


class Segment:
    """A stretch between two snapshots: labels owed, and dead letters that no transaction has carried yet."""

    __slots__ = ("letters", "owed", "snapshot")

    def __init__(self) -> None:
        self.owed = 0
        self.letters: list[Send] = []
        self.snapshot: Snapshot | None = None


class Send:
    """A label or a dead letter on its way."""

    __slots__ = ("holding", "lost", "offset", "place", "segment", "sent_at", "transaction", "what")

    def __init__(self, holding: "Holding", segment: Segment, what: Label | Letter, place: Place) -> None:
        self.holding = holding
        self.segment = segment
        self.what = what
        self.place = place
        self.transaction: Transaction | None = None
        self.offset: int | None = None  # where it landed
        self.lost = False  # its fate is unknown
        self.sent_at = 0


class Remembered(NamedTuple):
    """A window that silence closed and that was said: its device's last record, and no label of it is older."""

    last: int
    device: str
    start: int
    label_from: int


class Grave(NamedTuple):
    """A silent device that was heard late: a replay that begins between the two records must be told of it."""

    name: str
    newest: int
    last: int

    def is_needed(self, rewind_to: int) -> bool:
        return self.newest < rewind_to <= self.last


class Holding:
    """One partition, for one assignment."""

    def __init__(self, partition: int, assignment: int, room: int, without: frozenset[str], now: int) -> None:
        self.partition = partition
        self.assignment = assignment
        self.room = room
        self.without = without
        self.alive = True
        self.state = "offsets"
        self.position = self.next = self.labels_from = self.end = 0
        self.windower = Windower()
        self.said: dict[tuple[str, int], tuple[int, int]] = {}  # reread labels: their offset, their source record
        self.remembered: list[Remembered] = []
        self.tombstones: dict[str, int] = {}  # that the commit told of
        self.graves: list[Grave] = []
        self.held = 0
        self.given_up: set[str] = set()  # devices that found no room, of all workers
        self.known_end = 0
        self.origin: Snapshot | None = None  # where this assignment began
        self.committed: Snapshot | None = None
        self.segments: deque[Segment] = deque()
        self.open = Segment()
        self.fetch_sent = now
        self.hearings: list[tuple[int, int]] = []
        self.heard_until = -1000

    # -- what is owed

    @property
    def owed(self) -> int:
        return sum(segment.owed + len(segment.letters) for segment in self.all_segments())

    def all_segments(self) -> list[Segment]:
        return [*self.segments, self.open]

    def committable(self, *, letters_first: bool) -> Segment | None:
        """Return the newest segment that ends in a snapshot before which nothing is owed."""
        newest = None
        for segment in self.segments:
            owed = segment.owed or (letters_first and segment.letters)
            if owed and "commit after acknowledgement" not in self.without:
                break
            newest = segment
        return newest

    def settle(self, snapshot: Snapshot) -> None:
        """Note that this snapshot is committed."""
        self.committed = snapshot
        if any(segment.snapshot is snapshot for segment in self.segments):
            while self.segments.popleft().snapshot is not snapshot:
                pass

    # -- hearing

    def hear(self, now: int, high_watermark: int) -> None:
        """Take in the answer to a fetch, and send the next."""
        self.hearings.append((self.fetch_sent, high_watermark))
        self.fetch_sent = now

    def heard(self) -> int:
        """Return T: when the latest fetch was sent whose high watermark has been processed."""
        while self.hearings and self.hearings[0][1] <= self.next:
            self.heard_until = self.hearings.pop(0)[0]
        return self.heard_until

    # -- snapshots

    def seal(self) -> None:
        """Take a snapshot here, at a record boundary."""
        snapshot = self._snapshot()
        last = self.segments[-1].snapshot if self.segments else self.committed
        if not self.open.owed and not self.open.letters and last is not None:
            if snapshot == last:
                return
            if self.segments:
                self.segments[-1].snapshot = snapshot
                return
        self.open.snapshot = snapshot
        self.segments.append(self.open)
        self.open = Segment()

    def _snapshot(self) -> Snapshot:
        without = self.without
        rewind_to = self.windower.rewind_to(self.next)
        if "rewind to the oldest record held" in without:
            rewind_to = self.next
        if "holds where tombstones have no room" not in without:
            rewind_to = self._place(rewind_to)
        self.held = rewind_to
        self.graves = [grave for grave in self.graves if grave.last >= rewind_to]
        needed = [grave for grave in self.graves if grave.is_needed(rewind_to)][: self.room]
        tombstones = tuple({grave.name: grave.last for grave in sorted(needed, key=lambda one: one.last)}.items())
        self.remembered = [one for one in self.remembered if one.last >= rewind_to]
        remembered = self.remembered
        if "remembered until the rewind has passed" in without:
            self.remembered = []
        if "tombstones until the rewind has passed" in without:
            self.graves = []
        self._drop_reread(rewind_to)
        froms = [self.known_end]
        if "silent devices hold labels_from" not in without:
            froms += [one.label_from for one in remembered]
        if "reread labels hold labels_from" not in without:
            froms += [offset for offset, _ in self.said.values()]
        return Snapshot(self.next, rewind_to, min(froms), tombstones)

    def _place(self, rewind_to: int) -> int:
        """Return the newest record to rewind to from where all find room that need it, if there is one.

        Not before the newest readings of those that need it at ``rewind_to``. If there is none, give up the rest.
        """
        needed = [grave for grave in self.graves if grave.is_needed(rewind_to)]
        if len(needed) <= self.room:
            return rewind_to
        lowest = min([grave.newest for grave in needed if grave.newest >= self.held], default=rewind_to)
        places = {grave.newest for grave in self.graves if lowest <= grave.newest < rewind_to}
        for place in sorted(places, reverse=True):
            if sum(grave.is_needed(place) for grave in self.graves) <= self.room:
                return place
        for grave in sorted(needed, key=lambda one: (one.newest >= self.held, one.last))[self.room :]:
            self.graves.remove(grave)
            self.given_up.add(grave.name)
        return rewind_to

    def _drop_reread(self, rewind_to: int) -> None:
        if "drop reread labels that the rewind has passed" in self.without:
            return
        for identity, (_, source) in list(self.said.items()):
            if source < rewind_to and (
                "keep reread labels of windows open or remembered" in self.without
                or not (
                    self.windower.is_open(*identity)
                    or any((one.device, one.start) == identity for one in self.remembered)
                )
            ):
                del self.said[identity]

    # -- silence

    def fall_silent(self, name: str) -> list[Window]:
        """Forget a device; return the windows that are to be labelled."""
        device, windows = self.windower.forget(name)
        unsaid = []
        for window in windows:
            if not window.complete:
                continue
            found = self.said.get(window.identity)
            if found is None:
                unsaid.append(window)
            label_from = self.known_end if found is None else found[0]
            self.remembered.append(Remembered(device.last, name, window.start, label_from))
        if device.hazardous and "tombstones for devices heard late" not in self.without:
            self.graves.append(Grave(name, device.newest_record, device.last))
        return unsaid
