"""What a data file of phone accelerometers holds: recordings, and what became of its rows."""

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from training.files import DataError

ACTIVITIES = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
# Names that mean one of several activities, of which it isn't known which.
MIXED_ACTIVITIES = {"StairsMixed": ("Downstairs", "Upstairs")}
# Further names of activities; of umafall: who stands and claps, or raises the arms.
SYNONYMS = {"StandingArms": "Standing"}

OTHER_ACTIVITY = -1
MAX_LABELS = 64
FIRST_MIXED = MAX_LABELS  # so that a code says by itself whether its activity is known, however many labels there are
MAX_LABEL_CHARACTERS = 100
STANDARD_GRAVITY = 9.80665
MAX_ABS_VALUE = 1000.0

Kind = Literal["wisdm", "motionsense", "csv", "kept"]


@dataclass(frozen=True, slots=True)
class Labels:
    """The activities that a model tells apart, in the order of its answers, and what data files mean by a name.

    The code of one of them is its place among `names`; of one of `MIXED_ACTIVITIES`, `FIRST_MIXED` and its place there;
    of any other activity, `OTHER_ACTIVITY`. Raises `DataError` for names that can't be a model's.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse too few, too many, the same twice, and what no file could hold."""
        wrong = [name for name in self.names if not _is_valid_label(name)]
        if wrong:
            raise DataError(
                f"{wrong[0][: 2 * MAX_LABEL_CHARACTERS]!r} can't be a label: it takes 1 to {MAX_LABEL_CHARACTERS} "
                "characters that can be seen, without a space before or behind them"
            )
        if not 2 <= len(self.names) <= MAX_LABELS:
            raise DataError(f"a model tells 2 to {MAX_LABELS} labels apart, not {len(self.names)}")
        written = [name.casefold() for name in self.names]
        twice = [name for name in self.names if written.count(name.casefold()) > 1]
        if twice:
            raise DataError(f"the label {twice[0]!r} is there twice: in files, capitals make no difference")

    def __len__(self) -> int:
        return len(self.names)

    def code(self, name: str) -> int:
        """What a data file means by this name, however it is capitalised."""
        return _codes(self.names).get(name.casefold(), OTHER_ACTIVITY)

    def candidates(self) -> np.ndarray:
        """Which of the labels each code may be: bool[codes, k], without any in rows that are no code."""
        meant = np.zeros((FIRST_MIXED + len(MIXED_ACTIVITIES), len(self.names)), bool)
        np.fill_diagonal(meant, True)
        for number, several in enumerate(MIXED_ACTIVITIES.values()):
            meant[FIRST_MIXED + number, [code for name in several if (code := self.code(name)) >= 0]] = True
        return meant


def is_label(codes: np.ndarray) -> np.ndarray:
    """Whether each code is that of one label, bool[n]: no other activity, and none of which it isn't known which."""
    return np.asarray((codes >= 0) & (codes < FIRST_MIXED))


def _is_valid_label(name: str) -> bool:
    return 1 <= len(name) <= MAX_LABEL_CHARACTERS and name.isprintable() and name == name.strip()


@functools.lru_cache(maxsize=8)
def _codes(names: tuple[str, ...]) -> Mapping[str, int]:
    """The code of each name that isn't another activity's, casefolded; a label is what it says, first of all."""
    labels = {name.casefold(): code for code, name in enumerate(names)}
    mixed = {
        name.casefold(): FIRST_MIXED + number
        for number, (name, meant) in enumerate(MIXED_ACTIVITIES.items())
        if all(one.casefold() in labels for one in meant)
    }
    further = {
        name.casefold(): labels[meant.casefold()] for name, meant in SYNONYMS.items() if meant.casefold() in labels
    }
    return mixed | further | labels


DEFAULT_LABELS = Labels(ACTIVITIES)
"""What the shipped model tells apart."""


class Defect(enum.StrEnum):
    """Why a row was left out."""

    WRONG_NUMBER_OF_FIELDS = "wrong number of fields"
    MISSING_VALUE = "missing value"
    MALFORMED_FIELD = "malformed field"
    OUT_OF_RANGE = "out of range"
    ZERO_TIMESTAMP = "timestamp 0"
    DUPLICATE = "duplicated row"
    NOT_LABELLED = "without an activity"


@dataclass(frozen=True, slots=True)
class Recording:
    """What one person's one device measured, in order of time; it may hold gaps.

    `activity` int8[n], codes of the `Labels` that it was read by; `t_ms` int64[n], never decreasing; `xyz`
    float32[n, 3], m/s² with gravity, in the device's own axes.
    """

    dataset: str
    person: str
    placement: str
    activity: np.ndarray
    t_ms: np.ndarray
    xyz: np.ndarray


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file's recordings, with the digest of the file as it lies and the rows left out, by reason.

    `others` are the activities that are none of `labels`, by which it was read, with their readings.
    """

    name: str
    sha256: str
    kind: Kind
    dataset: str
    recordings: tuple[Recording, ...]
    dropped: Mapping[Defect, int]
    others: Mapping[str, int] = field(default_factory=dict)
    labels: Labels = DEFAULT_LABELS

    @property
    def people(self) -> set[str]:
        """Whose recordings they are."""
        return {recording.person for recording in self.recordings}

    @property
    def readings(self) -> int:
        """Readings in all recordings."""
        return sum(len(recording.t_ms) for recording in self.recordings)


def natural_order(person: str) -> tuple[int, str]:
    """Sort people as they are counted: 2 before 10."""
    return (int(person) if person.isdecimal() else 0, person)
