"""Refuses, before an hour of work, data that the labels do not fit: as a rule --labels was forgotten."""

import shlex
from collections.abc import Sequence

import numpy as np

from training.data.files import DataError
from training.data.recordings import MAX_LABELS, OTHER_ACTIVITY, DataFile, Labels, Recording, is_valid_label
from training.data.sampling import and_why_incomplete
from training.data.signals import signals
from training.wording.phrases import some_of

ONE_WINDOW = "4 s of one activity without a gap"


def labels_shown(labels: Labels, recordings: Sequence[Recording]) -> list[str]:
    """Return the labels that the recordings show, in order; a name of several activities shows each of them."""
    codes = np.unique(np.concatenate([np.empty(0, np.int8), *(recording.activity for recording in recordings)]))
    shown = labels.candidates()[codes[codes >= 0]].any(axis=0)
    return [name for name, is_shown in zip(labels.names, shown, strict=True) if is_shown]


def labels_learned(labels: Labels, train: Sequence[Recording]) -> list[str]:
    """Return the labels of which the `train` recordings hold a complete window, in order."""
    signal = signals(train)
    learned = labels.candidates()[np.unique(signal.activity[signal.windows > 0])].any(axis=0)
    return [name for name, is_learned in zip(labels.names, learned, strict=True) if is_learned]


def refuse_mostly_other_activities(files: Sequence[DataFile]) -> None:
    """Raise `DataError` if more than half of the readings are of activities that are not among the labels."""
    codes = np.concatenate([recording.activity for file in files for recording in file.recordings])
    others = int((codes == OTHER_ACTIVITY).sum())
    if 2 * others <= len(codes):
        return
    raise DataError(
        f"{others:,} of {len(codes):,} readings are of activities that are not among the labels "
        f"{some_of(files[0].labels.names)}: to learn all that the data show, add {labels_to_learn(files)}"
        "; to go without the others, name the labels with --labels"
    )


def refuse_fewer_than_two(labels: Labels, train: Sequence[Recording], files: Sequence[DataFile]) -> None:
    """Raise `DataError` if the `train` recordings of the files hold complete windows of fewer than two labels."""
    learned = labels_learned(labels, train)
    if len(learned) >= 2:
        return
    if short := [name for name in labels_shown(labels, train) if name not in learned]:
        raise DataError(
            f"{', '.join(short)}: no complete window of anybody who trains, which takes {ONE_WINDOW}; a model tells at "
            f"least two labels apart: add longer recordings by people who train{and_why_incomplete(train)}"
        )
    only = f"only {learned[0]} of the labels has" if learned else "none of the labels has"
    remedy = (
        f"to learn all that the data show, add {labels_to_learn(files)}"
        if _others(files)
        else "add recordings of further activities by people who train"
    )
    raise DataError(f"{only} training data, and a model tells at least two labels apart: {remedy}")


def labels_to_learn(files: Sequence[DataFile]) -> str:
    """Return the flag that names all activities of the files: the labels that they show, then the others."""
    everything = [recording for file in files for recording in file.recordings]
    names = [*labels_shown(files[0].labels, everything), *_others(files)]
    return "--labels " + shlex.join(names[:MAX_LABELS])


def _others(files: Sequence[DataFile]) -> list[str]:
    """Return the names of other activities that can be labels, in alphabetical order."""
    named = {name.casefold(): name for file in files for name in file.others if is_valid_label(name)}
    return [named[folded] for folded in sorted(named)]
