"""Windows as the design's section 2 words them: slow, obvious, a reading at a time, on dictionaries.

Written from that text alone. It imports nothing of the room it checks, not even a constant.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import NamedTuple


class Reading(NamedTuple):
    device_id: bytes
    timestamp_ms: int
    x: float
    y: float
    z: float


class Window(NamedTuple):
    """A closed and complete window."""

    device_id: bytes
    start_ms: int
    values: tuple[tuple[float, float, float], ...]
    measured: int
    longest_gap_ms: int
    closed_by: str
    source_offset: int


class Kept(NamedTuple):
    """A reading in a slot. Of two, the smaller is kept: the tuple's order is the rule's."""

    from_centre_ms: int
    timestamp_ms: int
    x: float
    y: float
    z: float
    offset: int
    processed_at: float


@dataclass
class Device:
    """A device's open windows, each by its first slot, each with its own copy of what it holds."""

    newest_ms: int
    last_offset: int
    windows: dict[int, dict[int, Kept]] = field(default_factory=dict)


def slot_of(timestamp_ms: int) -> int:
    """Return floor((timestamp_ms + 25) / 50), in whole numbers of any size."""
    return (timestamp_ms + 25) // 50


def starts_of_windows_holding(slot: int, device_id: bytes) -> list[int]:
    """Return the first slots of all windows that hold this slot, by trying every candidate."""
    return [start for start in range(slot - 79, slot + 1) if start % 40 == zlib.crc32(device_id) % 40]


def holes_of(measured: list[int]) -> list[int]:
    """Return the lengths of the runs of empty slots among 0..79."""
    fenced = [-1, *measured, 80]
    return [right - left - 1 for left, right in pairwise(fenced) if right - left > 1]


def filled(readings: dict[int, tuple[float, float, float]]) -> tuple[tuple[float, float, float], ...]:
    """Fill slots 0..79: by a straight line between the slots around, at an edge by the nearest."""
    frame = []
    for slot in range(80):
        left = max((s for s in readings if s <= slot), default=None)
        right = min((s for s in readings if s >= slot), default=None)
        if left is None:
            assert right is not None
            left = right
        if right is None or right == left:
            frame.append(readings[left])
            continue
        pairs = zip(readings[left], readings[right], strict=True)
        x, y, z = (a + (b - a) * (slot - left) / (right - left) for a, b in pairs)
        frame.append((x, y, z))
    return tuple(frame)


class Reference:
    """One partition's windows."""

    def __init__(self, lateness_slots: int, max_gap_ms: int, idle_timeout_s: float) -> None:
        self.lateness_slots = lateness_slots
        self.max_gap_ms = max_gap_ms
        self.idle_timeout_s = idle_timeout_s
        self.devices: dict[bytes, Device] = {}
        self.incomplete = 0
        self.superseded = 0
        self.late: list[int] = []
        self.joined: list[bytes] = []
        self.forgotten: list[bytes] = []

    def read(self, reading: Reading, offset: int, processed_at: float) -> list[Window]:
        """Take in a reading; return the windows it closes."""
        device = self.devices.get(reading.device_id)
        if device is None:
            device = self.devices[reading.device_id] = Device(reading.timestamp_ms, offset)
            self.joined.append(reading.device_id)
        device.last_offset = offset
        slot = slot_of(reading.timestamp_ms)
        open_starts = [
            start
            for start in starts_of_windows_holding(slot, reading.device_id)
            if not self.is_past(start, device.newest_ms)
        ]
        if not open_starts:
            self.late.append(device.newest_ms - reading.timestamp_ms)
            return []
        device.newest_ms = max(device.newest_ms, reading.timestamp_ms)
        kept = Kept(abs(reading.timestamp_ms - 50 * slot), *reading[1:], offset, processed_at)
        lost = False
        for start in open_starts:
            window = device.windows.setdefault(start, {})
            lost |= slot in window
            window[slot] = min(kept, window.get(slot, kept))
        self.superseded += lost
        past = [start for start in device.windows if self.is_past(start, device.newest_ms)]
        return self.close(reading.device_id, past, "time")

    def is_past(self, start: int, newest_ms: int) -> bool:
        """Tell whether there is a reading at or past the window's last slot + 1 + lateness."""
        return slot_of(newest_ms) >= start + 79 + 1 + self.lateness_slots

    def hear(self, caught_up_at: float) -> list[Window]:
        """Close what the devices that are silent at this moment hold, and forget them."""
        windows = []
        for device_id, device in list(self.devices.items()):
            readings = [kept for window in device.windows.values() for kept in window.values()]
            oldest = min(readings, key=lambda kept: kept.offset)
            if oldest.processed_at <= caught_up_at - self.idle_timeout_s:
                windows += self.close(device_id, list(device.windows), "silence")
                del self.devices[device_id]
                self.forgotten.append(device_id)
        return windows

    def rewind_to(self, position: int) -> int:
        """Return the oldest record whose reading a window still open holds, or the position."""
        held = [
            kept.offset
            for device in self.devices.values()
            for window in device.windows.values()
            for kept in window.values()
        ]
        return min(held, default=position)

    def close(self, device_id: bytes, starts: list[int], closed_by: str) -> list[Window]:
        device = self.devices[device_id]
        windows = []
        for start in sorted(starts):
            readings = device.windows.pop(start)
            longest = max(holes_of(sorted(slot - start for slot in readings)), default=0)
            if longest and 50 * (longest + 1) > self.max_gap_ms:
                self.incomplete += 1
                continue
            values = filled({slot - start: (kept.x, kept.y, kept.z) for slot, kept in readings.items()})
            windows.append(
                Window(device_id, 50 * start, values, len(readings), 50 * (longest + 1), closed_by, device.last_offset)
            )
        return windows


def everything(reference: Reference) -> list[Window]:
    """Close all that is still open."""
    return reference.hear(math.inf)


SMOOTHED_OVER = 4


def smoothed(
    windows: Sequence[tuple[int, Sequence[float]]], transitions: Sequence[Sequence[float]]
) -> list[tuple[float, ...] | None]:
    """How probable each label is at the end of one device's last four windows, by all ways through them.

    `windows` are starts, in ms, and probabilities. None where the four are not two seconds apart each, and without
    transitions.
    """
    answers: list[tuple[float, ...] | None] = []
    for end in range(1, len(windows) + 1):
        last = windows[max(0, end - SMOOTHED_OVER) : end]
        if not transitions or len(last) < SMOOTHED_OVER or any(b[0] - a[0] != 2000 for a, b in pairwise(last)):
            answers.append(None)
            continue
        labels = range(len(transitions))
        total = [0.0 for _ in labels]
        for way in product(labels, repeat=SMOOTHED_OVER):
            seen = math.prod(max(window[1][label], 1e-6) for window, label in zip(last, way, strict=True))
            total[way[-1]] += seen * math.prod(transitions[a][b] for a, b in pairwise(way))
        answers.append(tuple(share / sum(total) for share in total))
    return answers
