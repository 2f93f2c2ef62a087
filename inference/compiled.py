"""How this room compiles its loops with Numba.

Rooms share no code, so `ingest.compiled` and `windowing.compiled` say the same for their own.
"""

import contextlib
from collections.abc import Callable
from typing import TypeVar, cast

import numba

_F = TypeVar("_F", bound=Callable[..., object])
_T = TypeVar("_T")


def entry(function: _F) -> _F:
    """Compile and cache; where there is no place to write a cache to (a read-only image), compile at each start."""
    try:
        return cast(_F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # numba's "no locator available"
        return cast(_F, numba.njit(nogil=True)(function))


def part(function: _F) -> _F:
    """Compile as a part of the entries, in whose cache it then lies."""
    return cast(_F, numba.njit(nogil=True)(function))


def first_call(call: Callable[[], _T], *, entries: int) -> _T:
    """Return what a call that compiles so many entries, or loads them from their cache, returns.

    A cache that can't be written (a full disk) only makes the next start compile again: numba fails then, but has the
    entry ready, so that the call works when repeated, once for each entry.
    """
    for _ in range(entries):
        with contextlib.suppress(OSError):
            return call()
    return call()
