"""Numba decorators for this room.

Rooms share no code, so `ingest.compiled` and `inference.compiled` hold the same for their own.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
from numba.core.options import DefaultOptions

_F = TypeVar("_F", bound=Callable[..., object])
_T = TypeVar("_T")

# Numba counts references to arrays at every call, inlined or not, unless this option says that there are none to count.
# Without the option the loops do the same, more slowly.
_LEAN: Final[dict[str, Any]] = {"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}


def entry(function: _F) -> _F:
    """Compile with a cache; if there is nowhere to write one (a read-only image), compile at each start."""
    return _entry(function, {})


def _entry(function: _F, options: dict[str, Any]) -> _F:
    try:
        return cast(_F, numba.njit(cache=True, nogil=True, **options)(function))
    except RuntimeError:  # numba's "no locator available"
        return cast(_F, numba.njit(nogil=True, **options)(function))


def part(function: _F) -> _F:
    """Compile a function that entries call; its code lies in their caches."""
    return cast(_F, numba.njit(nogil=True)(function))


def inlined(function: _F) -> _F:
    """Compile inline into each function that calls it: for what is called for each byte."""
    return cast(_F, numba.njit(nogil=True, inline="always")(function))


def lean_entry(function: _F) -> _F:
    """Compile an entry that allocates no arrays, nor do its lean parts; Numba refuses one that does."""
    return _entry(function, _LEAN)


def lean_part(function: _F) -> _F:
    """Compile a function that lean entries call; its code lies in their caches."""
    return cast(_F, numba.njit(nogil=True, **_LEAN)(function))


def first_call(call: Callable[[], _T], *, entries: int) -> _T:
    """Return the result of a first call, which compiles `entries` functions or loads them from their cache.

    If a cache can't be written (a full disk), numba raises but has compiled the entry. So the call works when repeated,
    once for each entry, and only the next start compiles again.
    """
    for _ in range(entries):
        with contextlib.suppress(OSError):
            return call()
    return call()
