"""Weights as compiled kernels read them: bfloat16's bits, padded, beginning where a cache line does."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LINE_BYTES: Final = 64


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, of two as near the even one; for finite numbers."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def padded(values: NDArray[np.float32], *multiples: int) -> NDArray[np.float32]:
    """Zeros behind, to a multiple of so many along each axis."""
    return np.pad(values, [(0, -size % multiple) for size, multiple in zip(values.shape, multiples, strict=True)])


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """A flat copy that begins where a cache line does."""
    room = np.empty(values.nbytes + LINE_BYTES, np.uint8)
    start = -room.ctypes.data % LINE_BYTES
    copy = room[start : start + values.nbytes].view(values.dtype)
    copy[:] = values.reshape(-1)
    return copy
