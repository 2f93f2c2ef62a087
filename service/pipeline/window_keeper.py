"""Keeps windows for a person to label: those that the model was least sure of, or found unfamiliar.

The publisher's thread chooses and copies them, a batch at a time; a thread of its own writes them. Nothing waits for
it: windows that don't fit, or can't be written, are lost, counted, and logged once in a while.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Mapping

import numpy as np
from kafka.structs import TopicPartition
from numpy.typing import NDArray
from prometheus_client import Counter

from inference.core import Result
from service.configuration.settings import KeepSettings
from service.kind import Block
from service.pipeline.kept_files import ROWS_A_FILE, Folder, Piece, files_of
from windowing import Frames

log = logging.getLogger(__name__)

MOST_WAITING = 4 * ROWS_A_FILE  # windows, of 1.2 KB each
# A file that isn't full is written when its oldest window has waited for so long. Many small files would be slow.
WAIT_S = 300.0
TELL_S = 60.0
IDLE_S = 1.0


class WindowKeeper(threading.Thread):
    """Keeps windows by the settings, whose folder must be given; ``counts`` is ``WindowMetrics.kept``.

    Raises WorkerError where the folder can't be written to, or pyarrow is missing.
    """

    def __init__(self, settings: KeepSettings, counts: Mapping[str, Counter], wait_s: float = WAIT_S) -> None:
        super().__init__(name="window-keeper", daemon=True)
        if settings.folder is None:
            raise ValueError("no folder to keep windows in")
        self._settings = settings
        self._folder = Folder(settings.folder, settings.max_mb * 1_000_000)
        self._counts = counts
        self._wait_s = wait_s
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._allowed = float(settings.per_minute)
        self._allowed_at = time.monotonic()
        self._waiting = 0
        self._dropped = 0
        self._failed = 0
        self._error: Exception | None = None
        self._tell_at = -math.inf

    def offer(self, result: Result, block: Block, source: TopicPartition) -> None:
        """Keep the labelled windows that are worth it, while there is room."""
        worth = result.probabilities.max(axis=1) < self._settings.below_confidence
        if result.familiarity is not None:
            worth |= result.familiarity < self._settings.below_familiarity
        rows = np.flatnonzero(worth)
        if not len(rows):
            return
        allowed = self._allow(len(rows))
        with self._lock:
            room = min(allowed, MOST_WAITING - self._waiting)
            self._waiting += room
            self._dropped += len(rows) - room
        if room < len(rows):
            self._counts["dropped"].inc(len(rows) - room)
        if room:
            self._pieces.put(_chosen(result, block.columns.frames, rows[:room], source))

    def _allow(self, rows: int) -> int:
        """Return how many of the windows are within the limit a minute; for the publisher's thread alone."""
        now, most = time.monotonic(), self._settings.per_minute
        self._allowed = min(most, self._allowed + (now - self._allowed_at) * most / 60)
        self._allowed_at = now
        allowed = min(rows, int(self._allowed))
        self._allowed -= allowed
        return allowed

    def run(self) -> None:
        """Write until closed."""
        opened = True
        while opened:
            pieces, opened = self._gather()
            if pieces:
                self._write(pieces)
            self._tell()

    def close(self, timeout_s: float) -> None:
        """Write what is queued, then end."""
        self._pieces.put(None)
        if self.is_alive():
            self.join(timeout_s)
        if self.is_alive():
            log.warning("%d windows that were to be kept could not be written in time", self._waiting)

    def _gather(self) -> tuple[list[Piece], bool]:
        """Wait until a file is full or due; return its pieces, and whether more may come."""
        pieces: list[Piece] = []
        rows, until = 0, math.inf
        while rows < ROWS_A_FILE:
            try:
                piece = self._pieces.get(timeout=min(IDLE_S, max(0.0, until - time.monotonic())))
            except queue.Empty:
                if not pieces or time.monotonic() < until:
                    self._tell()
                    continue
                break
            if piece is None:
                return pieces, False
            until = min(until, time.monotonic() + self._wait_s)
            pieces.append(piece)
            rows += len(piece)
        return pieces, True

    def _write(self, pieces: list[Piece]) -> None:
        left = rows = sum(map(len, pieces))
        try:
            for count, content in files_of(pieces):
                self._folder.write(content)
                self._counts["written"].inc(count)
                left -= count
        except Exception as error:  # any error: labels don't depend on it
            self._counts["failed"].inc(left)
            self._failed, self._error = self._failed + left, error
        finally:
            with self._lock:
                self._waiting -= rows

    def _tell(self) -> None:
        """Log what was lost, at most once in `TELL_S`."""
        if not (self._dropped or self._failed) or time.monotonic() < self._tell_at:
            return
        self._tell_at = time.monotonic() + TELL_S
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        failed, error = self._failed, self._error
        self._failed, self._error = 0, None
        if dropped:
            log.warning("%d windows were not kept: more than activity.keep.per_minute, or than the disk takes", dropped)
        if failed:
            traceback = None if isinstance(error, OSError) else error
            log.warning("%d windows could not be kept: %s", failed, error, exc_info=traceback)


def _chosen(result: Result, frames: Frames, rows: NDArray[np.intp], source: TopicPartition) -> Piece:
    """Copy rows of a result and of its frames."""
    at = result.start + rows
    return Piece(
        device_id=frames.device_id[at],
        id_size=frames.id_size[at],
        start_ms=frames.start_ms[at],
        values=frames.values[at],
        measured=frames.measured[at],
        longest_gap_ms=frames.longest_gap_ms[at],
        source_offset=frames.source_offset[at],
        probabilities=result.probabilities[rows],
        familiarity=np.full(len(rows), np.nan, np.float32) if result.familiarity is None else result.familiarity[rows],
        source=source,
        bundle=result.bundle,
    )
