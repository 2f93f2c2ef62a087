"""What a worker knows of a partition that it holds: the windows, what it owes, what must be found again."""

from collections import deque
from typing import NamedTuple

from tests.delivery.broker import Label, Letter, Place, Snapshot, Transaction
from tests.delivery.windows import Device, Window, Windower


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


class Hold(NamedTuple):
    """A silent device that found no room among the tombstones: a replay must not begin within what it held."""

    last: int
    oldest: int


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
        self.tombstones: dict[str, int] = {}
        self.holds: list[Hold] = []
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
        rewind_to = self._keep_holds(rewind_to)
        self.tombstones = {name: last for name, last in self.tombstones.items() if last >= rewind_to}
        self.remembered = [one for one in self.remembered if one.last >= rewind_to]
        remembered, tombstones = self.remembered, tuple(self.tombstones.items())
        if "remembered until the rewind has passed" in without:
            self.remembered = []
        if "tombstones until the rewind has passed" in without:
            self.tombstones = {}
        self._drop_reread(rewind_to)
        froms = [self.known_end]
        if "silent devices hold labels_from" not in without:
            froms += [one.label_from for one in remembered]
        if "reread labels hold labels_from" not in without:
            froms += [offset for offset, _ in self.said.values()]
        return Snapshot(self.next, rewind_to, min(froms), tombstones)

    def _keep_holds(self, rewind_to: int) -> int:
        """Return the record to rewind to that no hold forbids; forget the holds that have been passed."""
        kept: list[Hold] = []
        for hold in sorted(self.holds, key=lambda hold: -hold.last):
            if hold.last >= rewind_to:
                kept.append(hold)
                rewind_to = min(rewind_to, hold.oldest)
        self.holds = kept
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
        if device.hazardous:
            self._bury(name, device)
        return unsaid

    def _bury(self, name: str, device: Device) -> None:
        if "tombstones for devices heard late" in self.without:
            return
        if name in self.tombstones or len(self.tombstones) < self.room:
            self.tombstones[name] = device.last
        elif "holds where tombstones have no room" not in self.without:
            self.holds.append(Hold(device.last, device.oldest))
