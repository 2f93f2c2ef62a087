"""Recordings cut into labelled frames, by the service's own windowing.

A frame here is what a worker would make of the same readings, so the accuracy that training reports is the accuracy
that the service has.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from training.data.recordings import OTHER_ACTIVITY, Labels, Recording, is_label
from windowing import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS, cut


@dataclass(frozen=True, slots=True)
class LabelledFrames:
    """Frames of one activity each, and where they come from.

    `values` float32[m, 80, 3], m/s²; `activity` int64[m], the label's code; `person` object[m], as `dataset/person`;
    `recording` int64[m], the index of the recording, and `start_ms` int64[m], the time within it. `mixed` and `other`
    count the windows left out because they span two activities, or show one that is no label.
    """

    values: np.ndarray
    activity: np.ndarray
    person: np.ndarray
    recording: np.ndarray
    start_ms: np.ndarray
    mixed: int = 0
    other: int = 0

    def __len__(self) -> int:
        return len(self.activity)


def device_id(recording: Recording) -> bytes:
    """Return the device id to cut a recording with: it decides the phase of its windows."""
    return person_id(recording.dataset, recording.person)


def person_id(dataset: str, person: str) -> bytes:
    """Return the same id for a person whose recording does not exist yet."""
    return f"{dataset}/{person}".encode()


def served_frames(recordings: Iterable[Recording]) -> LabelledFrames:
    """Return all complete windows of a single activity that is a label, as the service cuts them."""
    values: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    people: list[str] = []
    places: list[np.ndarray] = []
    mixed = other = 0
    for number, recording in enumerate(recordings):
        start_ms, frames = cut(recording.t_ms, recording.xyz, device_id(recording))
        label, pure = _labels(recording, start_ms)
        known = is_label(label)
        mixed += int((~pure).sum())
        other += int((pure & ~known).sum())
        values.append(frames[pure & known])
        labels.append(label[pure & known])
        people += [f"{recording.dataset}/{recording.person}"] * len(labels[-1])
        places.append(np.stack([np.full(len(labels[-1]), number), start_ms[pure & known]], axis=1))
    which, starts = np.concatenate([np.empty((0, 2), np.int64), *places]).T
    return LabelledFrames(
        np.concatenate([np.empty((0, WINDOW_SLOTS, 3), np.float32), *values]),
        np.concatenate([np.empty(0, np.int64), *labels]),
        np.array(people, object),
        which,
        starts,
        mixed,
        other,
    )


def other_activity_windows(recordings: Iterable[Recording]) -> np.ndarray:
    """Return all complete windows that show only activities that are no label, float32[m, 80, 3], m/s²."""
    values = [np.empty((0, WINDOW_SLOTS, 3), np.float32)]
    for recording in recordings:
        if (recording.activity == OTHER_ACTIVITY).any():
            start_ms, frames = cut(recording.t_ms, recording.xyz, device_id(recording))
            label, pure = _labels(recording, start_ms)
            values.append(frames[pure & (label == OTHER_ACTIVITY)])
    return np.concatenate(values)


def _labels(recording: Recording, start_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each window's first activity int64[m], and whether all of its readings have it, bool[m]."""
    slot = (recording.t_ms + SLOT_MS // 2) // SLOT_MS
    first = np.searchsorted(slot, start_ms // SLOT_MS)
    last = np.searchsorted(slot, start_ms // SLOT_MS + WINDOW_SLOTS) - 1
    changes = np.concatenate([[0], np.cumsum(np.diff(recording.activity) != 0)])
    return recording.activity[first].astype(np.int64), changes[first] == changes[last]


def windows_by_row(recordings: Sequence[Recording], labels: Labels) -> LabelledFrames:
    """Return windows of 80 rows every 40, cut by row number, with the majority's label.

    This is the article's method: it assumes 20 Hz, and ignores gaps and where one person ends and the next begins. Only
    its recipe trains on these windows; nothing is scored on them.
    """
    xyz = np.concatenate([recording.xyz for recording in recordings])
    activity = np.concatenate([recording.activity for recording in recordings]).astype(np.int64)
    starts = np.arange(0, len(xyz) - WINDOW_SLOTS, STRIDE_SLOTS)
    rows = starts[:, None] + np.arange(WINDOW_SLOTS)
    votes = (activity[rows][:, :, None] == np.arange(len(labels))).sum(axis=1)
    kept = votes.max(axis=1) > 0
    starts = starts[kept]
    recording = np.repeat(np.arange(len(recordings)), [len(r.xyz) for r in recordings])[starts]
    return LabelledFrames(
        xyz[rows][kept],
        votes.argmax(axis=1)[kept],
        np.array([f"{r.dataset}/{r.person}" for r in recordings], object)[recording],
        recording,
        np.concatenate([r.t_ms for r in recordings])[starts],
    )
