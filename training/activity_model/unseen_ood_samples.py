"""Synthetic out-of-distribution frames of kinds that training never uses: to evaluate familiarity, never to train it.

Before you train on one of these kinds, add another one here to evaluate with.
"""

from collections.abc import Callable, Sequence

import numpy as np

from training.activity_model.ood_samples import RATE_HZ, gravity_from_anywhere
from training.data.recordings import STANDARD_GRAVITY
from windowing import WINDOW_SLOTS

Make = Callable[[int, np.random.Generator], np.ndarray]


def tumbling_bag(count: int, rng: np.random.Generator) -> np.ndarray:
    """A phone in a bag that turns over, float32[count, 80, 3], m/s²: gravity changes direction, with some knocks."""
    towards = _turned(rng.normal(0.0, 2.0, (count, WINDOW_SLOTS, 3)), memory_s=0.5, rng=rng)
    knocks = (rng.random((count, WINDOW_SLOTS, 1)) < 0.06) * rng.normal(0.0, 12.0, (count, WINDOW_SLOTS, 3))
    for slot in range(1, WINDOW_SLOTS):
        knocks[:, slot] += 0.5 * knocks[:, slot - 1]  # what hangs loose rings on
    return np.asarray(STANDARD_GRAVITY * towards + knocks, np.float32)


def bus(count: int, rng: np.random.Generator) -> np.ndarray:
    """A phone on a bus seat, float32[count, 80, 3], m/s²: slow sway, with vibration of the road and the engine."""
    t = np.arange(WINDOW_SLOTS)[None, :, None] / RATE_HZ
    hertz, phase = rng.uniform(0.1, 0.6, (count, 1, 3)), rng.random((count, 1, 3))
    sway = rng.uniform(0.3, 1.5, (count, 1, 3)) * np.sin(2 * np.pi * (hertz * t + phase))
    spectrum = np.fft.rfft(rng.standard_normal((count, WINDOW_SLOTS, 3)), axis=1)
    spectrum[:, np.fft.rfftfreq(WINDOW_SLOTS, 1 / RATE_HZ) < 2.0] = 0.0
    shaking = np.fft.irfft(spectrum, WINDOW_SLOTS, axis=1) * rng.uniform(0.3, 1.5, (count, 1, 1))
    return np.asarray(gravity_from_anywhere(count, rng) + sway + shaking, np.float32)


def free_spin(count: int, rng: np.random.Generator) -> np.ndarray:
    """A phone spun about one axis, float32[count, 80, 3], m/s²: a third of a turn to three turns a second."""
    axis = rng.standard_normal((count, 1, 3))
    speed = 2 * np.pi * np.exp(rng.uniform(np.log(0.33), np.log(3.0), (count, 1, 1)))  # radians a second
    turning = np.repeat(speed * axis / np.linalg.norm(axis, axis=2, keepdims=True), WINDOW_SLOTS, axis=1)
    outwards = rng.standard_normal((count, 1, 3)) * 0.02 * speed**2  # its sensor is some centimetres from the axis
    noise = rng.normal(0.0, 0.1, (count, WINDOW_SLOTS, 3))
    return np.asarray(STANDARD_GRAVITY * _turned(turning, memory_s=0.0, rng=rng) + outwards + noise, np.float32)


def _turned(pushes: np.ndarray, memory_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return unit vectors of gravity float64[m, 80, 3] as a phone turns by `pushes`, radians a second about each axis.

    With `memory_s`, the angular velocity is an exponential average of the pushes over about that time, of the same
    strength.
    """
    kept = np.exp(-1 / (RATE_HZ * memory_s)) if memory_s else 0.0
    towards = gravity_from_anywhere(len(pushes), rng)[:, 0] / STANDARD_GRAVITY
    out, turning = np.empty_like(pushes), pushes[:, 0]
    for slot in range(WINDOW_SLOTS):
        turning = kept * turning + np.sqrt(1 - kept**2) * pushes[:, slot]
        towards = _rotated(towards, turning / RATE_HZ)
        out[:, slot] = towards
    return out


def _rotated(vectors: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Rotate `vectors` float64[m, 3] about the axes `by` float64[m, 3], whose lengths are the angles (Rodrigues)."""
    angle = np.linalg.norm(by, axis=1, keepdims=True)
    axis = by / np.maximum(angle, 1e-12)
    along = (vectors * axis).sum(axis=1, keepdims=True) * axis
    out: np.ndarray = along + (vectors - along) * np.cos(angle) + np.cross(axis, vectors) * np.sin(angle)
    return out


KINDS: Sequence[Make] = (tumbling_bag, bus, free_spin)
