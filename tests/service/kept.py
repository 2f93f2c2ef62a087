"""Windows that were labelled, for the tests of what is kept of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.bundle import Bundle
from inference.core import Result
from service.kind import Block
from windowing import Frames

NEEDS = "pyarrow is not installed: pip install '.[parquet]' in the checkout"
START_MS = 1_700_000_000_000


def arrow() -> Any:
    """Return pyarrow with its Parquet; skip the test where it is not installed."""
    pytest.importorskip("pyarrow.parquet", reason=NEEDS)
    return pytest.importorskip("pyarrow", reason=NEEDS)


def labelled(
    bundle: Bundle,
    confidence: Sequence[float],
    familiarity: Sequence[float] | None = None,
    *,
    devices: Sequence[str] | None = None,
    first: int = 0,
    before: int = 0,
) -> tuple[Result, Block]:
    """Labels of so much confidence, whose windows differ in all they have; `before` rows of the block are another's."""
    labels, rows = len(bundle.manifest.labels), len(confidence)
    number = first + np.arange(before + rows)
    ids = [device.encode() for device in devices or [f"phone-{each % 7}" for each in number.tolist()]]
    device_id = np.zeros((before + rows, 128), np.uint8)
    for row, each in enumerate(ids):
        device_id[row, : len(each)] = np.frombuffer(each, np.uint8)
    probabilities = np.empty((rows, labels), np.float32)
    probabilities[:] = (1 - np.array(confidence)[:, None]) / (labels - 1)
    probabilities[np.arange(rows), number[before:] % labels] = confidence
    frames = Frames(
        device_id=device_id,
        id_size=np.array(list(map(len, ids)), np.int32),
        start_ms=START_MS + 2000 * number,
        values=np.random.default_rng(first).normal(0, 5, (before + rows, 80, 3)).astype(np.float32),
        measured=(80 - number % 5).astype(np.int32),
        longest_gap_ms=(50 * (1 + number % 5)).astype(np.int32),
        by_silence=number % 2 == 0,
        source_offset=10 * number,
        reading=number,
        row=number,
        device=number.astype(np.uint64),
    )
    known = None if familiarity is None else np.array(familiarity, np.float32)
    block = Block(frames.values, np.zeros(before + rows, np.int64), Columns(frames))
    return Result(None, before, before + rows, probabilities, bundle, 0.0, 0.0, rows, "idle", True, known), block


class Columns:
    """As a stream of windows hands them along."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """All rows of all files there, as their reader gets them."""
    import pyarrow.parquet as pq

    return [row for path in files_in(folder) for row in pq.read_table(path).to_pylist()]
