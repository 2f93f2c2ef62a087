"""Statistics of the training frames, for a worker to measure drift against."""

from collections.abc import Sequence

import numpy as np

from inference.manifest import Population
from training.data.frames import served_frames
from training.data.recordings import Labels, Recording
from windowing import features

TENTHS = np.arange(1, 10) / 10


def population(recordings: Sequence[Recording], labels: Labels) -> Population | None:
    """Return the deciles of each feature and the share of each label over all windows; None without windows."""
    frames = served_frames(recordings)
    if not len(frames):
        return None
    counts = np.bincount(frames.activity, minlength=len(labels))
    return Population(
        tenths={
            name: tuple(float(f"{bound:.5g}") for bound in np.quantile(values, TENTHS))
            for name, values in features(frames.values).items()
        },
        shares=tuple((counts / len(frames)).round(5).tolist()),
    )
