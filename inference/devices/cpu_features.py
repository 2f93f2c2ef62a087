"""What our own engines need of the CPU, and of Numba, which compiles them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import llvmlite.binding


def missing_features(engine: str, what: str, needed: Sequence[str]) -> str:
    """Return what an engine lacks here that needs a CPU that does `what`, by these LLVM features; or an empty text."""
    features = llvmlite.binding.get_host_cpu_features()
    if missing := [name for name in needed if not features.get(name)]:
        return f"the engine {engine} needs a CPU that {what}, and this one lacks {missing[0]}"
    config: Any = importlib.import_module("numba.core.config")  # late: without such a CPU, no compiler may be needed
    if config.CPU_NAME or config.CPU_FEATURES is not None or not config.ENABLE_AVX:
        return f"the engine {engine} needs kernels compiled for this CPU, and Numba's settings ask for others"
    return ""
