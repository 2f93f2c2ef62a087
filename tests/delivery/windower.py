"""A small windower, by the rules of ``windowing``: windows of 4 slots, a stride of 2, lateness 1, gaps of at most 1.

It is both a part of the modelled worker and, run once over a whole log, the reference for what must be published.
"""

from typing import NamedTuple

WINDOW_SLOTS = 4
STRIDE_SLOTS = 2
LATENESS_SLOTS = 1
MAX_GAP_SLOTS = 1
RING_SLOTS = WINDOW_SLOTS + LATENESS_SLOTS
IDLE_TIMEOUT = 10


class Record(NamedTuple):
    """An input record: one device's readings, each a slot and its distance from the centre; None is a bad record."""

    device: str | None
    readings: tuple[tuple[int, int], ...] = ()


class Window(NamedTuple):
    """A closed window; ``content`` is what each slot holds, None where it is empty.

    ``source_offset`` is the record that closed it, or its device's last before its silence.
    """

    device: str
    start: int
    content: tuple[int | None, ...]
    source_offset: int

    @property
    def identity(self) -> tuple[str, int]:
        return self.device, self.start

    @property
    def complete(self) -> bool:
        gap = 0
        for value in self.content:
            gap = 0 if value is not None else gap + 1
            if gap > MAX_GAP_SLOTS:
                return False
        return True


def first_open(device: str, newest: int) -> int:
    """Return the start of the oldest window that a device with this newest slot still has open."""
    earliest = newest - RING_SLOTS + 1
    return earliest + (ord(device) - earliest) % STRIDE_SLOTS


class Device:
    """The state of one device. For each slot, ``held`` has the reading, its record and when that was processed."""

    __slots__ = ("held", "last_record", "newest", "strayed")

    def __init__(self, newest: int) -> None:
        self.newest = newest
        self.held: dict[int, tuple[int, int, int]] = {}
        self.last_record = -1
        self.strayed = -1  # the last record with a reading further behind the newest than the lateness

    @property
    def oldest(self) -> int:
        """Return the oldest record with a held reading."""
        return min(reading[1] for reading in self.held.values())

    @property
    def newest_record(self) -> int:
        """Return the record that holds the newest slot."""
        return self.held[self.newest][1]

    @property
    def has_strayed(self) -> bool:
        """Whether a replay that begins after the newest slot's record might take a late reading for the newest."""
        return self.strayed > self.newest_record


class Windower:
    """The open windows of one partition's devices."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}

    def push(self, record: Record, offset: int, processed_at: int) -> list[Window]:
        """Take in a record; return the windows that it closes by time."""
        name = record.device
        if name is None:
            return []
        closed: list[Window] = []
        for slot, value in record.readings:
            device = self.devices.get(name)
            if device is None:
                device = self.devices[name] = Device(slot)
            device.last_record = offset
            first = first_open(name, device.newest)
            if slot < device.newest - LATENESS_SLOTS:
                device.strayed = offset
            if slot < first:
                continue
            if slot > device.newest:
                opens = first_open(name, slot)
                if opens > first:
                    closed += self._close(name, device, first, opens, offset)
                    device.held = {held: reading for held, reading in device.held.items() if held >= opens}
                device.newest = slot
            known = device.held.get(slot)
            if known is None or value < known[0]:
                device.held[slot] = (value, offset, processed_at)
        return closed

    def silent_devices(self, caught_up_at: int) -> list[str]:
        """Return the devices whose oldest held reading was processed IDLE_TIMEOUT before ``caught_up_at``."""
        return [
            name
            for name, device in self.devices.items()
            if min(device.held.values(), key=lambda reading: reading[1])[2] <= caught_up_at - IDLE_TIMEOUT
        ]

    def fall_silent(self, name: str) -> tuple[Device, list[Window]]:
        """Close all windows of a device, and drop it."""
        device = self.devices.pop(name)
        first = first_open(name, device.newest)
        return device, self._close(name, device, first, device.newest + 1, device.last_record)

    def is_open(self, name: str, start: int) -> bool:
        """Return whether this window is open."""
        device = self.devices.get(name)
        if device is None or start < first_open(name, device.newest):
            return False
        return any(slot in device.held for slot in range(start, start + WINDOW_SLOTS))

    def rewind_to(self, position: int) -> int:
        """Return the oldest record with a reading in an open window, or the position."""
        return min((device.oldest for device in self.devices.values()), default=position)

    @staticmethod
    def _close(name: str, device: Device, first: int, stop: int, source_offset: int) -> list[Window]:
        held = device.held
        windows = []
        for start in range(first, min(stop, device.newest + 1), STRIDE_SLOTS):
            content = tuple([held[slot][0] if slot in held else None for slot in range(start, start + WINDOW_SLOTS)])
            if any(value is not None for value in content):
                windows.append(Window(name, start, content, source_offset))
        return windows


def expected(log: list[Record]) -> dict[tuple[str, int], tuple[int | None, ...]]:
    """Return the content of every complete window of this log, read once from its start without any fault."""
    windower = Windower()
    windows: list[Window] = []
    for offset, record in enumerate(log):
        windows += windower.push(record, offset, 0)
    for name in list(windower.devices):
        windows += windower.fall_silent(name)[1]
    return {window.identity: window.content for window in windows if window.complete}
