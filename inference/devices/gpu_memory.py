"""Use of the GPU's memory, without initialising a GPU that is not in use."""

from __future__ import annotations

import sys
from typing import Any


def reserved() -> int:
    """Return the bytes of GPU memory that PyTorch holds for this process; 0 if no GPU is in use.

    This and the total are PyTorch's own numbers: they don't call a driver that may hang.
    """
    cuda = _in_use()
    return 0 if cuda is None else int(cuda.memory_reserved())


def total() -> int:
    """Return the bytes of memory of the GPU; 0 if none is in use."""
    cuda = _in_use()
    return 0 if cuda is None else int(cuda.get_device_properties(0).total_memory)


def _in_use() -> Any:
    """Return `torch.cuda` if a GPU is in use; importing PyTorch to find out would take seconds."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)  # another thread may be importing it
    return cuda if cuda is not None and cuda.is_initialized() else None
