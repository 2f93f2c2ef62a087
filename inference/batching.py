"""The queue of frames: blocks in, batches out, in order. No threads and no clock in here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What one caller submitted at once: float32 or int32 (n, *shape), and the caller's own mark for it."""

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
    """Blocks that wait, first come first served, at most `capacity` frames of them.

    A block goes in whole or not at all. One that is larger than the capacity has an empty queue to itself: it
    exists already, so refusing it would save no memory and stop its owner for ever.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.frames = 0
        self._blocks: deque[Block] = deque()
        self._taken = 0  # rows of the first block that have left

    def has_room(self, frames: int) -> bool:
        """Tell whether a block of so many frames would be taken."""
        return self.frames == 0 or self.frames + frames <= self.capacity

    def offer(self, block: Block) -> bool:
        """Append `block`, or return False if it has no room."""
        frames = len(block.frames)
        if not self.has_room(frames):
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
        """Forget everything."""
        self._blocks.clear()
        self.frames = self._taken = 0
