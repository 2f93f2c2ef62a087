"""How this room compiles its loops with Numba.

Rooms share no code, so `ingest.compiled` and `windowing.compiled` say the same for their own.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
from numba.core.options import DefaultOptions

_F = TypeVar("_F", bound=Callable[..., object])
_T = TypeVar("_T")

# Numba counts the references to the arrays at every call, inlined or not, unless it is told that there is nothing to
# count; where it can't be told, the loops are slower and the same.
_LEAN: Final[dict[str, Any]] = {"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}


def entry(function: _F) -> _F:
    """Compile and cache; where there is no place to write a cache to (a read-only image), compile at each start."""
    return _entry(function, {})


def _entry(function: _F, options: dict[str, Any]) -> _F:
    try:
        return cast(_F, numba.njit(cache=True, nogil=True, **options)(function))
    except RuntimeError:  # numba's "no locator available"
        return cast(_F, numba.njit(nogil=True, **options)(function))


def part(function: _F) -> _F:
    """Compile as a part of the entries, in whose cache it then lies."""
    return cast(_F, numba.njit(nogil=True)(function))


def lean_entry(function: _F) -> _F:
    """Compile an entry that makes no arrays, nor do its parts, which are lean as well; Numba refuses one that does."""
    return _entry(function, _LEAN)


def lean_part(function: _F) -> _F:
    """Compile as a part of lean entries, in whose cache it then lies."""
    return cast(_F, numba.njit(nogil=True, **_LEAN)(function))


def first_call(call: Callable[[], _T], *, entries: int) -> _T:
    """Return what a call that compiles so many entries, or loads them from their cache, returns.

    A cache that can't be written (a full disk) only makes the next start compile again: numba fails then, but has the
    entry ready, so that the call works when repeated, once for each entry.
    """
    for _ in range(entries):
        with contextlib.suppress(OSError):
            return call()
    return call()
