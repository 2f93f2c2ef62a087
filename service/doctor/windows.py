"""The windows that a worker would have cut of some records of a partition, by Kafka's clock instead of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ingest.decode import Readings
from ingest.record_columns import Records
from service.settings import ActivitySettings
from windowing import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS, Step, Windower
from windowing.grid import phase

FAR_MS = 3_600_000


@dataclass(slots=True)
class Cut:
    """How many windows of each device get a label; how many windows don't, and how many readings come too late."""

    labelled: Counter[bytes] = field(default_factory=Counter)
    incomplete: int = 0
    late: int = 0


def cut_windows(records: Records, readings: Readings, windower: Windower, settings: ActivitySettings) -> Cut:
    """Cut a partition's windows; those that began before the first record are not held against anybody."""
    cut = Cut()
    for step in _steps(records, readings, windower):
        cut.labelled.update(step.frames.device_ids())
        cut.incomplete += step.incomplete
        cut.late += len(step.late)
    cut.incomplete = max(0, cut.incomplete - _cut_off(readings, settings))
    return cut


def _steps(records: Records, readings: Readings, windower: Windower) -> Iterator[Step]:
    """Push what came within a second of Kafka's clock, and then see who is silent."""
    offsets = records.offset[readings.record]
    heard = _heard(records)[readings.record]
    start = 0
    for end in [*(np.flatnonzero(np.diff(np.floor(heard))) + 1).tolist(), len(heard)]:
        at = float(heard[end - 1])
        while start < end:
            columns = readings[:end]
            step = windower.push(
                columns.ids,
                columns.id_at,
                columns.id_end,
                columns.timestamp_ms,
                columns.xyz,
                offsets[:end],
                at,
                start,
            )
            start = step.consumed
            yield step
        step = windower.fall_silent(at)
        yield step
        while step.more:
            step = windower.fall_silent(at)
            yield step


def _heard(records: Records) -> NDArray[np.float64]:
    """Return when each record was written, in seconds, never decreasing, by stamps that may be anything."""
    low, high = np.percentile(records.timestamp, [1, 99])
    far = high + max(high - low, FAR_MS)  # one in the future would stop the clock for all that come after it
    return np.maximum.accumulate(np.where(records.timestamp > far, low, records.timestamp) / 1000)


def _cut_off(readings: Readings, settings: ActivitySettings) -> int:
    """Count the windows that are incomplete because they begin before their device's first reading."""
    ids: dict[bytes, int] = {}
    device = number_devices(readings, ids)
    slots = (readings.timestamp_ms + SLOT_MS // 2) // SLOT_MS
    first, last = extremes(device, slots, len(ids))
    own = np.fromiter(map(phase, ids), np.int64, len(ids))
    hole = settings.max_gap_ms // SLOT_MS  # that spoils a window
    ends = np.minimum(first - hole, last - settings.lateness_slots - WINDOW_SLOTS)  # the last start of one that closed
    counts = (ends - own) // STRIDE_SLOTS - (first - WINDOW_SLOTS - own) // STRIDE_SLOTS
    return int(np.maximum(counts, 0).sum())


def number_devices(readings: Readings, ids: dict[bytes, int]) -> NDArray[np.int32]:
    """Return the number of each reading's device, int32[n], and add those to `ids` that have none yet.

    A record has one device, however many readings.
    """
    first = np.flatnonzero(np.diff(readings.record, prepend=-1))
    devices = readings[first].device_ids()
    of_record = np.fromiter((ids.setdefault(device, len(ids)) for device in devices), np.int32, len(devices))
    return np.repeat(of_record, np.diff(first, append=len(readings.record)))


def extremes(
    group: NDArray[np.integer], values: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lowest and the highest of `values` int64[n] of each group, int64[groups] both."""
    lowest = np.full(groups, np.iinfo(np.int64).max)
    highest = np.full(groups, np.iinfo(np.int64).min)
    np.minimum.at(lowest, group, values)
    np.maximum.at(highest, group, values)
    return lowest, highest
