"""Kafka's timestamps of records, which may be any number of 64 bits: the producer sets them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AN_HOUR_MS = 3_600_000


def plausible(stamps: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which stamps, of at least one, lie near most others: within ten interquartile ranges of the median.

    Or within an hour of it. So a few wrong ones don't count.
    """
    low, median, high = np.percentile(stamps, [25, 50, 75], method="nearest").astype(np.float64)
    near: NDArray[np.bool_] = np.abs(stamps.astype(np.float64) - median) <= max(10 * (high - low), AN_HOUR_MS)
    return near
