"""What the last windows of a device say together, against all ways through them, one by one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.windowing.reference import smoothed
from windowing.smoothing import STRIDE_MS, UNKNOWN, WINDOWS, Smoother

LABELS = 3
STICKY = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], np.float32)
Window = tuple[int, int, int, Sequence[float]]
"""A row, a device, a start in strides, and probabilities."""


def smooth(smoother: Smoother, windows: Sequence[Window], transitions: Any = STICKY) -> list[int]:
    answers: list[int] = smoother.smooth(
        np.array([row for row, *_ in windows], np.int64),
        np.array([device for _, device, *_ in windows], np.uint64),
        np.array([STRIDE_MS * start for *_, start, _ in windows], np.int64),
        np.array([probabilities for *_, probabilities in windows], np.float32).reshape(-1, LABELS),
        transitions,
    ).tolist()
    return answers


def sure(label: int, of: float = 0.9) -> list[float]:
    return [of if each == label else (1 - of) / 2 for each in range(LABELS)]


def successive(*probabilities: Sequence[float], row: int = 0, device: int = 7, first: int = 0) -> list[Window]:
    return [(row, device, first + number, each) for number, each in enumerate(probabilities)]


def textbook(windows: Sequence[Window]) -> list[set[int]]:
    """For each window the labels, more than one of equals, that are the likeliest at the end of the last ones."""
    answers = []
    for number, (_, device, *_) in enumerate(windows):
        own = [(STRIDE_MS * start, seen) for _, other, start, seen in windows[: number + 1] if other == device]
        shares = smoothed(own[-WINDOWS:], STICKY.tolist())[-1]
        answers.append({UNKNOWN} if shares is None else {k for k in range(LABELS) if shares[k] > max(shares) - 1e-9})
    return answers


def test_a_label_that_flips_for_one_window_is_outvoted() -> None:
    steady = [sure(0)] * 4
    assert smooth(Smoother(), successive(*steady, sure(1, 0.6), *steady))[WINDOWS - 1 :] == [0] * 6


def test_a_change_that_lasts_is_followed() -> None:
    answers = smooth(Smoother(), successive(*[sure(0)] * 6, *[sure(2)] * 6))
    assert answers[:6] == [UNKNOWN] * 3 + [0] * 3
    assert answers[-4:] == [2] * 4


def test_until_there_are_enough_windows_there_is_no_answer() -> None:
    assert smooth(Smoother(), successive(*[sure(1)] * (WINDOWS + 1))) == [UNKNOWN] * (WINDOWS - 1) + [1, 1]


@pytest.mark.parametrize("start", [WINDOWS + 1, WINDOWS - 1, -5])
def test_after_a_window_that_is_missing_there_twice_or_of_another_time_it_begins_anew(start: int) -> None:
    smoother = Smoother()
    smooth(smoother, successive(*[sure(1)] * WINDOWS))
    answers = smooth(smoother, successive(*[sure(1)] * WINDOWS, first=start))
    assert answers == [UNKNOWN] * (WINDOWS - 1) + [1]


def test_whoever_gets_another_devices_row_inherits_nothing() -> None:
    smoother = Smoother()
    smooth(smoother, successive(*[sure(1)] * WINDOWS, device=7))
    assert smooth(smoother, successive(sure(0), device=8, first=WINDOWS)) == [UNKNOWN]


def test_a_network_that_is_certain_can_be_outvoted() -> None:
    """Else one probability of 0 would decide for good."""
    certain = [[1.0, 0.0, 0.0], *[[0.0, 1.0, 0.0]] * (WINDOWS - 1)]
    assert smooth(Smoother(), successive(*certain))[-1] == 1
    assert smooth(Smoother(), successive([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]))[-1] == 2


def test_what_a_transition_excludes_is_not_answered() -> None:
    never_to_2 = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]], np.float32)
    wavering = [sure(0)] * (WINDOWS - 1) + [[0.3, 0.2, 0.5]]
    assert smooth(Smoother(), successive(*wavering), never_to_2)[-1] == 0


def test_transitions_of_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"transitions of shape \(2, 2\) for 3 labels"):
        smooth(Smoother(), successive(sure(0)), np.eye(2, dtype=np.float32))


@pytest.mark.parametrize(("rows", "devices"), [(3, 2), (2, 3)])
def test_columns_of_other_lengths_are_refused(rows: int, devices: int) -> None:
    with pytest.raises(ValueError, match="rows for 2 windows"):
        Smoother().smooth(
            np.zeros(rows, np.int64),
            np.zeros(devices, np.uint64),
            np.zeros(2, np.int64),
            np.full((2, LABELS), 1 / LABELS, np.float32),
            STICKY,
        )


def test_a_row_before_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="rows for 1 windows"):
        smooth(Smoother(), successive(sure(0), row=-1))


def test_no_windows_have_no_answers() -> None:
    assert smooth(Smoother(), []) == []


WINDOWS_OF_SOME = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from([1, 1, 1, 1, 1, 2]),
        st.lists(st.floats(0.015625, 1, width=32), min_size=LABELS, max_size=LABELS),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(WINDOWS_OF_SOME, st.lists(st.integers(1, 7), max_size=20), st.integers(0, 300))
def test_answers_are_the_textbooks_however_the_windows_are_batched(
    drawn: list[tuple[int, int, list[float]]], batches: list[int], first_row: int
) -> None:
    """Devices in rows of their own, whose windows now and then leave one out."""
    now = [0, 0, 0]
    windows: list[Window] = []
    for device, step, probabilities in drawn:
        now[device] += step
        windows.append((first_row + 50 * device, 100 + device, now[device], probabilities))
    smoother, answers = Smoother(), list[int]()
    for size in [*batches, len(windows)]:
        answers += smooth(smoother, windows[len(answers) : len(answers) + size])
    for answer, likeliest in zip(answers, textbook(windows), strict=True):
        assert answer in likeliest


@settings(max_examples=100, deadline=None)
@given(WINDOWS_OF_SOME, st.integers(0, 40))
def test_whoever_takes_over_says_the_same_or_nothing(drawn: list[tuple[int, int, list[float]]], takeover: int) -> None:
    now = [0, 0, 0]
    windows: list[Window] = []
    for device, step, probabilities in drawn:
        now[device] += step
        windows.append((device, device, now[device], probabilities))
    throughout = smooth(Smoother(), windows)
    successor = smooth(Smoother(), windows[takeover:])
    for mine, theirs in zip(throughout[takeover:], successor, strict=True):
        assert theirs in (mine, UNKNOWN)
