"""Minutes of labelled recordings."""

from collections.abc import Sequence

import numpy as np

from training.data.recordings import FIRST_MIXED, MIXED_ACTIVITIES, OTHER_ACTIVITY, Labels, Recording
from windowing import MAX_GAP_MS


def minutes_of(recordings: Sequence[Recording], labels: Labels) -> tuple[float, dict[str, float]]:
    """Return the minutes of recordings with a usable label, and the minutes of each label; gaps are left out."""
    sums = np.zeros(FIRST_MIXED + len(MIXED_ACTIVITIES))
    for recording in recordings:
        passed = np.diff(recording.t_ms)
        activity = recording.activity[1:]
        counts = (passed <= MAX_GAP_MS) & (activity == recording.activity[:-1]) & (activity != OTHER_ACTIVITY)
        sums += np.bincount(activity[counts], passed[counts], minlength=len(sums))
    sums /= 60_000
    return float(sums.sum()), dict(zip(labels.names, sums[: len(labels)].tolist(), strict=True))
