"""Readings that are in the data twice: of a file appended to itself, or of exports that overlap."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from training.data.files import DataError
from training.data.recordings import DataFile, Defect, Recording

SINCE_1970_MS = 10**11  # a later time is of a calendar (from 1973 on); an earlier one may begin at 0 in each recording
FEW = 20  # values of a sensor at rest, or readings that two stretches share
NEW = -128  # no activity's code


def without_repeats(files: Sequence[DataFile]) -> list[DataFile]:
    """Return the files without readings that are in an earlier recording of the same person, in any of them.

    WISDM's and MotionSense's files are left as everybody scores them (MotionSense has 10,292 such readings), and kept
    windows, for those of one device overlap. Raises `DataError` where repeated readings have another activity, or a
    file holds nothing else.
    """
    own = [recording for file in files if file.kind == "csv" for recording in file.recordings]
    earlier = iter(_earlier_activities(own))
    return [_without_repeats(file, earlier) if file.kind == "csv" else file for file in files]


def _earlier_activities(recordings: Sequence[Recording]) -> list[np.ndarray]:
    """Return for each reading the activity that it has in an earlier recording of the person, or `NEW`, int8[n] each.

    Readings are compared by hashes of 64 bits: of a million, two that differ have the same one in 37 million runs.
    """
    of: dict[str, list[int]] = {}
    for number, recording in enumerate(recordings):
        of.setdefault(recording.person, []).append(number)
    found = [np.empty(0, np.int8)] * len(recordings)
    for numbers in of.values():
        mine = [recordings[number] for number in numbers]
        lengths = [len(recording.t_ms) for recording in mine]
        activity = np.concatenate([recording.activity for recording in mine])
        hashes = np.concatenate([_hashes(recording.t_ms, recording.xyz) for recording in mine])
        _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        part, first = np.repeat(np.arange(len(mine)), lengths), first[which]
        earlier = np.where(part[first] < part, activity[first], np.int8(NEW))
        for number, codes in zip(numbers, np.split(earlier, np.cumsum(lengths)[:-1]), strict=True):
            found[number] = codes
    return found


def _hashes(t_ms: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    hashes = t_ms.astype(np.uint64)
    for axis in np.ascontiguousarray(xyz, np.float32).view(np.uint32).T:
        hashes = _mixed(hashes) ^ axis
    return _mixed(hashes)


def _mixed(words: np.ndarray) -> np.ndarray:
    """Return what SplitMix64 makes of each word: no two have the same result, and similar ones none alike."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(words ^ (words >> np.uint64(31)))


def _without_repeats(file: DataFile, earlier: Iterator[np.ndarray]) -> DataFile:
    kept = []
    for recording in file.recordings:
        before = next(earlier)
        if _repeats(recording, before != NEW):
            _refuse_two_activities(file, recording, before)
            fresh = before == NEW
            recording = dataclasses.replace(
                recording, activity=recording.activity[fresh], t_ms=recording.t_ms[fresh], xyz=recording.xyz[fresh]
            )
        if len(recording.t_ms):
            kept.append(recording)
    if not kept:
        raise DataError(f"all readings of {file.name} are in other files: leave it out")
    repeats = file.readings - sum(len(recording.t_ms) for recording in kept)
    dropped = Counter(file.dropped) + Counter({Defect.DUPLICATE: repeats})
    return dataclasses.replace(file, recordings=tuple(kept), dropped=dict(dropped))


def _repeats(recording: Recording, shared: np.ndarray) -> bool:
    """Return whether the readings that are `shared` with earlier recordings are the same ones, not merely alike.

    Where clocks begin at 0 in each recording, readings of a phone at rest may well be alike. So most of a recording
    must have been there before, and that with many values: a coarse sensor at rest has only a few.
    """
    if recording.t_ms[0] > SINCE_1970_MS:
        return bool(shared.any())
    if 2 * shared.sum() <= len(shared):
        return False
    xyz = recording.xyz[shared]
    return len(np.unique(_hashes(np.zeros(len(xyz), np.int64), xyz))) > FEW


def _refuse_two_activities(file: DataFile, recording: Recording, before: np.ndarray) -> None:
    """Raise `DataError`, unless they are so few as stretches that were cut out of one recording share at their ends."""
    differing = np.flatnonzero((before != NEW) & (before != recording.activity))
    if len(differing) > FEW:
        at = differing[0]
        raise DataError(
            f"{file.name} has the reading of {recording.person!r} at {recording.t_ms[at]} twice, as "
            f"{file.labels.name(int(before[at]))} and as {file.labels.name(int(recording.activity[at]))}: which is it?"
        )
