"""Feeds a Windower the times that overflow and point outside arrays, if any do, and prints a digest of what it says.

Run by itself it says the same whichever way the kernels are run: compiled, with bounds checked, or interpreted.
"""

import hashlib
import math
import random
import warnings

from tests.windowing.reference import Reading
from tests.windowing.streams import Record, all_rows, let_fall_silent, push
from windowing import Windower, warm_up

MAX_ABS_MS = 2**62 - 1
LANDMARKS_MS = [0, 25, -25, -26, 4000, 2**31, 2**53, -(2**53), 2**61, -(2**61), MAX_ABS_MS, -MAX_ABS_MS]


def digest() -> str:
    hasher = hashlib.sha256()
    for lateness_slots in (0, 4, 1200):
        rng = random.Random(lateness_slots)
        windower = Windower(lateness_slots=lateness_slots, max_gap_ms=4000, max_frames=32)
        for offset in range(400):
            landmark = rng.choice(LANDMARKS_MS)
            readings = [
                Reading(b"%d" % rng.randint(0, 70), _near(landmark, rng), rng.random(), 0.0, 0.0) for _ in range(4)
            ]
            steps = push(windower, [Record(offset, readings)], float(offset))
            if rng.random() < 0.05:
                steps += let_fall_silent(windower, float(offset) if rng.random() < 0.5 else math.inf)
            hasher.update(
                repr([all_rows(steps), [s.late.tolist() for s in steps], windower.rewind_to(offset)]).encode()
            )
    return hasher.hexdigest()


def _near(landmark_ms: int, rng: random.Random) -> int:
    reach = rng.choice([1, 50, 4000, 70_000])
    return max(-MAX_ABS_MS, min(MAX_ABS_MS, landmark_ms + rng.randint(-reach, reach)))


if __name__ == "__main__":
    warnings.simplefilter("error", RuntimeWarning)  # NumPy's way of saying that an int64 overflowed
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="windowing.device_table")  # a hash is meant to
    warm_up()
    print(digest())
