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

    Pieces last `step_s` at the most. Nothing came after `until_s`, whatever its timestamp.
    """

    def __init__(self, step_s: float, until_s: float) -> None:
        self._step_s = step_s
        self._until_s = until_s
        self._now = float("-inf")

    def pieces(self, timestamp_ms: NDArray[np.int64]) -> Sequence[Piece]:
        """Cut a batch, of at least one record, int64[n] by its timestamps in epoch ms, into pieces with their times."""
        groups = max(1, len(timestamp_ms) // GROUP)
        size = min(len(timestamp_ms), GROUP)
        grouped = np.partition(timestamp_ms[: groups * size].reshape(groups, size), size // 2, axis=1)
        times = np.minimum(grouped[:, size // 2] / 1000, self._until_s)
        times = np.maximum.accumulate(np.maximum(times, self._now))
        self._now = float(times[-1])
        last = np.flatnonzero(np.diff(times // self._step_s)).tolist()
        return [
            *(Piece((group + 1) * size, float(times[group])) for group in last),
            Piece(len(timestamp_ms), self._now),
        ]
