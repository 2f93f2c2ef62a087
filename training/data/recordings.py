"""Recordings read from a data file of phone accelerometers, their labels, and why rows were left out."""

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from training.data.files import DataError

ACTIVITIES = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
# Names that mean one of several activities, without saying which.
MIXED_ACTIVITIES = {"StairsMixed": ("Downstairs", "Upstairs")}
# Other names of activities. In umafall: standing and clapping, or raising the arms.
SYNONYMS = {"StandingArms": "Standing"}

OTHER_ACTIVITY = -1
MAX_LABELS = 64
FIRST_MIXED = MAX_LABELS  # above all label codes, so that a code alone says whether it is a single label
MAX_LABEL_CHARACTERS = 100
STANDARD_GRAVITY = 9.80665
MAX_ABS_VALUE = 1000.0

Kind = Literal["wisdm", "motionsense", "csv", "kept"]


@dataclass(frozen=True, slots=True)
class Labels:
    """The activities that a model distinguishes, in output order, and the codes of activity names in data files.

    A label's code is its index in `names`. A name in `MIXED_ACTIVITIES` has the code `FIRST_MIXED` plus its index
    there. Any other activity has `OTHER_ACTIVITY`. Raises `DataError` for names that can't be a model's.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the number, the uniqueness and the form of the names."""
        wrong = [name for name in self.names if not is_valid_label(name)]
        if wrong:
            raise DataError(
                f"{wrong[0][: 2 * MAX_LABEL_CHARACTERS]!r} can't be a label: it takes 1 to {MAX_LABEL_CHARACTERS} "
                "characters that can be seen, without a space before or behind them"
            )
        if not 2 <= len(self.names) <= MAX_LABELS:
            parted = len(self.names) == 1 and "," in self.names[0]
            hint = f": part {self.names[0]} by spaces, not commas" if parted else ""
            raise DataError(f"a model tells 2 to {MAX_LABELS} labels apart, not {len(self.names)}{hint}")
        written = [name.casefold() for name in self.names]
        twice = [name for name in self.names if written.count(name.casefold()) > 1]
        if twice:
            raise DataError(f"the label {twice[0]!r} is there twice: in files, capitals make no difference")

    def __len__(self) -> int:
        return len(self.names)

    def code(self, name: str) -> int:
        """Return the code of an activity name in a data file, ignoring case."""
        return _codes(self.names).get(name.casefold(), OTHER_ACTIVITY)

    def name(self, code: int) -> str:
        """Return what an activity's code stands for, in a sentence."""
        if code == OTHER_ACTIVITY:
            return "another activity"
        return self.names[code] if code < FIRST_MIXED else list(MIXED_ACTIVITIES)[code - FIRST_MIXED]

    def candidates(self) -> np.ndarray:
        """Return the candidate labels of each code: bool[codes, k]; unused codes have none."""
        meant = np.zeros((FIRST_MIXED + len(MIXED_ACTIVITIES), len(self.names)), bool)
        np.fill_diagonal(meant, True)
        for number, several in enumerate(MIXED_ACTIVITIES.values()):
            meant[FIRST_MIXED + number, [code for name in several if (code := self.code(name)) >= 0]] = True
        return meant


def is_label(codes: np.ndarray) -> np.ndarray:
    """Return whether each code is that of a single label, bool[n]: neither another activity nor a mixed one."""
    return np.asarray((codes >= 0) & (codes < FIRST_MIXED))


def is_valid_label(name: str) -> bool:
    """Return whether a model may have a label of this name."""
    return 1 <= len(name) <= MAX_LABEL_CHARACTERS and name.isprintable() and name == name.strip()


@functools.lru_cache(maxsize=8)
def _codes(names: tuple[str, ...]) -> Mapping[str, int]:
    """Return the code of each known name, casefolded; labels take precedence over mixed names and synonyms."""
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
"""The labels of the shipped model."""


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
    """One person's readings from one device, sorted by time, possibly with gaps.

    `activity` int8[n], codes of the `Labels` it was read with; `t_ms` int64[n], non-decreasing; `xyz` float32[n, 3],
    m/s² with gravity, in the device's own axes.
    """

    dataset: str
    person: str
    placement: str
    activity: np.ndarray
    t_ms: np.ndarray
    xyz: np.ndarray


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file's recordings, with the file's SHA-256 as stored, and the rows left out by reason.

    `others` counts the readings of activities that are none of `labels`, with which it was read. `first_refused` says
    which line of a text is the first that can't be read.
    """

    name: str
    sha256: str
    kind: Kind
    dataset: str
    recordings: tuple[Recording, ...]
    dropped: Mapping[Defect, int]
    others: Mapping[str, int] = field(default_factory=dict)
    labels: Labels = DEFAULT_LABELS
    first_refused: str = ""

    @property
    def people(self) -> set[str]:
        """The names of the people recorded."""
        return {recording.person for recording in self.recordings}

    @property
    def readings(self) -> int:
        """The number of readings in all recordings."""
        return sum(len(recording.t_ms) for recording in self.recordings)


def natural_order(person: str) -> tuple[int, str]:
    """Return a sort key for people that puts 2 before 10."""
    return (int(person) if person.isdecimal() else 0, person)
