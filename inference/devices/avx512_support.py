"""Whether this CPU has vector instructions for dot products of bfloat16 (AVX512-BF16)."""

from __future__ import annotations

import functools
from typing import Final

from inference.devices import cpu_features

NEEDED: Final = ("avx512f", "avx512bw", "avx512vl", "avx512bf16")


@functools.cache
def missing() -> str:
    """Return what the engine avx512 lacks here, or an empty text."""
    return cpu_features.missing_features("avx512", "has dot products of bfloat16", NEEDED)
