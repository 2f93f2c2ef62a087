"""Readings that are in the data twice: of a file appended to itself, or of exports that overlap."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from training.data.files import DataError
from training.data.recordings import DataFile, Defect, Recording

_ROW = np.dtype([("t_ms", "<i8"), ("xyz", "<f4", 3)])

# The activity's code of each reading so far.
_Readings = dict[bytes, int]


def without_repeats(files: Sequence[DataFile]) -> list[DataFile]:
    """Return the files without readings that are in an earlier recording of the same person, in any of them.

    Clocks may begin at 0 in each recording, and a phone at rest repeats itself: single readings may well be alike. So
    only a recording most of whose readings were there before repeats them. WISDM's and MotionSense's files are left as
    everybody scores them (MotionSense has 10,292 such readings), and kept windows, for those of one device overlap.
    Raises `DataError` where a repeated reading has another activity, or a file holds nothing else.
    """
    of_people: dict[str, _Readings] = {}
    return [_without_repeats(file, of_people) if file.kind == "csv" else file for file in files]


def _without_repeats(file: DataFile, of_people: dict[str, _Readings]) -> DataFile:
    kept = []
    for recording in file.recordings:
        before = of_people.setdefault(recording.person, {})
        rows, activity = _rows(recording), recording.activity.tolist()
        fresh = np.array([row not in before for row in rows])
        if 2 * fresh.sum() < len(fresh):
            _refuse_two_activities(file, recording, rows, before)
            recording = dataclasses.replace(
                recording, activity=recording.activity[fresh], t_ms=recording.t_ms[fresh], xyz=recording.xyz[fresh]
            )
        before.update(zip(rows, activity, strict=True))
        if len(recording.t_ms):
            kept.append(recording)
    if not kept:
        raise DataError(f"all readings of {file.name} are in other files: leave it out")
    repeats = file.readings - sum(len(recording.t_ms) for recording in kept)
    dropped = Counter(file.dropped) + Counter({Defect.DUPLICATE: repeats})
    return dataclasses.replace(file, recordings=tuple(kept), dropped=dict(dropped))


def _rows(recording: Recording) -> list[bytes]:
    rows = np.empty(len(recording.t_ms), _ROW)
    rows["t_ms"], rows["xyz"] = recording.t_ms, recording.xyz
    return rows.view(f"V{_ROW.itemsize}").tolist()


def _refuse_two_activities(file: DataFile, recording: Recording, rows: Sequence[bytes], before: _Readings) -> None:
    for row, t_ms, code in zip(rows, recording.t_ms.tolist(), recording.activity.tolist(), strict=True):
        if (other := before.get(row, code)) != code:
            raise DataError(
                f"{file.name} has the reading of {recording.person!r} at {t_ms} twice, as {file.labels.name(other)} "
                f"and as {file.labels.name(code)}: which is it?"
            )
