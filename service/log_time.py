"""What time it was when a record came to Kafka, as far as the log of one partition tells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUP = 32
"""Records whose median timestamp counts: that of one alone is its producer's clock, which may be wrong."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of a batch up to ``stop``, exclusive, all of which had come by ``at``, in epoch seconds."""

    stop: int
    at: float


class LogTime:
    """The clock of history: it goes by what most records' Kafka timestamps say, and never back.

    It is that of the middle one of the last `GROUP` records; before so many have come, that of the earliest of them.
    Pieces last `step_s` at the most, but for those of fewer records than a group has. Nothing came after `until_s`,
    whatever its timestamp.
    """

    def __init__(self, step_s: float, until_s: float) -> None:
        self._step_s = step_s
        self._until_s = until_s
        self._now = float("-inf")
        self._last = np.empty(0, np.int64)  # the timestamps before those to come, fewer than a group has

    def pieces(self, timestamp_ms: NDArray[np.int64]) -> Sequence[Piece]:
        """Cut a batch, of at least one record, int64[n] by its timestamps in epoch ms, into pieces with their times."""
        stops = np.append(np.arange(GROUP, len(timestamp_ms), GROUP), len(timestamp_ms))
        times = np.minimum(self._times(timestamp_ms, stops) / 1000, self._until_s)
        times = np.maximum.accumulate(np.maximum(times, self._now))
        self._now = float(times[-1])
        chosen = np.append(np.flatnonzero(np.diff(times // self._step_s)), len(stops) - 1)
        return [Piece(int(stops[at]), float(times[at])) for at in chosen]

    def _times(self, timestamp_ms: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the time in epoch ms behind each of these places, the records of earlier batches remembered."""
        before = len(self._last)
        known = np.concatenate([self._last, timestamp_ms])
        self._last = known[-(GROUP - 1) :]
        whole = stops + before >= GROUP
        times = np.full(len(stops), known.min())
        if whole.any():
            groups = np.lib.stride_tricks.sliding_window_view(known, GROUP)[stops[whole] + before - GROUP]
            times[whole] = np.partition(groups, GROUP // 2, axis=1)[:, GROUP // 2]
        return times
