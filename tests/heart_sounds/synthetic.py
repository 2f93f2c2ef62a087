"""Synthetic heart sounds: made by formula, recorded from nobody, and of no use to tell a sick heart from a sound one.

They only have what their names stand for. A beat is a low thump (S1) and a third of its period later a higher and
shorter one (S2); a murmur hisses between the two; an extra sound is a faint thump soon after S2; noise has no beat.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LABELS = ("extra-sound", "murmur", "noise", "normal")
RATE_HZ = 2_000
SAMPLES = 2_000


def synthetic_sounds(count: int, seed: int) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Return int16 (count, 2000), each a second at 2 kHz, and int64[count], which of `LABELS` each is."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(LABELS), count)
    extra, murmur, noise, _ = (label == number for number in range(len(LABELS)))
    period = rng.uniform(0.6, 1.0, count)[:, None]  # 60 to 100 beats a minute
    since_beat = (np.arange(SAMPLES) / RATE_HZ + period * rng.uniform(0, 1, (count, 1))) % period
    since_s2 = since_beat - period / 3
    hiss = rng.normal(0, 1, (count, SAMPLES))
    between = (since_beat > 0.06) & (since_s2 < 0)
    sound = _thump(since_beat, 50, 0.020, rng) + 0.7 * _thump(since_s2, 70, 0.012, rng)
    sound += extra[:, None] * 0.6 * _thump(since_s2 - 0.13, 40, 0.020, rng)
    sound += murmur[:, None] * 0.15 * between * (hiss + np.roll(hiss, 1) + np.roll(hiss, 2))  # below 700 Hz
    sound = np.where(noise[:, None], 0.5 * hiss, sound + rng.uniform(0.005, 0.03, (count, 1)) * hiss)
    sound *= rng.uniform(0.2, 1.0, (count, 1)) / np.abs(sound).max(axis=1, keepdims=True)  # near the heart or far
    return (sound * (2**15 - 1)).astype(np.int16), label


def _thump(
    since: NDArray[np.float64], frequency_hz: float, decay_s: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A damped oscillation from where `since`, in seconds, is 0 on; its pitch differs by a tenth between hearts."""
    pitch = frequency_hz * rng.uniform(0.9, 1.1, (len(since), 1))
    after = np.maximum(since, 0.0)
    return np.asarray(np.sin(2 * np.pi * pitch * after) * np.exp(-after / decay_s))
