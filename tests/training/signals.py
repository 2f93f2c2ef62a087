"""Made-up recordings for the training room's tests."""

import numpy as np

from training.data.recordings import ACTIVITIES, Recording


def swinging(
    activity: str, person: str = "1", *, seconds: float = 30.0, rate_hz: float = 20.0, dataset: str = "made up"
) -> Recording:
    """A wearer whose swing tells the activity: twice as strong and faster for each step along the list."""
    code = ACTIVITIES.index(activity)
    n = int(seconds * rate_hz)
    t = np.arange(n) / rate_hz
    phase = float(person) if person.isdecimal() else len(person)
    swing = 0.5 * 2**code * np.sin(2 * np.pi * (0.5 + 0.3 * code) * t + phase)
    xyz = np.stack([swing, 9.81 + 0.5 * swing, 0.2 * swing], axis=1).astype(np.float32)
    t_ms = np.round(t * 1000).astype(np.int64)
    return Recording(dataset, person, "pocket", np.full(n, code, np.int8), t_ms, xyz)
