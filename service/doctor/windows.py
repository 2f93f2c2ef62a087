"""The windows that a worker would have cut from a partition's records, by Kafka's clock instead of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ingest.messages.decode import Readings
from ingest.record_batches.record_columns import Records
from service.configuration.settings import ActivitySettings
from service.doctor.sent import extremes, number_devices
from service.doctor.stamps import plausible
from windowing import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS, Step, Windower
from windowing.grid import phase


@dataclass(slots=True)
class Cut:
    """How many windows of each device get a label, how many don't, and how many readings come too late.

    `latecomers` are devices with readings so far behind that all their windows must have closed.
    """

    labelled: Counter[bytes] = field(default_factory=Counter)
    incomplete: int = 0
    late: int = 0
    latecomers: Counter[bytes] = field(default_factory=Counter)


def cut_windows(records: Records, readings: Readings, windower: Windower, settings: ActivitySettings) -> Cut:
    """Cut a partition's windows; those that began before the first record don't count as incomplete."""
    cut = Cut()
    for step in _steps(records, readings, windower):
        cut.labelled.update(step.frames.device_ids())
        cut.incomplete += step.incomplete
        cut.late += len(step.late)
    ids: dict[bytes, int] = {}
    device = number_devices(readings, ids)
    cut.incomplete = max(0, cut.incomplete - _cut_off(list(ids), device, readings.timestamp_ms, settings))
    if cut.late:
        behind_ms = SLOT_MS * (STRIDE_SLOTS + settings.lateness_slots + 1)
        cut.latecomers = _latecomers(list(ids), device, readings.timestamp_ms, behind_ms)
    return cut


def _steps(records: Records, readings: Readings, windower: Windower) -> Iterator[Step]:
    """Push the readings of each second of Kafka's clock, then let devices fall silent."""
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
    """Return when each record was written, in seconds, never decreasing; stamps may be any numbers."""
    stamps = records.timestamp
    near = plausible(stamps)  # one in the future would stop the clock for all after it
    return np.maximum.accumulate(np.where(near, stamps, stamps[near].min()) / 1000)


def _cut_off(
    ids: Sequence[bytes], device: NDArray[np.int32], timestamp_ms: NDArray[np.int64], settings: ActivitySettings
) -> int:
    """Count the windows that are incomplete because they begin before their device's first reading."""
    slots = (timestamp_ms + SLOT_MS // 2) // SLOT_MS
    first, last = extremes(device, slots, len(ids))
    own = np.fromiter(map(phase, ids), np.int64, len(ids))
    hole = settings.max_gap_ms // SLOT_MS  # enough to spoil a window
    ends = np.minimum(first - hole, last - settings.lateness_slots - WINDOW_SLOTS)  # the last start of a closed one
    counts = (ends - own) // STRIDE_SLOTS - (first - WINDOW_SLOTS - own) // STRIDE_SLOTS
    return int(np.maximum(counts, 0).sum())


def _latecomers(
    ids: Sequence[bytes], device: NDArray[np.int32], timestamp_ms: NDArray[np.int64], behind_ms: int
) -> Counter[bytes]:
    """Count the readings of each device that are so far behind its newest one."""
    ends = np.cumsum(np.bincount(device, minlength=len(ids)))
    times = np.split(timestamp_ms[np.argsort(device, kind="stable")], ends[:-1])
    behind = [int((np.maximum.accumulate(some) - some >= behind_ms).sum()) for some in times]
    return +Counter(dict(zip(ids, behind, strict=True)))
