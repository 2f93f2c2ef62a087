"""Transition probabilities between activities, from one window to the next: what labels are smoothed with."""

from collections.abc import Sequence

import numpy as np

from training.data.recordings import Labels, Recording, is_label
from windowing import SLOT_MS, WINDOW_SLOTS

# Windows overlap by half and their errors are correlated, so two answers carry less evidence than the filter assumes.
# With the true value, of people who keep doing the same for minutes, it would hold on to a label for too long. On
# validation people this value halves the label changes without a change of activity, and costs 0.1 points of accuracy
# if the activity changes every half minute (their recordings in pieces of 30 s, in random order).
STAY = 0.7
# A later reading is no successor: files may hold recordings in any order.
WITHIN_MS = SLOT_MS * WINDOW_SLOTS


def transitions(recordings: Sequence[Recording], labels: Labels) -> tuple[tuple[float, ...], ...]:
    """Return a row of probabilities for each of `labels`: `STAY` for itself, the rest by how often others followed it.

    Each pair is counted once more than it was seen, so recordings of single activities give uniform rows.
    """
    k = len(labels)
    followed = np.ones((k, k))
    for recording in recordings:
        is_known = is_label(recording.activity)
        known, t_ms = recording.activity[is_known].astype(np.int64), recording.t_ms[is_known]
        changes = np.flatnonzero((np.diff(known) != 0) & (np.diff(t_ms) <= WITHIN_MS))
        np.add.at(followed, (known[changes], known[changes + 1]), 1.0)
    np.fill_diagonal(followed, 0.0)
    others = (1.0 - STAY) * followed / followed.sum(axis=1, keepdims=True)
    np.fill_diagonal(others, STAY)
    return tuple(tuple(row) for row in others.round(6).tolist())
