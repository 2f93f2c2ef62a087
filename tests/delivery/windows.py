"""Small windows, as section 2 of the design words them: 4 slots, a stride of 2, a lateness of 1, holes of at most 1."""

from typing import NamedTuple

WIDTH = 4
STRIDE = 2
LATENESS = 1
MAX_HOLE = 1
RING = WIDTH + LATENESS
IDLE = 10


class Record(NamedTuple):
    """A record of the input: readings of one device, each a slot and how far from its centre; None is a bad record."""

    device: str | None
    readings: tuple[tuple[int, int], ...] = ()


class Window(NamedTuple):
    """A closed window; ``content`` is what each slot holds, None where it is empty."""

    device: str
    start: int
    content: tuple[int | None, ...]
    source: int

    @property
    def identity(self) -> tuple[str, int]:
        return self.device, self.start

    @property
    def complete(self) -> bool:
        hole = 0
        for value in self.content:
            hole = 0 if value is not None else hole + 1
            if hole > MAX_HOLE:
                return False
        return True


def first_open(device: str, newest: int) -> int:
    """Return the start of the oldest window that a device with this newest slot still has open."""
    earliest = newest - RING + 1
    return earliest + (ord(device) - earliest) % STRIDE


class Device:
    """What is held of a device: for each slot the kept reading, its record and when that was processed."""

    __slots__ = ("behind", "held", "last", "newest")

    def __init__(self, newest: int) -> None:
        self.newest = newest
        self.held: dict[int, tuple[int, int, int]] = {}
        self.last = -1
        self.behind = -1  # the last record with a reading more than the lateness behind the newest

    @property
    def oldest(self) -> int:
        """Return the oldest record whose reading is held."""
        return min(kept[1] for kept in self.held.values())

    @property
    def newest_record(self) -> int:
        """Return the record whose reading is held in the newest slot."""
        return self.held[self.newest][1]

    @property
    def hazardous(self) -> bool:
        """Tell whether a replay that begins after that record might take a late reading for the newest."""
        return self.behind > self.newest_record


class Windower:
    """The open windows of one partition's devices."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}

    def push(self, record: Record, offset: int, moment: int) -> list[Window]:
        """Take in a record; return the windows that it closes by time."""
        name = record.device
        if name is None:
            return []
        closed: list[Window] = []
        for slot, value in record.readings:
            device = self.devices.get(name)
            if device is None:
                device = self.devices[name] = Device(slot)
            device.last = offset
            first = first_open(name, device.newest)
            if slot < device.newest - LATENESS:
                device.behind = offset
            if slot < first:
                continue
            if slot > device.newest:
                opens = first_open(name, slot)
                if opens > first:
                    closed += self._close(name, device, first, opens, offset)
                    device.held = {held: kept for held, kept in device.held.items() if held >= opens}
                device.newest = slot
            kept = device.held.get(slot)
            if kept is None or value < kept[0]:
                device.held[slot] = (value, offset, moment)
        return closed

    def silent(self, until: int) -> list[str]:
        """Return the devices whose oldest held reading was processed IDLE before ``until``."""
        return [
            name
            for name, device in self.devices.items()
            if min(device.held.values(), key=lambda kept: kept[1])[2] <= until - IDLE
        ]

    def forget(self, name: str) -> tuple[Device, list[Window]]:
        """Close what a device holds, and forget it."""
        device = self.devices.pop(name)
        first = first_open(name, device.newest)
        return device, self._close(name, device, first, device.newest + 1, device.last)

    def is_open(self, name: str, start: int) -> bool:
        """Tell whether this window is open."""
        device = self.devices.get(name)
        if device is None or start < first_open(name, device.newest):
            return False
        return any(slot in device.held for slot in range(start, start + WIDTH))

    def rewind_to(self, position: int) -> int:
        """Return the oldest record whose reading an open window holds, or the position."""
        return min((device.oldest for device in self.devices.values()), default=position)

    @staticmethod
    def _close(name: str, device: Device, first: int, stop: int, source: int) -> list[Window]:
        held = device.held
        windows = []
        for start in range(first, min(stop, device.newest + 1), STRIDE):
            content = tuple([held[slot][0] if slot in held else None for slot in range(start, start + WIDTH)])
            if any(value is not None for value in content):
                windows.append(Window(name, start, content, source))
        return windows


def expected(log: list[Record]) -> dict[tuple[str, int], tuple[int | None, ...]]:
    """Return the content of every complete window of this log, read once from its start, in peace."""
    windower = Windower()
    windows: list[Window] = []
    for offset, record in enumerate(log):
        windows += windower.push(record, offset, 0)
    for name in list(windower.devices):
        windows += windower.forget(name)[1]
    return {window.identity: window.content for window in windows if window.complete}
