"""What a bundle predicts for windows that span two activities: one of the two, or a third.

Recordings usually show one activity each. So such windows are joined from two windows of one person and placement: the
beginning of one and the rest of the other. What people do in between, such as getting up, is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.frames import LabelledFrames
from training.data.recordings import Recording
from training.fitting.scores import score
from windowing import WINDOW_SLOTS

MOST = 2000
"""At most this many windows are made from one data set."""
SHORTEST = WINDOW_SLOTS // 10
"""The shorter activity lasts at least this many slots, 0.4 s."""
SEED = 0


@dataclass(frozen=True, slots=True)
class SpanningWindows:
    """Windows `values` float32[m, 80, 3], m/s², and their labels int64[m]: of the `longer` and the `shorter` activity.

    If both last equally long, the first counts as the longer one.
    """

    values: np.ndarray
    longer: np.ndarray
    shorter: np.ndarray


@dataclass(frozen=True, slots=True)
class SpanningScores:
    """Counts of the predictions: the activity that lasts `longer` in the window, the `shorter` one, else a third.

    `calibration_error` compares the confidence with how often the longer one is predicted.
    """

    windows: int
    longer: int
    shorter: int
    calibration_error: float

    @property
    def third(self) -> int:
        """How many windows were predicted as an activity that is not in them."""
        return self.windows - self.longer - self.shorter

    def __str__(self) -> str:
        longer, shorter, third = (count / self.windows for count in (self.longer, self.shorter, self.third))
        of_the_two = f"{longer:.1%} are called what lasts longer in them, {shorter:.1%} what lasts less long"
        return f"{of_the_two}, {third:.1%} neither"


def make_spanning_windows(frames: LabelledFrames, recordings: Sequence[Recording]) -> SpanningWindows:
    """Join windows of `frames`, which were cut from `recordings`; none if nobody shows two activities."""
    rng = np.random.default_rng(SEED)
    of = np.array([f"{one.dataset}/{one.person}/{one.placement}" for one in recordings], object)[frames.recording]
    first, second = _pairs(of, frames.activity, rng)
    cut = rng.integers(SHORTEST, WINDOW_SLOTS - SHORTEST + 1, len(first))
    begins = (np.arange(WINDOW_SLOTS) < cut[:, None])[:, :, None]
    longer = np.where(2 * cut >= WINDOW_SLOTS, first, second)
    shorter = np.where(2 * cut >= WINDOW_SLOTS, second, first)
    return SpanningWindows(
        np.where(begins, frames.values[first], frames.values[second]),
        frames.activity[longer],
        frames.activity[shorter],
    )


def _pairs(of: np.ndarray, activity: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two windows int64[m] and int64[m] for each pair, of one wearer and different activities."""
    wearers = [np.flatnonzero(of == one) for one in np.unique(of)]
    first = rng.permuted(np.concatenate([np.empty(0, np.int64), *wearers]))
    partner = np.empty(len(of), np.int64)
    for windows in wearers:
        partner[windows] = rng.permutation(windows)
    second = partner[first]
    differ = activity[first] != activity[second]
    return first[differ][:MOST], second[differ][:MOST]


def score_spanning(windows: SpanningWindows, probabilities: np.ndarray, labels: tuple[str, ...]) -> SpanningScores:
    """Count the predictions for windows; `probabilities` float[m, k] are of the k `labels`."""
    predicted = probabilities.argmax(axis=1)
    return SpanningScores(
        len(predicted),
        int((predicted == windows.longer).sum()),
        int((predicted == windows.shorter).sum()),
        score(labels, windows.longer, probabilities).calibration_error,
    )
