"""Synthetic out-of-distribution (OOD) frames, to train familiarity with.

A network that has only seen six activities is confident about any input. Trained with OOD samples too, it also detects
kinds that it was not trained on: Hendrycks, Mazeika and Dietterich, "Deep Anomaly Detection with Outlier Exposure",
ICLR 2019. They form a class of their own, as in Thulasidasan, Thapa, Dhaubhadel, Chennupati, Bhattacharya and Bilmes,
"An Effective Baseline for Robustness to Distributional Shift", 2021 (arXiv 2105.07107); here the class takes no
parameter (`Task.has_ood`). Manifests and reports call OOD samples strangers.

The kinds of `training.activity_model.unseen_ood_samples` are for evaluation only.
"""

from collections.abc import Callable, Sequence

import numpy as np

from training.activity_model.augment import orientations
from training.data.recordings import STANDARD_GRAVITY
from windowing import SLOT_MS, WINDOW_SLOTS

RATE_HZ = 1000 / SLOT_MS
Make = Callable[[np.ndarray, np.random.Generator], np.ndarray]
FASTEST_STEP_HZ = 3.0
"""Nobody takes more steps a second: what oscillates faster is a machine."""
WEAKEST = 1.0
"""m/s², standard deviation: what moves less may be somebody who sits or stands."""


def ood_samples(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return as many OOD samples as `frames` float32[m, 80, 3], m/s², of random kinds; some transform a frame."""
    kind = rng.integers(0, len(KINDS), len(frames))
    out = np.empty_like(frames)
    for number, make in enumerate(KINDS):
        rows = kind == number
        out[rows] = make(frames[rows], rng)
    return out


def noise(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gravity in a random direction and noise: from white, a vehicle's vibration, to brown, a swinging, turning bag."""
    spectrum = np.fft.rfft(rng.standard_normal(frames.shape), axis=1)
    hertz = np.fft.rfftfreq(WINDOW_SLOTS, 1 / RATE_HZ)
    hertz[0] = hertz[1]
    slope = rng.uniform(0.0, 2.0, (len(frames), 1, 1))
    values = np.fft.irfft(spectrum * hertz[:, None] ** -slope, WINDOW_SLOTS, axis=1)
    values /= values.std(axis=(1, 2), keepdims=True)
    strength = np.exp(rng.uniform(np.log(WEAKEST), np.log(12.0), (len(frames), 1, 1)))
    return np.asarray(gravity_from_anywhere(len(frames), rng) + values * strength)


def machine(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gravity in a random direction, and one tone, faster than anybody's steps."""
    t = np.arange(WINDOW_SLOTS)[None, :, None] / RATE_HZ
    hertz = rng.uniform(FASTEST_STEP_HZ, RATE_HZ / 2, (len(frames), 1, 1))
    strength = rng.standard_normal((len(frames), 1, 3)) * rng.uniform(0.5, 10.0, (len(frames), 1, 1))
    phase = rng.random((len(frames), 1, 1))
    return gravity_from_anywhere(len(frames), rng) + strength * np.sin(2 * np.pi * (hertz * t + phase))


def disordered(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Somebody's readings, shuffled in time; noise instead of still readings, which shuffling does not change."""
    shuffled = np.take_along_axis(frames, rng.random(frames.shape[:2]).argsort(axis=1)[:, :, None], axis=1)
    moves = frames.std(axis=1).max(axis=1, initial=0.0) > WEAKEST
    return np.where(moves[:, None, None], shuffled, noise(frames, rng))


def in_other_units(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Somebody's readings in g, or scaled to another unit far from m/s²."""
    factor = np.where(
        rng.random((len(frames), 1, 1)) < 0.5, 1 / STANDARD_GRAVITY, rng.uniform(0.0, 0.3, (len(frames), 1, 1))
    )
    return frames * factor


def without_gravity(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Somebody's readings with gravity removed, as phones also provide them."""
    del rng
    out: np.ndarray = frames - frames.mean(axis=1, keepdims=True)
    return out


def pedals(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A cyclist's thigh at 40 to 120 rpm, without the impacts of steps, and the vibration of the road.

    The thigh turns from nearly level to half-way down and back, and gravity with it. The phone lies along it, in any
    orientation.
    """
    count = len(frames)
    t = np.arange(WINDOW_SLOTS)[None, :] / RATE_HZ
    turns = rng.uniform(0.65, 2.0, (count, 1)) * t + rng.random((count, 1))
    middle, swing = rng.uniform(0.3, 0.9, (count, 1)), rng.uniform(0.2, 0.5, (count, 1))  # radians below level
    angle = middle + swing * np.sin(2 * np.pi * turns)
    along, out_of_it = STANDARD_GRAVITY * np.sin(angle), STANDARD_GRAVITY * np.cos(angle)
    thigh = np.stack([np.zeros_like(along), along, out_of_it], axis=2)
    shaking = rng.exponential(0.7, (count, 1, 1)) * rng.standard_normal((count, WINDOW_SLOTS, 3))
    return np.asarray(thigh @ orientations(count, 25.0, rng) + shaking)


KINDS: Sequence[Make] = (
    noise,
    machine,
    disordered,
    in_other_units,
    without_gravity,
    pedals,
)


def gravity_from_anywhere(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return gravity in random directions, as still phones measure it: float64[count, 1, 3], m/s²."""
    towards = rng.standard_normal((count, 1, 3))
    out: np.ndarray = STANDARD_GRAVITY * towards / np.linalg.norm(towards, axis=2, keepdims=True)
    return out
