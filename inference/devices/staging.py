"""What the CPU's engines have in common: the arrays that batches are written to, and nothing to do before `collect`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.devices import SLOTS


class Staging:
    """An input array for each slot; the work is done in `collect`, so that answers go out before it starts."""

    def __init__(self, max_batch: int, shape: tuple[int, ...], dtype: str = "float32") -> None:
        self._arrays = [np.zeros((max_batch, *shape), dtype) for _ in range(SLOTS)]
        self._frames = [0] * SLOTS

    def staging(self, slot: int) -> NDArray[Any]:
        """Return the slot's input array."""
        return self._arrays[slot]

    def launch(self, slot: int, frames: int) -> None:
        """Note the batch; there is nobody else to begin it."""
        self._frames[slot] = frames

    def launched(self, slot: int) -> NDArray[Any]:
        """Return the batch that was launched."""
        return self._arrays[slot][: self._frames[slot]]
