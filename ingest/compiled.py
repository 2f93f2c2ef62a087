"""How this room compiles its loops with Numba.

Rooms share no code, so `windowing.compiled` is the same for its own.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
from numba.core.options import DefaultOptions

_F = TypeVar("_F", bound=Callable[..., object])

# Numba counts references to arrays at every call, inlined or not, unless told that there is nothing to count. If it
# can't be told, the loops are slower, with the same result.
_LEAN: Final[dict[str, Any]] = {"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}


def entry(function: _F) -> _F:
    """Compile and cache; if no cache can be written (a read-only image), compile at each start."""
    return _entry(function, {})


def _entry(function: _F, options: dict[str, Any]) -> _F:
    try:
        return cast(_F, numba.njit(cache=True, nogil=True, **options)(function))
    except RuntimeError:  # numba's "no locator available"
        return cast(_F, numba.njit(nogil=True, **options)(function))


def part(function: _F) -> _F:
    """Compile as a part of the entries, and into their cache."""
    return cast(_F, numba.njit(nogil=True)(function))


def lean_entry(function: _F) -> _F:
    """Compile an entry that makes no arrays, with lean parts only; Numba refuses one that does."""
    return _entry(function, _LEAN)


def lean_part(function: _F) -> _F:
    """Compile as a part of lean entries, and into their cache."""
    return cast(_F, numba.njit(nogil=True, **_LEAN)(function))


def lean_inlined(function: _F) -> _F:
    """Compile into each part that calls it: for functions that are called for each byte."""
    return cast(_F, numba.njit(nogil=True, forceinline=True, **_LEAN)(function))


def first_call(call: Callable[[], object]) -> None:
    """Call one entry, which compiles it or loads it from the cache.

    If the cache can't be written (a full disk), the next start compiles again. Numba raises then, but has the entry
    ready for the next call.
    """
    with contextlib.suppress(OSError):
        call()
