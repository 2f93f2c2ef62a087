"""Checks devices' clocks: in seconds, since the device's start, standing still, or merely wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.doctor.findings import Finding, counted, note, wrong
from service.doctor.sent import Sent

# A clock counts as right if its best reading is so close to its record's Kafka timestamp.
RIGHT_S = 60
A_DAY_MS = 86_400_000
YEAR_2000_MS = 946_684_800_000
# A clock stands still if so many readings, over so long, have one timestamp.
STILL = 20
STILL_MS = 10_000


@dataclass(frozen=True, slots=True)
class Clocks:
    """What is wrong with each device's clock: bool[k] each, at most one of them true for a device."""

    seconds: NDArray[np.bool_]
    ancient: NDArray[np.bool_]
    coarse: NDArray[np.bool_]
    off: NDArray[np.bool_]

    @property
    def useless(self) -> NDArray[np.bool_]:
        """Which devices' windows can't have the readings that they should: bool[k]."""
        return self.seconds | self.ancient | self.coarse


def judge(all_sent: Sent) -> Clocks:
    """Compare each device's timestamps with Kafka's."""
    newest = all_sent.extremes(all_sent.timestamp_ms)[1]
    recorded = all_sent.extremes(all_sent.recorded_ms)[1]
    off = all_sent.extremes(np.abs(all_sent.timestamp_ms - all_sent.recorded_ms))[0] > 1000 * RIGHT_S
    seconds = off & (np.abs(1000 * np.clip(newest, 0, 2**40) - recorded) < A_DAY_MS)
    ancient = off & ~seconds & (newest < YEAR_2000_MS)
    coarse = ~seconds & ~ancient & _coarse(all_sent)
    return Clocks(seconds, ancient, coarse, off & ~seconds & ~ancient & ~coarse)


def _coarse(all_sent: Sent) -> NDArray[np.bool_]:
    """Return which clocks stand still, or have whole seconds only; readings that were sent twice don't count."""
    devices = len(all_sent.ids)
    order = np.lexsort((all_sent.timestamp_ms, all_sent.device))
    device, timestamp_ms, length = (part[order] for part in (all_sent.device, all_sent.timestamp_ms, all_sent.length))
    again = (np.diff(device) == 0) & (np.diff(timestamp_ms) == 0)
    count = np.bincount(device, minlength=devices)
    moments = count - np.bincount(device[1:][again], minlength=devices)
    others = np.bincount(device[1:][again & (np.diff(length) != 0)], minlength=devices)
    whole = np.bincount(device[timestamp_ms % 1000 == 0], minlength=devices) == count
    began, ended = all_sent.extremes(all_sent.recorded_ms)
    still = (moments == 1) & (count >= STILL) & (ended - began > STILL_MS)
    coarse: NDArray[np.bool_] = still | (others > count / 2) | (whole & (count >= 3 * moments) & (count >= STILL))
    return coarse


def tell(all_sent: Sent, clocks: Clocks) -> Iterator[Finding]:
    """Yield findings that name the devices with wrong clocks."""

    def named(which: NDArray[np.bool_], what: str) -> str:
        return f"{counted(int(which.sum()), 'device')} with {what}: {all_sent.named(np.flatnonzero(which))}"

    if clocks.seconds.any():
        who = named(clocks.seconds, "timestamps in seconds")
        yield wrong(f"{who}. They are to be milliseconds since 1970")
    if clocks.ancient.any():
        who = named(clocks.ancient, "timestamps of before the year 2000")
        yield wrong(f"{who}. They are to be milliseconds since 1970: neither seconds, nor since the device was started")
    if clocks.coarse.any():
        who = named(clocks.coarse, "many readings of one timestamp")
        yield wrong(f"{who}. Does the clock stand still, or tell whole seconds? A window keeps one reading each 50 ms")
    if clocks.off.any():
        who = named(clocks.off, f"a clock that is off by more than {RIGHT_S} s, or that sent late")
        yield note(f"{who}. Their windows have the times that they sent")
