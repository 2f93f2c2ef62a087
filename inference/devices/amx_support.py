"""Whether this process may use the CPU's matrix unit (AMX)."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from typing import Final

from inference.devices import cpu_features

NEEDED: Final = ("amx-tile", "amx-bf16", "avx512f", "avx512bf16")
# From the kernel's documentation, "Using XSTATE features in user space applications": the system call's number on
# x86-64, the request, and the feature, which is the tiles' data.
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18


@functools.cache
def missing() -> str:
    """Return what the engine amx lacks here, or an empty text. Requests the unit, which the kernel grants for good."""
    if lacking := cpu_features.missing_features("amx", "multiplies matrices of bfloat16", NEEDED):
        return lacking
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the engine amx needs Linux on x86-64"
    if ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA):
        return "the engine amx needs the CPU's matrix unit, which the kernel doesn't give to this process"
    return ""
