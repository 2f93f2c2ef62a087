"""Made-up recordings as CSV files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

START_MS = 1_700_000_000_000


def walk(seconds: float, *, seed: int = 0, hole: tuple[float, float] = (0, 0)) -> tuple[np.ndarray, np.ndarray]:
    """Readings at about 20 Hz, none within `hole`: epoch ms int64[n], and m/s² float32[n, 3]."""
    rng = np.random.default_rng(seed)
    t_ms = np.sort(np.arange(0, 1000 * seconds, 50) + rng.integers(-9, 10, round(20 * seconds))).astype(np.int64)
    t_ms = t_ms[(t_ms < 1000 * hole[0]) | (t_ms >= 1000 * hole[1])]
    swing = np.sin(t_ms / 1000 * 2 * np.pi * 1.8)[:, None] * (2, 4, 1) * (1 + (t_ms > 500 * seconds)[:, None])
    xyz = swing + rng.normal((0.5, 9.5, 0.5), 0.3, (len(t_ms), 3))
    return START_MS + t_ms, xyz.round(4).astype(np.float32)


def write_csv(
    path: Path, devices: dict[str, tuple[np.ndarray, np.ndarray]], order: Sequence[int] | None = None
) -> Path:
    """Write the readings of some devices, one device after the other, or in another order of all rows."""
    rows = [
        f"{device},{t},{','.join(str(value) for value in values)}"
        for device, (t_ms, xyz) in devices.items()
        for t, values in zip(t_ms, xyz, strict=True)
    ]
    if order is not None:
        rows = [rows[place] for place in order]
    path.write_text("\n".join(["device_id,timestamp,x,y,z", *rows]) + "\n")
    return path
