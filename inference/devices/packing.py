"""Weights in the layout of compiled kernels: bfloat16 bits, padded, aligned to cache lines."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LINE_BYTES: Final = 64


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round finite numbers to the nearest bfloat16, ties to even; return its bits."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def padded(values: NDArray[np.float32], *multiples: int) -> NDArray[np.float32]:
    """Append zeros, to a multiple of the given size along each axis."""
    return np.pad(values, [(0, -size % multiple) for size, multiple in zip(values.shape, multiples, strict=True)])


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """Return a flat copy that starts at a cache line."""
    room = np.empty(values.nbytes + LINE_BYTES, np.uint8)
    start = -room.ctypes.data % LINE_BYTES
    copy = room[start : start + values.nbytes].view(values.dtype)
    copy[:] = values.reshape(-1)
    return copy
