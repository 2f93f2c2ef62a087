"""Made-up data files in the public forms."""

from collections.abc import Sequence
from pathlib import Path

from tests.training.signals import swinging

# The first trains, the second validates and the third tests in the default recipe.
PEOPLE = ("1", "7", "29")

# Activities of other names, each with the one of the six whose swing it has.
WRITTEN = {"walking": "Walking", "Cycling": "Jogging", "LYING DOWN": "Sitting", "Sweeping": "Upstairs"}
SWINGS = {**WRITTEN, "up|down": "Upstairs", "a [bus](x)": "Standing", "Stairs": "Upstairs", "Lying still": "Sitting"}


def write_wisdm(path: Path, people: Sequence[str] = PEOPLE, seconds: float = 16.0) -> Path:
    """WISDM's raw form: each person shows four activities, one after the other, ten seconds apart."""
    lines = []
    for person in people:
        t_ns = 1_000_000_000_000
        for activity in ("Jogging", "Sitting", "Standing", "Walking"):
            recording = swinging(activity, person, seconds=seconds)
            for t_ms, (x, y, z) in zip(recording.t_ms.tolist(), recording.xyz.tolist(), strict=True):
                lines.append(f"{person},{activity},{t_ns + t_ms * 1_000_000},{x:.3f},{y:.3f},{z:.3f};")
            t_ns += int(seconds + 10) * 1_000_000_000
    path.write_text("\n".join(lines) + "\n")
    return path


def write_csv(path: Path, written: Sequence[str] = tuple(WRITTEN), people: Sequence[str] = ("1", "2", "3")) -> Path:
    """16 seconds of each activity by each person, who swings like one of the six."""
    lines = ["person,activity,recording,timestamp,x,y,z"]
    for person in people:
        for name in written:
            recording = swinging(SWINGS.get(name, name), person, seconds=16)
            for t_ms, (x, y, z) in zip(recording.t_ms.tolist(), recording.xyz.tolist(), strict=True):
                lines.append(f"{person},{name},{name},{t_ms},{x:.3f},{y:.3f},{z:.3f}")
    path.write_text("\n".join(lines) + "\n")
    return path
