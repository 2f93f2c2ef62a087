import dataclasses

import numpy as np

from tests.training.signals import swinging
from training.data.frames import device_id, other_activity_windows, served_frames, windows_by_row
from training.data.recordings import DEFAULT_LABELS, FIRST_MIXED, OTHER_ACTIVITY, Recording
from windowing import cut


def test_frames_are_those_that_the_service_cuts() -> None:
    recording = swinging("Jogging", "3", seconds=31, rate_hz=47)
    frames = served_frames([recording])
    _, values = cut(recording.t_ms, recording.xyz, b"made up/3")
    assert device_id(recording) == b"made up/3"
    np.testing.assert_array_equal(frames.values, values)
    assert set(frames.activity.tolist()) == {1}
    assert set(frames.person) == {"made up/3"}


def test_a_window_of_two_activities_or_of_another_is_left_out_and_counted() -> None:
    recording = swinging("Walking", seconds=60)
    activity = np.where(recording.t_ms < 20_000, 5, np.where(recording.t_ms < 40_000, 2, OTHER_ACTIVITY))
    mixed = Recording("made up", "1", "pocket", activity.astype(np.int8), recording.t_ms, recording.xyz)
    frames = served_frames([mixed])
    everything = served_frames([recording])
    assert len(frames) + frames.mixed + frames.other == len(everything)
    assert sorted(set(frames.activity.tolist())) == [2, 5]
    assert frames.mixed == 4  # windows of 4 s every 2 s: two reach over each change
    assert 7 <= frames.other <= 9


def test_a_window_whose_activity_is_not_known_for_sure_is_not_scored() -> None:
    recording = swinging("Walking")
    stairs = dataclasses.replace(recording, activity=np.full_like(recording.activity, FIRST_MIXED))
    frames = served_frames([stairs])
    assert len(frames) == 0
    assert frames.other == len(served_frames([recording]))


def test_windows_of_other_activities_show_nothing_else() -> None:
    recording = swinging("Walking", seconds=60)
    activity = np.where(recording.t_ms < 40_000, FIRST_MIXED, OTHER_ACTIVITY).astype(np.int8)
    mixed = dataclasses.replace(recording, activity=activity)
    others = other_activity_windows([recording, mixed])
    starts, values = cut(recording.t_ms, recording.xyz, device_id(recording))

    np.testing.assert_array_equal(others, values[starts >= 40_000])
    assert 7 <= len(others) <= 9
    assert other_activity_windows([recording]).shape == (0, 80, 3)


def test_no_window_reaches_over_a_gap() -> None:
    whole = swinging("Walking", seconds=12)
    apart = Recording(
        "made up",
        "1",
        "pocket",
        np.tile(whole.activity, 2),
        np.concatenate([whole.t_ms, whole.t_ms + 60_000]),
        np.tile(whole.xyz, (2, 1)),
    )
    starts, _ = cut(apart.t_ms, apart.xyz, device_id(apart))
    assert len(served_frames([apart])) == len(starts) > 0
    assert not ((starts > 8_000) & (starts < 60_000)).any()


def test_no_recordings_are_no_frames() -> None:
    frames = served_frames([])
    assert frames.values.shape == (0, 80, 3)


def test_windows_by_row_take_every_fortieth_start_and_the_majority() -> None:
    walking, sitting = swinging("Walking", seconds=10), swinging("Sitting", seconds=10)
    frames = windows_by_row([walking, sitting], DEFAULT_LABELS)
    assert frames.values.shape == (8, 80, 3)
    assert frames.activity.tolist() == [5, 5, 5, 5, 2, 2, 2, 2]
    np.testing.assert_array_equal(frames.values[4, 40:], sitting.xyz[:40])
