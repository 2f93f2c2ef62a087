"""What smoothing does to the labels of recordings: how many are right, and how many change though nothing did.

This is what it does while the activity stays the same. Windows that span a change are not scored, and so the smoother
begins anew behind each: that a label may come late after a change can't be seen here.
"""

from dataclasses import dataclass

import numpy as np

from training.frames import LabelledFrames
from windowing import Smoother


@dataclass(frozen=True, slots=True)
class SmoothingScores:
    """Raw and smoothed labels of the windows that have both, and of pairs of successive ones of one activity.

    `right` and `smoothed_right` are windows whose label is the activity's, `changes` and `smoothed_changes` pairs whose
    labels differ.
    """

    windows: int
    right: int
    smoothed_right: int
    pairs: int
    changes: int
    smoothed_changes: int


def score_smoothing(
    frames: LabelledFrames, probabilities: np.ndarray, transitions: tuple[tuple[float, ...], ...]
) -> SmoothingScores:
    """Smooth the labels of windows, whose `probabilities` are float32[m, k], as a worker does, a recording a device."""
    smoothed = Smoother().smooth(
        frames.recording,
        frames.recording.astype(np.uint64),
        frames.start_ms,
        np.ascontiguousarray(probabilities, np.float32),
        np.array(transitions, np.float32),
    )
    raw = probabilities.argmax(axis=1)
    has = smoothed >= 0
    follows = has[1:] & has[:-1] & (np.diff(frames.recording) == 0) & (np.diff(frames.activity) == 0)
    return SmoothingScores(
        windows=int(has.sum()),
        right=int((raw == frames.activity)[has].sum()),
        smoothed_right=int((smoothed == frames.activity)[has].sum()),
        pairs=int(follows.sum()),
        changes=int((np.diff(raw) != 0)[follows].sum()),
        smoothed_changes=int((np.diff(smoothed) != 0)[follows].sum()),
    )
