"""An input partition that is assigned to a worker: its windows, ledger, published labels and silent devices.

The service has this in several modules, of which ``service/delivery/partition.py`` is the root; a comment above each
part here names its module.
"""

from collections import deque
from typing import NamedTuple

from tests.delivery.broker import Destination, Identity, Label, Letter, Snapshot, Transaction
from tests.delivery.windower import Window, Windower


class Segment:
    """The input between two snapshots: how many outputs are owed, and dead letters that no transaction has held yet."""

    __slots__ = ("letters", "owed", "snapshot")

    def __init__(self) -> None:
        self.owed = 0
        self.letters: list[Send] = []
        self.snapshot: Snapshot | None = None


class Send:
    """A label or a dead letter that is to be sent, or is in flight."""

    __slots__ = ("destination", "fate_unknown", "offset", "owner", "segment", "sent_at", "transaction", "value")

    def __init__(self, owner: "Partition", segment: Segment, value: Label | Letter, destination: Destination) -> None:
        self.owner = owner
        self.segment = segment
        self.value = value
        self.destination = destination
        self.transaction: Transaction | None = None
        self.offset: int | None = None  # where it was written
        self.fate_unknown = False
        self.sent_at = 0


class Mark(NamedTuple):
    """Where a published label lies, and until when it matters.

    No label of the window lies before offset ``label`` in the output. ``record`` is the last input record that is known
    to have gone into the window.
    """

    label: int
    record: int


class Silence(NamedTuple):
    """A silence of a device that strayed: the record of its newest slot, and its last one."""

    name: str
    newest: int
    last: int

    def needs_tombstone(self, rewind_to: int) -> bool:
        """Return whether a replay from there sees the device in part: not its newest slot's record, but later ones."""
        return self.newest < rewind_to <= self.last


class Partition:
    """An assigned partition. The object stands for this assignment, the epoch.

    ``state`` is first a step of the recovery: "read commit", "find output end", "read back", "replay"; then "live".
    Records before ``live_from`` are replayed.
    """

    def __init__(self, source: int, assignment: int, room: int, without: frozenset[str], now: int) -> None:
        self.source = source
        self.assignment = assignment
        self.room = room  # for so many tombstones
        self.without = without
        self.alive = True
        self.state = "read commit"
        self.position = self.live_from = self.labels_from = self.read_back_end = 0
        self.windower = Windower()
        self.read_back: dict[Identity, Mark] = {}  # labels that were read back
        self.remembered: list[tuple[Identity, Mark]] = []  # published windows that silence closed
        self.skip_until: dict[str, int] = {}  # tombstones of the commit: the replay skips these devices
        self.silences: list[Silence] = []
        self.rewind = 0
        self.overflow: set[str] = set()  # devices that found no room, of all workers
        self.output_end = 0  # as far as this worker knows it
        self.committed_before: Snapshot | None = None  # as it was found; if there was none, an equivalent one
        self.committed: Snapshot | None = None
        self.segments: deque[Segment] = deque()
        self.open = Segment()
        self._fetch_sent_at = now
        self._fetches: list[tuple[int, int]] = []
        self._caught_up_at = -1000

    # -- what is owed: service/delivery/ledger.py

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

    def note_commit(self, snapshot: Snapshot) -> None:
        """Note that this snapshot has been committed."""
        self.committed = snapshot
        if any(segment.snapshot is snapshot for segment in self.segments):
            while self.segments.popleft().snapshot is not snapshot:
                pass

    # -- how far it has caught up: ingest/consumer/fetch_progress.py

    def note_response(self, now: int, high_watermark: int) -> None:
        """Record the response to a fetch, and send the next fetch."""
        self._fetches.append((self._fetch_sent_at, high_watermark))
        self._fetch_sent_at = now

    def caught_up_at(self) -> int:
        """Return when the latest fetch was sent whose high watermark has been reached."""
        while self._fetches and self._fetches[0][1] <= self.position:
            self._caught_up_at = self._fetches.pop(0)[0]
        return self._caught_up_at

    # -- snapshots

    def seal(self) -> None:
        """Take a snapshot at the position."""
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
        rewind_to = self.windower.rewind_to(self.position)
        if "rewind to the oldest record in an open window" in without:
            rewind_to = self.position
        if "hold the rewind back where tombstones have no room" not in without:
            rewind_to = self._hold(rewind_to)
        self.rewind = rewind_to
        self.silences = [silence for silence in self.silences if silence.last >= rewind_to]
        needed = [silence for silence in self.silences if silence.needs_tombstone(rewind_to)][: self.room]
        skip_until = tuple({silence.name: silence.last for silence in sorted(needed, key=lambda one: one.last)}.items())
        self.remembered = [(identity, mark) for identity, mark in self.remembered if mark.record >= rewind_to]
        remembered = self.remembered
        if "remember windows closed by silence until the rewind has passed" in without:
            self.remembered = []
        if "keep tombstones until the rewind has passed" in without:
            self.silences = []
        self._drop_read_back(rewind_to)
        labels = [self.output_end]
        if "windows closed by silence hold labels_from" not in without:
            labels += [mark.label for _, mark in remembered]
        if "read-back labels hold labels_from" not in without:
            labels += [mark.label for mark in self.read_back.values()]
        return Snapshot(self.position, rewind_to, min(labels), skip_until)

    # -- silent devices: service/delivery/silent_devices.py

    def _hold(self, rewind_to: int) -> int:
        """Return the rewind point, held back if more devices need a tombstone than there is room for.

        It is held at the newest point from which there is room for all, but not before the newest slots of those that
        need one at ``rewind_to``. If there is no such point, the devices without room are added to ``overflow``.
        """
        needed = [silence for silence in self.silences if silence.needs_tombstone(rewind_to)]
        if len(needed) <= self.room:
            return rewind_to
        lowest = min([silence.newest for silence in needed if silence.newest >= self.rewind], default=rewind_to)
        places = {silence.newest for silence in self.silences if lowest <= silence.newest < rewind_to}
        for place in sorted(places, reverse=True):
            if sum(silence.needs_tombstone(place) for silence in self.silences) <= self.room:
                return place
        for silence in sorted(needed, key=lambda one: (one.newest >= self.rewind, one.last))[self.room :]:
            self.silences.remove(silence)
            self.overflow.add(silence.name)
        return rewind_to

    def fall_silent(self, name: str) -> list[Window]:
        """Drop a silent device; return its windows that are to be published."""
        device, windows = self.windower.fall_silent(name)
        unpublished = []
        for window in windows:
            if not window.complete:
                continue
            mark = self.read_back.get(window.identity)
            if mark is None:
                unpublished.append(window)
            label = self.output_end if mark is None else mark.label
            self.remembered.append((window.identity, Mark(label, device.last_record)))
        if device.has_strayed and "tombstones for devices that strayed" not in self.without:
            self.silences.append(Silence(name, device.newest_record, device.last_record))
        return unpublished

    # -- published labels: service/delivery/published.py

    def _drop_read_back(self, rewind_to: int) -> None:
        if "drop read-back labels once the rewind has passed them" in self.without:
            return
        for identity, mark in list(self.read_back.items()):
            if mark.record < rewind_to and (
                "keep read-back labels of windows open or remembered" in self.without
                or not (
                    self.windower.is_open(*identity) or any(remembered == identity for remembered, _ in self.remembered)
                )
            ):
                del self.read_back[identity]
