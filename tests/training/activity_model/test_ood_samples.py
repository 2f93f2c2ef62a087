import numpy as np
import pytest

from training.activity_model import ood_samples as taught
from training.activity_model import unseen_ood_samples as unseen
from training.activity_model.ood_samples import KINDS, ood_samples

GRAVITY = 9.80665


def walkers(count: int = 40) -> np.ndarray:
    """Frames float32[count, 80, 3] of phones that swing about gravity once a second."""
    t = np.arange(80)[:, None] / 20
    swing = 3 * np.sin(2 * np.pi * t + np.arange(count)[:, None, None])
    return np.asarray(np.array([0, GRAVITY, 0]) + swing * np.array([1, 0.5, 0.2]), np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_ood_samples_are_a_function_of_the_frames_and_the_generator() -> None:
    frames = walkers()
    first, again, other = (ood_samples(frames, rng(seed)) for seed in (1, 1, 2))

    assert first.shape == frames.shape
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_frames_that_ood_samples_are_made_of_are_left_as_they_are() -> None:
    frames = walkers()
    ood_samples(frames, rng())
    np.testing.assert_array_equal(frames, walkers())


@pytest.mark.parametrize("count", [0, 1])
def test_few_ood_samples_can_be_made_too(count: int) -> None:
    assert ood_samples(walkers(count), rng()).shape == (count, 80, 3)


@pytest.mark.parametrize("make", KINDS)
def test_no_ood_sample_is_the_frame_that_it_was_made_of(make: taught.Make) -> None:
    frames = walkers()
    assert (np.abs(make(frames, rng()) - frames).max(axis=(1, 2)) > 0.5).all()


def test_a_machine_swings_faster_than_anybody_steps() -> None:
    made = taught.machine(walkers(200), rng())
    power = np.abs(np.fft.rfft(made - made.mean(axis=1, keepdims=True), axis=1)).sum(axis=2)
    fastest = np.fft.rfftfreq(80, 1 / 20)[power.argmax(axis=1)]
    assert fastest.min() >= taught.FASTEST_STEP_HZ - 0.25
    assert np.ptp(fastest) > 5


def test_noise_is_from_white_to_brown_about_gravity_from_anywhere() -> None:
    made = taught.noise(walkers(400), rng())
    towards = made.mean(axis=1)
    assert np.median(np.linalg.norm(towards, axis=1)) == pytest.approx(GRAVITY, abs=0.5)
    assert (np.abs(towards.mean(axis=0)) < 1).all()
    changes = np.abs(np.diff(made, axis=1)).mean(axis=(1, 2)) / made.std(axis=1).mean(axis=1)
    assert changes.max() > 1.0  # white: from one reading to the next it is another
    assert changes.min() < 0.3  # brown: it wanders


def test_disordered_readings_are_the_same_ones() -> None:
    frames = walkers()
    made = taught.disordered(frames, rng())
    np.testing.assert_array_equal(np.sort(made[:, :, 1], axis=1), np.sort(frames[:, :, 1], axis=1))
    rows = {tuple(reading) for reading in frames[0].tolist()}
    assert {tuple(reading) for reading in made[0].tolist()} == rows


def test_of_who_keeps_still_no_order_is_another_and_noise_stands_in() -> None:
    still = np.tile(np.array([0, GRAVITY, 0], np.float32), (20, 80, 1))
    assert taught.disordered(still, rng()).std(axis=1).max(axis=1).min() > taught.WEAKEST / 2


def test_pedals_turn_gravity_round_without_a_knock() -> None:
    made = taught.pedals(walkers(300), rng())
    calm = np.median(np.abs(np.diff(made, 2, axis=1)).mean(axis=(1, 2)))
    assert np.linalg.norm(made.mean(axis=1), axis=1).max() < GRAVITY + 0.5
    turning = np.median(made.std(axis=1).max(axis=1))
    assert turning > 1.0
    assert calm < turning  # a step's knock is as large as its swing


def test_in_other_units_gravity_is_far_from_what_it_is() -> None:
    made = taught.in_other_units(walkers(200), rng())
    assert np.linalg.norm(made.mean(axis=1), axis=1).max() < 0.3 * GRAVITY + 0.1


def test_without_gravity_the_mean_is_nothing() -> None:
    np.testing.assert_allclose(taught.without_gravity(walkers(), rng()).mean(axis=1), 0, rtol=0, atol=1e-5)


# -- those that are never taught


def test_no_kind_is_both_taught_and_judged_by() -> None:
    assert not {make.__name__ for make in taught.KINDS} & {make.__name__ for make in unseen.KINDS}


@pytest.mark.parametrize("make", unseen.KINDS)
def test_ood_samples_to_judge_by_are_a_function_of_the_generator(make: unseen.Make) -> None:
    first, again, other = (make(50, rng(seed)) for seed in (1, 1, 2))

    assert first.shape == (50, 80, 3)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert 5 < np.median(np.linalg.norm(first, axis=2)) < 15


def turned(frames: np.ndarray) -> np.ndarray:
    """By how much what is measured changes its direction from the first second to the last, in degrees."""
    first, last = (part.mean(axis=1) for part in (frames[:, :20], frames[:, -20:]))
    cosine = (first * last).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(last, axis=1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def test_a_bag_turns_over_and_a_bus_does_not() -> None:
    assert np.median(turned(unseen.tumbling_bag(200, rng()))) > 30
    assert np.quantile(turned(unseen.bus(200, rng())), 0.95) < 30


def test_a_phone_that_spins_measures_gravity_going_round() -> None:
    made = unseen.free_spin(200, rng())
    power = np.abs(np.fft.rfft(made - made.mean(axis=1, keepdims=True), axis=1)).sum(axis=2)
    turns_a_second = np.fft.rfftfreq(80, 1 / 20)[power.argmax(axis=1)]
    assert 0.25 <= turns_a_second.min() <= 0.5
    assert 2.5 <= turns_a_second.max() <= 3
