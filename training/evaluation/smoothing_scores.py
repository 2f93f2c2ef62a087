"""The effect of smoothing on labels: how many are right, and how many change while the activity stays the same.

Windows that span a change are not scored, and the smoother restarts after each. So the delay of a smoothed label after
a change can't be seen here.
"""

from dataclasses import dataclass

import numpy as np

from training.data.frames import LabelledFrames
from windowing import Smoother


@dataclass(frozen=True, slots=True)
class SmoothingScores:
    """Counts of raw and smoothed labels, over windows with both and over successive windows of one activity.

    `right` and `smoothed_right` count windows with the right label, `changes` and `smoothed_changes` pairs whose labels
    differ.
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
    """Smooth the `probabilities` float32[m, k] of windows as a worker does, with a recording as a device, and count."""
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
