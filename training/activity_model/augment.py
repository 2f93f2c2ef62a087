"""Training frames drawn from recordings, varied as by other phones, pockets and wearers.

A draw is a pure function of its generator. Everything works on whole batches of NumPy arrays: a batch of 256 frames
takes a few milliseconds, a small part of a training step.
"""

from dataclasses import dataclass

import numpy as np

from training.data.recordings import STANDARD_GRAVITY
from training.data.signals import Signals
from windowing import SLOT_MS, WINDOW_SLOTS


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far a training frame may differ from the recorded one. The defaults are the default recipe's."""

    max_stretch: float = 0.2  # of time, either way
    max_tilt_degrees: float = 25.0  # of the phone's plane against the thigh
    gain_sd: float = 0.03  # of each axis
    offset_sd: float = 0.3  # m/s², of each axis: phones are uncalibrated
    clipping_share: float = 0.1  # of frames clipped as a ±2 g sensor does
    max_noise: float = 0.3  # m/s², standard deviation of a frame's white noise
    nearest_share: float = 0.5  # of frames sampled as the slot grid does; the others are interpolated


def draw(signal: Signals, segments: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """One frame, float32[m, 80, 3], from a random place in each of `segments` int64[m]."""
    frames = read_at_another_pace(signal, segments, augmentation, rng)
    frames = frames @ orientations(len(frames), augmentation.max_tilt_degrees, rng)
    return simulate_sensor(frames, augmentation, rng)


def read_at_another_pace(
    signal: Signals, segments: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """Frames float32[m, 80, 3] whose clock runs up to `max_stretch` faster or slower than the recorded one."""
    span_ms = (WINDOW_SLOTS - 1) * SLOT_MS
    length = signal.last_ms[segments] - signal.first_ms[segments]
    pace = 1.0 + augmentation.max_stretch * rng.uniform(-1.0, 1.0, len(segments))
    pace = np.minimum(pace, length / span_ms)
    start = signal.first_ms[segments] + rng.random(len(segments)) * (length - pace * span_ms)
    at = start[:, None] + pace[:, None] * np.arange(WINDOW_SLOTS) * SLOT_MS
    after = np.clip(np.searchsorted(signal.clock_ms, at), 1, len(signal.clock_ms) - 1)
    t0, t1 = signal.clock_ms[after - 1], signal.clock_ms[after]
    share = (at - t0) / (t1 - t0)
    nearest = rng.random(len(segments)) < augmentation.nearest_share
    share = np.where(nearest[:, None], np.rint(share), share).astype(np.float32)[:, :, None]
    frames: np.ndarray = signal.xyz[after - 1] * (1 - share) + signal.xyz[after] * share
    return frames


def orientations(count: int, max_tilt_degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Return rotations float32[count, 3, 3] of row vectors: any angle in the phone's plane, either side out, tilted."""
    turn = rng.uniform(0.0, 2.0 * np.pi, count)
    screen_in = rng.integers(0, 2, count) * 2.0 - 1.0
    # Most phones lie nearly flat on the thigh, and tilt separates sitting from standing. The square makes small angles
    # the usual ones, as it does weak noise below.
    tilt = np.radians(max_tilt_degrees) * rng.random(count) ** 2
    towards = rng.uniform(0.0, 2.0 * np.pi, count)
    in_plane = _about_z(turn)
    in_plane[:, :, 0] *= screen_in[:, None]  # half a turn about the phone's long axis
    in_plane[:, :, 2] *= screen_in[:, None]
    tilted = _about_z(towards) @ _about_x(tilt) @ _about_z(-towards)
    rotations: np.ndarray = (in_plane @ tilted).astype(np.float32)
    return rotations


def _about_z(angle: np.ndarray) -> np.ndarray:
    rotation = np.zeros((len(angle), 3, 3))
    rotation[:, 0, 0] = rotation[:, 1, 1] = np.cos(angle)
    rotation[:, 0, 1] = np.sin(angle)
    rotation[:, 1, 0] = -np.sin(angle)
    rotation[:, 2, 2] = 1.0
    return rotation


def _about_x(angle: np.ndarray) -> np.ndarray:
    return np.roll(_about_z(angle), 1, axis=(1, 2))


def simulate_sensor(frames: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Return frames float32[m, 80, 3] with another sensor's gain, offset and noise and, now and then, range."""
    count = len(frames)
    gain = rng.normal(1.0, augmentation.gain_sd, (count, 1, 3))
    offset = rng.normal(0.0, augmentation.offset_sd, (count, 1, 3))
    noise = rng.random((count, 1, 1), np.float32) ** 2 * augmentation.max_noise
    out = frames * gain.astype(np.float32) + offset.astype(np.float32)
    out += noise * rng.standard_normal(out.shape, np.float32)
    limit = np.where(rng.random((count, 1, 1)) < augmentation.clipping_share, 2 * STANDARD_GRAVITY, np.inf)
    return np.asarray(np.clip(out, -limit, limit), np.float32)
