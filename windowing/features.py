"""What a frame is like, in a few numbers that move when phones, units, rates or places on the body do."""

import numpy as np
import numpy.typing as npt


def features(frames: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """Return what frames float32[m, 80, 3] are like: each number's name, and float32[m].

    magnitude: mean length of the acceleration, in the readings' unit: another unit, or gravity taken out, moves it.
    movement: standard deviation of that length: how much there is to see.
    roughness: mean step of that length from one slot to the next, by `movement`: another rate moves it.
    upright: where gravity is along the phone's long axis, -1 to 1: another place on the body, or other axes, move it.
    """
    lengths = np.sqrt(np.einsum("msa,msa->ms", frames, frames))
    movement = lengths.std(axis=1)
    gravity = frames.mean(axis=1)
    return {
        "magnitude": lengths.mean(axis=1),
        "movement": movement,
        "roughness": np.abs(np.diff(lengths, axis=1)).mean(axis=1) / (movement + np.float32(0.01)),
        "upright": gravity[:, 1] / (np.sqrt(np.einsum("ma,ma->m", gravity, gravity)) + np.float32(0.01)),
    }
