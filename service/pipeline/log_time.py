"""Time by the log of one partition: when each of its records came to Kafka, by the records' timestamps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUP = 32
"""The median timestamp of so many records counts: a single one is from its producer's clock, which may be wrong."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of a batch up to ``stop``, exclusive, which had all come by ``at`` (epoch seconds)."""

    stop: int
    at: float


class LogTime:
    """A clock for history: it follows the Kafka timestamps of most records, and never goes back.

    The time is the median timestamp of the last `GROUP` records; until there are so many, the earliest of them. A piece
    lasts at most `step_s`, unless it has fewer records than a group. The time never exceeds `until_s`, whatever the
    timestamps.
    """

    def __init__(self, step_s: float, until_s: float) -> None:
        self._step_s = step_s
        self._until_s = until_s
        self._now = float("-inf")
        self._last = np.empty(0, np.int64)  # timestamps of the records before, fewer than a group has

    def pieces(self, timestamp_ms: NDArray[np.int64]) -> Sequence[Piece]:
        """Cut a batch of at least one record into pieces with their times; timestamps: int64[n], epoch ms."""
        stops = np.append(np.arange(GROUP, len(timestamp_ms), GROUP), len(timestamp_ms))
        times = np.minimum(self._times(timestamp_ms, stops) / 1000, self._until_s)
        times = np.maximum.accumulate(np.maximum(times, self._now))
        self._now = float(times[-1])
        chosen = np.append(np.flatnonzero(np.diff(times // self._step_s)), len(stops) - 1)
        return [Piece(int(stops[at]), float(times[at])) for at in chosen]

    def _times(self, timestamp_ms: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the time (epoch ms) after each of these places, with the records of earlier batches in mind."""
        before = len(self._last)
        known = np.concatenate([self._last, timestamp_ms])
        self._last = known[-(GROUP - 1) :]
        whole = stops + before >= GROUP
        times = np.full(len(stops), known.min())
        if whole.any():
            groups = np.lib.stride_tricks.sliding_window_view(known, GROUP)[stops[whole] + before - GROUP]
            times[whole] = np.partition(groups, GROUP // 2, axis=1)[:, GROUP // 2]
        return times
