"""The queue of frames: blocks in, batches out, in order, and a batch's size limit. No threads and no clock here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

# After this many batches without a failure, a larger one is tried again: whatever used the memory may have ended, and
# one batch in a thousand that is computed twice costs next to nothing.
GROW_AFTER_BATCHES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What one caller submitted at once: frames (n, *shape), float32 or int32, and the caller's ticket for it."""

    frames: NDArray[Any]
    ticket: Any
    submitted_at: float


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Rows [start, stop) of a block."""

    block: Block
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class FrameQueue:
    """Waiting blocks, first in first out, at most `capacity` frames of them.

    A block goes in whole or not at all. One that is larger than the capacity is accepted into an empty queue: it is in
    memory already, so refusing it would save nothing and block its owner for ever.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.frames = 0
        self._blocks: deque[Block] = deque()
        self._taken = 0  # rows of the first block that have left

    def offer(self, block: Block) -> bool:
        """Append `block`, or return False if there is no room."""
        frames = len(block.frames)
        if self.frames and self.frames + frames > self.capacity:
            return False
        if frames:
            self._blocks.append(block)
            self.frames += frames
        return True

    def take(self, limit: int) -> list[Piece]:
        """Remove and return the oldest frames, at most `limit`, as pieces of their blocks."""
        pieces: list[Piece] = []
        while limit and self._blocks:
            block = self._blocks[0]
            stop = min(len(block.frames), self._taken + limit)
            pieces.append(Piece(block, self._taken, stop))
            limit -= stop - self._taken
            self.frames -= stop - self._taken
            self._taken = stop
            if stop == len(block.frames):
                self._blocks.popleft()
                self._taken = 0
        return pieces

    def clear(self) -> None:
        """Drop all waiting blocks."""
        self._blocks.clear()
        self.frames = self._taken = 0


class BatchLimit:
    """The most frames that a batch may hold: halved when the device runs out of memory, and raised again later."""

    def __init__(self, most: int) -> None:
        self.frames = most
        self._most = most
        self._successes = 0

    def shrink(self, failed: int) -> None:
        """Allow at most half of the `failed` frames that there was no memory for, and at least one."""
        self.frames = min(self.frames, max(1, failed // 2))
        self._successes = 0

    def record_success(self) -> None:
        """Count a batch that was answered; after many of them, allow twice as many frames."""
        if self.frames == self._most:
            return
        self._successes += 1
        if self._successes >= GROW_AFTER_BATCHES:
            self.frames = min(2 * self.frames, self._most)
            self._successes = 0
