"""What a data file of phone accelerometers holds: recordings, and what became of its rows."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

ACTIVITIES = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
# Labels that mean one of several activities, of which it isn't known which; their codes follow those of the others.
MIXED_ACTIVITIES = {"StairsMixed": ("Downstairs", "Upstairs")}
OTHER_ACTIVITY = -1
STANDARD_GRAVITY = 9.80665
MAX_ABS_VALUE = 1000.0

Kind = Literal["wisdm", "motionsense", "csv", "kept"]


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

    `activity` int8[n], index into `ACTIVITIES` and `MIXED_ACTIVITIES` behind them, or `OTHER_ACTIVITY`; `t_ms`
    int64[n], never decreasing; `xyz` float32[n, 3], m/s² with gravity, in the device's own axes.
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

    `others` are the labels that are no activity of ours, with their readings.
    """

    name: str
    sha256: str
    kind: Kind
    dataset: str
    recordings: tuple[Recording, ...]
    dropped: Mapping[Defect, int]
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def people(self) -> set[str]:
        """Whose recordings they are."""
        return {recording.person for recording in self.recordings}

    @property
    def readings(self) -> int:
        """Readings in all recordings."""
        return sum(len(recording.t_ms) for recording in self.recordings)


def by_number(person: str) -> tuple[int, str]:
    """Sort people as they are counted: 2 before 10."""
    return (int(person) if person.isdecimal() else 0, person)


def may_be() -> np.ndarray:
    """Which of `ACTIVITIES` each code may be: bool[codes, 6]."""
    return np.array(
        [
            *np.eye(len(ACTIVITIES), dtype=bool),
            *([name in meant for name in ACTIVITIES] for meant in MIXED_ACTIVITIES.values()),
        ]
    )
