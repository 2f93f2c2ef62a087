"""Statistics of a frame that change when phones, units, sampling rates or places on the body do.

Numba's cache tracks changes by file: all compiled code of this module stays here.
"""

import math

import numpy as np
import numpy.typing as npt

from windowing.compiled import entry, first_call
from windowing.grid import WINDOW_SLOTS

Float32s = npt.NDArray[np.float32]

# Lower bound of divisors, in m/s², for still phones: about a sensor's own noise.
LEAST = 0.01


def features(frames: Float32s) -> dict[str, Float32s]:
    """Return the features of frames float32[m, 80, 3], by name, each float32[m].

    magnitude: mean length of the acceleration, in the readings' unit; it changes with the unit, or without gravity.
    movement: standard deviation of that length.
    roughness: mean step of that length from slot to slot, divided by `movement`; it changes with the sampling rate.
    upright: gravity along the phone's long axis, -1 to 1; it changes with the place on the body, or the axes.
    """
    if frames.shape[1:] != (WINDOW_SLOTS, 3):
        raise ValueError(f"frames of shape {frames.shape[1:]}: they must be ({WINDOW_SLOTS}, 3)")
    columns = np.empty((4, len(frames)), np.float32)
    _fill(frames, columns)
    return dict(zip(("magnitude", "movement", "roughness", "upright"), columns, strict=True))


@entry
def _fill(frames: Float32s, columns: Float32s) -> None:
    lengths = np.empty(WINDOW_SLOTS)
    for row in range(len(frames)):
        x = y = z = total = steps = 0.0
        for slot in range(WINDOW_SLOTS):
            ax, ay, az = frames[row, slot]
            lengths[slot] = math.sqrt(ax * ax + ay * ay + az * az)
            x, y, z, total = x + ax, y + ay, z + az, total + lengths[slot]
            if slot:
                steps += abs(lengths[slot] - lengths[slot - 1])
        mean, squares = total / WINDOW_SLOTS, 0.0
        for slot in range(WINDOW_SLOTS):
            squares += (lengths[slot] - mean) ** 2
        movement = math.sqrt(squares / WINDOW_SLOTS)
        columns[0, row] = mean
        columns[1, row] = movement
        columns[2, row] = steps / (WINDOW_SLOTS - 1) / (movement + LEAST)
        columns[3, row] = y / (math.sqrt(x * x + y * y + z * z) + LEAST * WINDOW_SLOTS)


def warm_up() -> None:
    """Compile the loop, or load it from its cache, so that the first frames don't wait for it."""
    first_call(lambda: features(np.empty((0, WINDOW_SLOTS, 3), np.float32)), entries=1)
