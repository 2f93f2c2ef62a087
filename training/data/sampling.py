"""How often people's devices measured, beside what a window takes: 20 readings a second, and no hole of over 250 ms."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.data.recordings import DataFile, Recording, natural_order
from training.wording.phrases import MANY, some_of
from windowing import MAX_GAP_MS, SLOT_MS, STRIDE_SLOTS, WINDOW_MS

PAUSE_MS = 2000  # between two readings; longer ones part recordings, and say nothing about a rate
FEWEST_MEASURED = 0.75  # of the slots, below which people are told of: a clean 15 Hz
MOST_AT_ONCE = 0.1
FASTEST_HZ = 250  # of phones


@dataclass(frozen=True, slots=True)
class Sampling:
    """The readings a second without pauses, the share of slots that hold one, and the complete of all `windows`.

    `at_once` is the share of readings that have the time of the one before.
    """

    hz: float
    measured: float
    complete: int
    windows: int
    at_once: float

    @property
    def is_broken(self) -> bool:
        """Whether most windows are incomplete."""
        return self.hz * MAX_GAP_MS < 1000 or 2 * self.complete < self.windows


def sampling_of(recordings: Sequence[Recording]) -> Sampling | None:
    """Return how often one person's devices measured; None of so little that there is nothing between two readings."""
    passed = np.concatenate([np.empty(0, np.int64), *(np.diff(one.t_ms) for one in recordings)])
    slots = np.concatenate(
        [np.empty(0, np.int64), *(np.diff((one.t_ms + SLOT_MS // 2) // SLOT_MS) for one in recordings)]
    )
    running = passed <= PAUSE_MS
    if not passed[running].sum():
        running = np.full(len(passed), True)  # a reading every few seconds
    if not passed[running].sum():
        return None
    return Sampling(
        hz=float(1000 * running.sum() / passed[running].sum()),
        measured=float((slots[running] > 0).sum() / max(1, slots[running].sum())),
        complete=sum(_windows(one.t_ms, MAX_GAP_MS) for one in recordings),
        windows=sum(_windows(one.t_ms, PAUSE_MS) for one in recordings),
        at_once=float((passed == 0).mean()),
    )


def _windows(t_ms: np.ndarray, longest_gap_ms: int) -> int:
    """Return about how many windows fit between gaps."""
    ends = np.flatnonzero(np.diff(t_ms) > longest_gap_ms)
    lengths = t_ms[np.append(ends, len(t_ms) - 1)] - t_ms[np.append(0, ends + 1)]
    return int((1 + (lengths[lengths >= WINDOW_MS] - WINDOW_MS) // (STRIDE_SLOTS * SLOT_MS)).sum())


def sampling_by_person(recordings: Sequence[Recording]) -> dict[str, Sampling]:
    """Return `sampling_of` each person."""
    of: dict[str, list[Recording]] = {}
    for recording in recordings:
        of.setdefault(recording.person, []).append(recording)
    found = {person: sampling_of(of[person]) for person in sorted(of, key=natural_order)}
    return {person: sampling for person, sampling in found.items() if sampling is not None}


def warnings_of_sampling(file: DataFile) -> Iterator[str]:
    """Yield what to say of people of a file whose devices measured too seldom, too often or at the same milliseconds.

    Two devices under one name whose readings take turns look like one of the double rate, and are not told of.
    """
    people = sampling_by_person(file.recordings)
    if why := _why_incomplete(people):
        yield f"{file.name}: {why}"
    if sparse := [
        f"{name} {one.hz:.3g} ({one.measured:.0%} of a window)"
        for name, one in people.items()
        if one.measured < FEWEST_MEASURED and not one.is_broken
    ]:
        yield (
            f"{file.name}: few readings a second, where a window has 20 and what lies between is interpolated: "
            f"{some_of(sparse)}"
        )
    if twice := [name for name, one in people.items() if one.at_once > MOST_AT_ONCE]:
        yield (
            f"{file.name}: many readings have the time of another, with other values: {some_of(twice)}; if they are of "
            "two devices, a column recording has to tell these apart"
        )
    if fast := [f"{name} {one.hz:,.0f}" for name, one in people.items() if one.hz > FASTEST_HZ]:
        yield (
            f"{file.name}: more readings a second than phones take: {some_of(fast)}; timestamps have to be "
            "milliseconds, not numbers of rows"
        )


def _why_incomplete(people: Mapping[str, Sampling]) -> str:
    """Return whose rates or gaps leave few complete windows, as a sentence; empty for nobody."""
    each = [
        f"{name} {one.hz:.3g} readings a second, {one.complete:,} of {one.windows:,} windows"
        for name, one in people.items()
        if one.is_broken
    ]
    if not each:
        return ""
    return f"few windows are complete, which takes a reading every {MAX_GAP_MS} ms: {'; '.join(each[:MANY])}" + (
        f"; and {len(each) - MANY:,} more" if len(each) > MANY else ""
    )


def and_why_incomplete(recordings: Sequence[Recording]) -> str:
    """Return whose rates or gaps leave few complete windows, as the end of another sentence; empty for nobody."""
    why = _why_incomplete(sampling_by_person(recordings))
    return f"; {why}" if why else ""
