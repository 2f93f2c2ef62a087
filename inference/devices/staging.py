"""What all CPU engines share: the staging arrays of batches, and a `launch` that only notes the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.devices import SLOTS


class Staging:
    """An input array for each slot. `collect` does the work, so that earlier answers are delivered before it starts."""

    def __init__(self, max_batch: int, shape: tuple[int, ...], dtype: str = "float32") -> None:
        self._arrays = [np.zeros((max_batch, *shape), dtype) for _ in range(SLOTS)]
        self._frames = [0] * SLOTS

    def staging(self, slot: int) -> NDArray[Any]:
        """Return the slot's input array."""
        return self._arrays[slot]

    def launch(self, slot: int, frames: int) -> None:
        """Note the batch's size; no other device starts on it."""
        self._frames[slot] = frames

    def launched(self, slot: int) -> NDArray[Any]:
        """Return the launched batch."""
        return self._arrays[slot][: self._frames[slot]]
