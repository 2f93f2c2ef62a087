"""What a GPU's memory is used for, without asking for a GPU where none is used."""

from __future__ import annotations

import sys
from typing import Any


def reserved() -> int:
    """Return the bytes of the GPU that PyTorch holds for this process; 0 where none is used.

    PyTorch's own count, as is the size below: a driver that hangs is not asked.
    """
    cuda = _in_use()
    return 0 if cuda is None else int(cuda.memory_reserved())


def total() -> int:
    """Return the bytes of memory that the GPU has; 0 where none is used."""
    cuda = _in_use()
    return 0 if cuda is None else int(cuda.get_device_properties(0).total_memory)


def _in_use() -> Any:
    """Return `torch.cuda` where a GPU is in use; importing PyTorch to learn of it would take seconds."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)  # another thread may be importing it
    return cuda if cuda is not None and cuda.is_initialized() else None
