"""Recordings as signals to draw frames from: segments of one activity without a gap, laid end to end."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.recordings import OTHER_ACTIVITY, Recording
from windowing import MAX_GAP_MS, SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS


@dataclass(frozen=True, slots=True)
class Signals:
    """Segments of signal without a gap, of one activity each, laid end to end on one clock.

    `clock_ms` float64[n], strictly increasing over all segments; `xyz` float32[n, 3], m/s². Per segment: `first_ms` and
    `last_ms` float64[s] on that clock, `activity` int64[s], and `windows` int64[s], the frames an epoch draws from it.
    """

    clock_ms: np.ndarray
    xyz: np.ndarray
    first_ms: np.ndarray
    last_ms: np.ndarray
    activity: np.ndarray
    windows: np.ndarray


def signals(recordings: Sequence[Recording]) -> Signals:
    """Collect the segments to draw frames from; drop those shorter than a window."""
    clocks, values, rows = [], [], []
    now = 0.0
    window_ms = (WINDOW_SLOTS - 1) * SLOT_MS
    for recording in recordings:
        once = np.diff(recording.t_ms, prepend=recording.t_ms[:1] - 1) > 0  # a clock may stand still
        recorded_ms, xyz, recorded = recording.t_ms[once], recording.xyz[once], recording.activity[once]
        for start, stop in _segments(recorded_ms, recorded):
            t_ms = recorded_ms[start:stop]
            length = float(t_ms[-1] - t_ms[0])
            if length < window_ms:
                continue
            clocks.append(now + (t_ms - t_ms[0]))
            values.append(xyz[start:stop])
            windows = 1 + int((length - window_ms) // (STRIDE_SLOTS * SLOT_MS))
            rows.append((now, now + length, recorded[start], windows))
            now += length + 1.0
    first_ms, last_ms, activity, windows_of = np.array(rows, np.float64).reshape(-1, 4).T
    return Signals(
        np.concatenate([np.empty(0), *clocks]),
        np.concatenate([np.empty((0, 3), np.float32), *values]),
        first_ms,
        last_ms,
        activity.astype(np.int64),
        windows_of.astype(np.int64),
    )


def _segments(t_ms: np.ndarray, activity: np.ndarray) -> list[tuple[int, int]]:
    """Return (start, stop) of each run of rows of one known activity without a gap."""
    breaks = (np.diff(t_ms) > MAX_GAP_MS) | (np.diff(activity) != 0)
    bounds = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(t_ms)]
    return [
        (start, stop)
        for start, stop in itertools.pairwise(bounds)
        if start < stop and activity[start] != OTHER_ACTIVITY
    ]
