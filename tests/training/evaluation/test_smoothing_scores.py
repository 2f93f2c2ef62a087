import numpy as np

from training.data.frames import LabelledFrames
from training.evaluation.smoothing_scores import score_smoothing

WALKING, SITTING = 5, 2
STICKY = tuple(tuple(0.75 if a == b else 0.05 for b in range(6)) for a in range(6))


def frames(*recordings: list[int], missing: int | None = None) -> LabelledFrames:
    """Windows two seconds apart, whose activities are given recording by recording; one may be missing."""
    activity = np.concatenate([np.array(one) for one in recordings])
    recording = np.repeat(np.arange(len(recordings)), [len(one) for one in recordings])
    start_ms = np.concatenate([2000 * np.arange(len(one)) for one in recordings])
    kept = np.arange(len(activity)) != (-1 if missing is None else missing)
    nobody = np.array(["made up/1"] * int(kept.sum()), object)
    values = np.zeros((len(nobody), 80, 3), np.float32)
    return LabelledFrames(values, activity[kept], nobody, recording[kept], start_ms[kept])


def says(*labels: int) -> np.ndarray:
    """Probabilities that are 0.6 sure of each label."""
    return np.where(np.arange(6) == np.array(labels)[:, None], 0.6, 0.08).astype(np.float32)


def test_a_label_that_flips_once_is_righted_and_its_two_changes_are_gone() -> None:
    found = score_smoothing(frames([WALKING] * 10), says(*[WALKING] * 6, SITTING, *[WALKING] * 3), STICKY)
    assert (found.windows, found.right, found.smoothed_right) == (7, 6, 7)
    assert (found.pairs, found.changes, found.smoothed_changes) == (6, 2, 0)


def test_windows_with_too_few_before_them_count_for_neither() -> None:
    nothing = score_smoothing(frames([WALKING] * 3, [SITTING] * 3), says(*[WALKING] * 6), STICKY)
    assert (nothing.windows, nothing.pairs) == (0, 0)
    parted = score_smoothing(frames([WALKING] * 9, missing=4), says(*[WALKING] * 8), STICKY)
    assert (parted.windows, parted.right, parted.pairs) == (2, 2, 0)
