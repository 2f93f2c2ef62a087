"""Stateless random numbers, each a function of its keys, so that any of them can be drawn at any time.

A counter-based generator in the sense of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11.
"""

import numpy as np


class Purpose:
    """The purpose of a random number, used as a key: each has numbers of its own."""

    PHASE, SHIFT, CLOCK, JITTER_SPREAD, JITTER, ORIENTATION = range(1, 7)
    SCHEDULE, ORDER, WEARER, STRIDE, WANDER, POSTURE, LEVEL, SWAY, TREMBLE = range(7, 16)


class Random:
    """Random numbers of a seed, selected by keys: integers or integer arrays that broadcast."""

    def __init__(self, seed: int) -> None:
        self._seed = np.array([seed % (1 << 64)], np.uint64)

    def bits(self, *keys: np.ndarray | int) -> np.ndarray:
        """Return uint64 of the keys' common shape."""
        mixed = _mix(self._seed)
        for key in keys:
            mixed = _mix(mixed ^ np.asarray(key).astype(np.uint64))
        return mixed

    def uniform(self, *keys: np.ndarray | int) -> np.ndarray:
        """Return float64 in [0, 1)."""
        return np.asarray((self.bits(*keys) >> np.uint64(11)) * 2.0**-53)

    def normal(self, *keys: np.ndarray | int, count: int) -> np.ndarray:
        """Return float32 of the keys' common shape, with `count` for each."""
        return normal(self.bits(*keys), count)


def _mix(bits: np.ndarray) -> np.ndarray:
    """One step of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014)."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))


def normal(keys: np.ndarray, count: int) -> np.ndarray:
    """Return standard normal float32[..., count] for each key, by Box and Muller: two from 64 bits."""
    pairs = (count + 1) // 2
    bits = _mix(keys[..., None] + np.arange(1, pairs + 1, dtype=np.uint64))
    first = ((bits >> np.uint64(32)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
    angle = (bits & np.uint64(0xFFFFFFFF)).astype(np.float32) * np.float32(2 * np.pi * 2.0**-32)
    length = np.sqrt(-2 * np.log(np.minimum(first, np.float32(1 - 2.0**-24))))
    return np.concatenate([length * np.cos(angle), length * np.sin(angle)], axis=-1)[..., :count]
