"""How probable each activity is one window after each other one: what labels are smoothed with."""

from collections.abc import Sequence

import numpy as np

from training.recordings import Labels, Recording, is_label
from windowing import SLOT_MS, WINDOW_SLOTS

# Windows overlap by half and err together, so a network's answers to two of them are less news than the filter takes
# them for: with what people really do, who stay at it for minutes, it would hold on to a label for too long. This
# halves the labels that change though nothing did, of people who validate, and costs 0.1 points of accuracy where
# something changes every half minute (their recordings in pieces of 30 s, put together in any order).
STAY = 0.7
# What comes later didn't follow: files may hold recordings in any order, one after the other.
WITHIN_MS = SLOT_MS * WINDOW_SLOTS


def transitions(recordings: Sequence[Recording], labels: Labels) -> tuple[tuple[float, ...], ...]:
    """A row of probabilities for each of `labels`: `STAY` for itself, and others as often as they followed it.

    Each pair counts once more than it was seen, so that recordings of one activity each leave all others alike.
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
