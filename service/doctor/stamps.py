"""Kafka's timestamps of records: whoever sends a record may give it any, in 64 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AN_HOUR_MS = 3_600_000


def plausible(stamps: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which stamps, of at least one, lie about where most do: those of a few records don't count.

    Within ten interquartile ranges of the median, or an hour.
    """
    low, median, high = np.percentile(stamps, [25, 50, 75], method="nearest").astype(np.float64)
    near: NDArray[np.bool_] = np.abs(stamps.astype(np.float64) - median) <= max(10 * (high - low), AN_HOUR_MS)
    return near
