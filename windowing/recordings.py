"""Cuts recordings offline, with the code that cuts streams."""

import numpy as np

from windowing.grid import MAX_GAP_MS
from windowing.kernels import Float32s, Int64s
from windowing.windower import Frames, Windower


def cut(
    timestamp_ms: Int64s, xyz: Float32s, phase_id: bytes = b"", *, max_gap_ms: int = MAX_GAP_MS
) -> tuple[Int64s, Float32s]:
    """Cut all complete windows of one device's recording, in any order of its readings.

    These are the windows the service would label if all of the recording arrived within the lateness it allows.

    Args:
        timestamp_ms: int64[n], epoch ms.
        xyz: float32[n, 3], finite.
        phase_id: the device id, which decides at which slots windows start; the default stands for phase 0.
        max_gap_ms: as for `Windower`.

    Returns:
        start_ms int64[m], ascending, and values float32[m, 80, 3].

    Raises:
        ValueError: the columns don't fit each other or are out of range, or a value isn't finite.

    """
    timestamp_ms = np.asarray(timestamp_ms, dtype=np.int64)
    xyz = np.asarray(xyz, dtype=np.float32)
    if not np.isfinite(xyz).all():
        raise ValueError("xyz holds values that aren't finite: drop those readings first")
    if timestamp_ms.ndim != 1 or xyz.shape != (len(timestamp_ms), 3):
        raise ValueError(f"timestamp_ms has shape {timestamp_ms.shape} and xyz {xyz.shape}: need (n,) and (n, 3)")
    order = np.argsort(timestamp_ms, kind="stable")
    timestamp_ms, xyz = timestamp_ms[order], xyz[order]
    ids = np.frombuffer(phase_id, np.uint8)
    offset = id_at = np.zeros(len(order), dtype=np.int64)
    id_end = np.full(len(order), len(ids), dtype=np.int64)

    windower = Windower(lateness_slots=0, max_gap_ms=max_gap_ms)
    frames: list[Frames] = []
    row, more = 0, True
    while more:
        step = windower.push(ids, id_at, id_end, timestamp_ms, xyz, offset, 0.0, row)
        frames.append(step.frames)
        row, more = step.consumed, step.more
    frames.append(windower.fall_silent(np.inf).frames)
    return np.concatenate([f.start_ms for f in frames]), np.concatenate([f.values for f in frames])
