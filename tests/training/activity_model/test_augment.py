import numpy as np
import pytest

from tests.training.signals import swinging
from training.activity_model.augment import (
    Augmentation,
    draw,
    orientations,
    read_at_another_pace,
    simulate_sensor,
)
from training.data.recordings import OTHER_ACTIVITY, Recording
from training.data.signals import signals

AS_RECORDED = Augmentation(
    max_stretch=0, max_tilt_degrees=0, gain_sd=0, offset_sd=0, clipping_share=0, max_noise=0, nearest_share=1
)


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def ramp(t_ms: np.ndarray, activity: np.ndarray | None = None) -> Recording:
    """A recording whose x is its own time in seconds."""
    xyz = np.zeros((len(t_ms), 3), np.float32)
    xyz[:, 0] = t_ms / 1000
    if activity is None:
        activity = np.full(len(t_ms), 5)
    return Recording("made up", "1", "pocket", activity.astype(np.int8), t_ms.astype(np.int64), xyz)


def test_a_stretch_ends_at_a_gap_at_a_change_of_activity_and_at_an_unknown_one() -> None:
    t_ms = np.concatenate([np.arange(0, 10_000, 50), np.arange(20_000, 40_000, 50)])
    activity = np.where(t_ms < 30_000, 5, np.where(t_ms < 36_000, 2, OTHER_ACTIVITY))
    signal = signals([ramp(t_ms, activity)])
    assert signal.activity.tolist() == [5, 5, 2]
    assert (signal.last_ms - signal.first_ms).tolist() == [9950, 9950, 5950]
    assert signal.windows.tolist() == [4, 4, 2]


def test_a_stretch_too_short_for_a_window_is_left_out() -> None:
    assert len(signals([ramp(np.arange(0, 3950, 50))]).windows) == 0
    assert signals([ramp(np.arange(0, 4000, 50))]).windows.tolist() == [1]


def test_a_clock_that_stands_still_does_not_part_a_stretch() -> None:
    t_ms = np.sort(np.concatenate([np.arange(0, 10_000, 50), np.arange(0, 10_000, 500)]))
    signal = signals([ramp(t_ms)])
    assert signal.windows.tolist() == [4]
    assert (np.diff(signal.clock_ms) > 0).all()


def test_without_augmentation_a_frame_is_the_recorded_one() -> None:
    signal = signals([ramp(np.arange(0, 4000, 50))])
    frames = read_at_another_pace(signal, np.array([0]), AS_RECORDED, rng())
    np.testing.assert_allclose(frames[0, :, 0], np.arange(80) * 0.05, atol=1e-6)


def test_a_stretched_frame_covers_up_to_a_fifth_more_or_less_time_evenly() -> None:
    signal = signals([ramp(np.arange(0, 20_000, 20))])
    how = Augmentation(max_stretch=0.2, nearest_share=0)
    seconds = read_at_another_pace(signal, np.zeros(500, np.int64), how, rng())[:, :, 0]
    pace = np.diff(seconds, axis=1) / 0.05
    np.testing.assert_allclose(pace, np.broadcast_to(pace[:, :1], pace.shape), atol=2e-3)
    assert 0.8 - 1e-3 <= pace.min() < 0.81
    assert 1.19 < pace.max() <= 1.2 + 1e-3


def test_a_frame_never_reaches_beyond_its_own_stretch() -> None:
    signal = signals([ramp(np.arange(0, 4100, 50)), ramp(np.arange(50_000, 54_100, 50))])
    which = np.tile([0, 1], 300)
    seconds = read_at_another_pace(signal, which, Augmentation(), rng())[:, :, 0]
    assert seconds[which == 0].max() <= 4.05
    assert seconds[which == 1].min() >= 50.0


def test_a_frame_sampled_as_the_grid_does_holds_recorded_readings_alone() -> None:
    signal = signals([ramp(np.arange(0, 20_000, 20))])
    how = Augmentation(nearest_share=1.0)
    seconds = read_at_another_pace(signal, np.zeros(50, np.int64), how, rng())[:, :, 0]
    np.testing.assert_allclose(seconds * 50, np.rint(seconds * 50), atol=1e-3)


def test_orientations_are_rotations() -> None:
    turns = orientations(200, 25.0, rng()).astype(np.float64)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (200, 3, 3)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0, atol=1e-6)


def test_a_rotation_keeps_every_readings_norm() -> None:
    frames = rng().normal(size=(20, 80, 3)).astype(np.float32)
    turned = frames @ orientations(20, 25.0, rng())
    np.testing.assert_allclose(np.linalg.norm(turned, axis=2), np.linalg.norm(frames, axis=2), rtol=1e-5)


def test_the_screen_faces_in_or_out_and_is_never_tilted_beyond_the_limit() -> None:
    screen = (np.array([0.0, 0.0, 1.0]) @ orientations(2000, 25.0, rng()))[:, 2]
    tilt = np.degrees(np.arccos(np.clip(np.abs(screen), 0, 1)))
    assert 24.0 < tilt.max() <= 25.0 + 1e-3
    assert 900 < (screen > 0).sum() < 1100


def test_an_upright_phone_is_turned_to_any_angle_in_its_plane() -> None:
    up = np.array([0.0, 1.0, 0.0]) @ orientations(4000, 0.0, rng())
    np.testing.assert_allclose(up[:, 2], 0.0, atol=1e-6)
    eighths, _ = np.histogram(np.arctan2(up[:, 1], up[:, 0]), bins=8, range=(-np.pi, np.pi))
    assert eighths.min() > 400


def test_a_clipped_frame_keeps_within_two_g_and_others_do_not() -> None:
    frames = np.full((1000, 80, 3), 30.0, np.float32)
    how = Augmentation(gain_sd=0, offset_sd=0, max_noise=0, clipping_share=0.25)
    peaks = simulate_sensor(frames, how, rng())[:, 0, 0]
    assert sorted(set(peaks.round(4).tolist())) == pytest.approx([19.6133, 30.0])
    assert 200 < (peaks < 20).sum() < 300


def test_gain_and_offset_are_one_for_each_axis_of_a_frame() -> None:
    frames = rng().normal(size=(5, 80, 3)).astype(np.float32)
    how = Augmentation(max_noise=0, clipping_share=0)
    out = simulate_sensor(frames, how, rng())
    for frame, measured in zip(frames, out, strict=True):
        for axis in range(3):
            gain, offset = np.polyfit(frame[:, axis], measured[:, axis], 1)
            np.testing.assert_allclose(measured[:, axis], gain * frame[:, axis] + offset, atol=1e-4)
            assert 0.8 < gain < 1.2
            assert abs(offset) < 1.5


def test_a_draw_is_a_function_of_its_generator_and_leaves_the_recording_alone() -> None:
    signal = signals([swinging("Walking"), swinging("Sitting")])
    before = signal.xyz.copy()
    which = np.tile([0, 1], 16)
    first, again, other = (draw(signal, which, Augmentation(), rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (32, 80, 3)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    np.testing.assert_array_equal(signal.xyz, before)
