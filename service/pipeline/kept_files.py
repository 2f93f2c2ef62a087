"""Kept windows as Parquet files in a folder that several workers may share.

A file appears under its name when it is complete, or not at all. The folder's size is bounded: the oldest files with
such a name, whoever wrote them, are deleted to make room.
"""

import contextlib
import datetime
import io
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kafka.structs import TopicPartition
from numpy.typing import NDArray

from inference.bundle import Bundle
from service.kind import WorkerError
from windowing import WINDOW_MS, WINDOW_SLOTS

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:  # needed only where windows are to be kept
    pa = pq = None

ROWS_A_FILE = 2000  # about 2 MB
# A partial file older than this was left by a process that was killed: writing one doesn't take so long.
STALE_S = 600.0
_NAME = re.compile(r"kept-\d{8}T\d{9}Z-[0-9a-f]{8}\.parquet")
_PARTIAL = re.compile(rf"\.{_NAME.pattern}\.partial")


@dataclass(frozen=True, slots=True)
class Piece:
    """Windows of one partition that one batch labelled, n rows; no array is a view into a larger one.

    ``device_id`` uint8[n, 128] and ``id_size`` int32[n], ``start_ms`` int64[n], ``values`` float32[n, 80, 3] in m/s²,
    ``measured`` and ``longest_gap_ms`` int32[n], ``source_offset`` int64[n]: as in ``windowing.Frames``.
    ``probabilities`` float32[n, labels]; ``familiarity`` float32[n], NaN if the model has none.
    """

    device_id: NDArray[np.uint8]
    id_size: NDArray[np.int32]
    start_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    measured: NDArray[np.int32]
    longest_gap_ms: NDArray[np.int32]
    source_offset: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    familiarity: NDArray[np.float32]
    source: TopicPartition
    bundle: Bundle

    def __len__(self) -> int:
        return len(self.start_ms)


def files_of(pieces: Sequence[Piece]) -> Iterator[tuple[int, bytes]]:
    """Encode windows as files; yield the number of windows, at most ROWS_A_FILE, and the content of each."""
    table = table_of(pieces)
    for start in range(0, len(table), ROWS_A_FILE):
        rows = table.slice(start, ROWS_A_FILE)
        content = io.BytesIO()
        repeating = ["predicted", "source_topic", "source_partition", "model", "bundle_digest", "device_id"]
        pq.write_table(rows, content, use_dictionary=repeating)
        yield len(rows), content.getvalue()


def table_of(pieces: Sequence[Piece]) -> Any:
    """Return an Arrow table of windows whose models have the same labels; a person fills in ``activity``."""
    row = np.repeat(np.arange(len(pieces)), list(map(len, pieces)))
    labels = list(pieces[0].bundle.manifest.labels)
    start_ms, probabilities, familiarity = (
        _joined(pieces, name) for name in ("start_ms", "probabilities", "familiarity")
    )
    readings = pa.array(_joined(pieces, "values").reshape(-1))
    return pa.table(
        {
            "device_id": _texts(_joined(pieces, "device_id"), _joined(pieces, "id_size")),
            "window_start": start_ms,
            "window_end": start_ms + WINDOW_MS,
            "frame": pa.FixedSizeListArray.from_arrays(readings, 3 * WINDOW_SLOTS),
            "predicted": pa.array(labels).take(pa.array(probabilities.argmax(axis=1))),
            "confidence": probabilities.max(axis=1),
            "probabilities": pa.StructArray.from_arrays(list(map(pa.array, probabilities.T.copy())), names=labels),
            "familiarity": pa.array(familiarity, mask=np.isnan(familiarity)),
            "coverage": _joined(pieces, "measured") / WINDOW_SLOTS,
            "longest_gap_ms": _joined(pieces, "longest_gap_ms"),
            "source_topic": pa.array([piece.source.topic for piece in pieces]).take(row),
            "source_partition": pa.array([piece.source.partition for piece in pieces], pa.int32()).take(row),
            "source_offset": _joined(pieces, "source_offset"),
            "model": pa.array([piece.bundle.title for piece in pieces]).take(row),
            "bundle_digest": pa.array([piece.bundle.digest for piece in pieces]).take(row),
            "activity": pa.nulls(len(row), pa.string()),
        }
    )


def _joined(pieces: Sequence[Piece], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(piece, name) for piece in pieces])


def _texts(padded: NDArray[np.uint8], size: NDArray[np.int32]) -> Any:
    """Return an Arrow column of UTF-8 from uint8[n, width], without a Python object for each row."""
    ends = np.concatenate([[0], size.cumsum()]).astype(np.int32)
    content = padded[np.arange(padded.shape[1]) < size[:, None]]
    return pa.StringArray.from_buffers(len(size), pa.py_buffer(ends), pa.py_buffer(content))


class Folder:
    """The folder of kept windows; raises WorkerError at once if it can't be written to."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        if pa is None:
            raise WorkerError(f"activity.keep.folder {path} takes pyarrow: pip install '.[parquet]' in the checkout")
        self._path = path
        self._most_bytes = most_bytes
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise WorkerError(
                f"can't write to activity.keep.folder {path}: {error.strerror or error}; name a folder that this "
                "user may write to, or leave the setting out to keep no windows"
            ) from None

    def write(self, content: bytes) -> None:
        """Write one file; raises OSError."""
        self._make_room(len(content))
        now = datetime.datetime.now(datetime.UTC)
        name = f"kept-{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{secrets.token_hex(4)}.parquet"
        partial = self._path / f".{name}.partial"  # hidden from readers of the whole folder
        try:
            with partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self._path / name)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def _make_room(self, size: int) -> None:
        """Delete the oldest files until there is room for so many bytes, and stale partial files."""
        files = sorted(_files(self._path))
        excess = size + sum(file_bytes for _, file_bytes in files) - self._most_bytes
        for name, file_bytes in files:
            if excess <= 0:
                return
            with contextlib.suppress(OSError):  # another worker may delete it, too; or it is another user's
                (self._path / name).unlink()
                excess -= file_bytes


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Return the finished files and their sizes; delete stale partial files."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if _NAME.fullmatch(entry.name):
                    yield entry.name, entry.stat(follow_symlinks=False).st_size
                elif _PARTIAL.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > STALE_S:
                    os.unlink(entry.path)
