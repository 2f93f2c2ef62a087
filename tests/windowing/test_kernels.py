"""The compiled loops check nothing themselves: what they rely on is checked here, in processes of their own."""

from pathlib import Path
from typing import Any

import pytest

from tests.interpreter import python
from tests.windowing.extremes import digest
from windowing import device_table, kernels, tokeniser


def test_no_time_within_2_to_the_62_overflows_or_leaves_an_array() -> None:
    """Interpreted, each sum that overflows is a warning made an error, and each index is checked by NumPy."""
    assert python("-m", "tests.windowing.extremes", NUMBA_DISABLE_JIT="1") == digest()


def test_compiled_with_bounds_checked_and_no_room_for_a_cache_the_kernels_say_the_same(tmp_path: Path) -> None:
    """A full disk lets numba make its cache's folder but write no file; the worker must start all the same."""
    bounds_checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_OPT": "0", "NUMBA_CACHE_DIR": str(tmp_path)}
    output = python("-m", "tests.windowing.extremes", full_disk=True, **bounds_checked)
    assert output == digest()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_on_a_full_disk_texts_are_framed_too(tmp_path: Path) -> None:
    rules = "w.TextRules(tokens='words', html=False, length=2, keep='last')"
    frame = f"import windowing as w; print(w.Framer({rules}, ['a', 'b']).frame(['c b a', '', 'b']).tolist())"
    output = python("-c", frame, full_disk=True, NUMBA_BOUNDSCHECK="1", NUMBA_OPT="0", NUMBA_CACHE_DIR=str(tmp_path))
    assert output == "[[3, 2], [0, 0], [3, 0]]"


def test_where_there_is_no_place_for_a_cache_the_room_can_still_be_entered() -> None:
    """On a read-only image without a home, numba has no place to cache in and refuses a function that asks for it."""
    enter = "import windowing.kernels as k; print(*(type(f).__name__ for f in (k.first_fault, k.merge, k.silence)))"
    output = python(
        "-c", enter, NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator", NUMBA_CACHE_DIR="/dev/null/nowhere"
    )
    assert output == "CPUDispatcher CPUDispatcher CPUDispatcher"


@pytest.mark.parametrize(
    "kernel",
    [
        *(kernels.first_fault, kernels.merge, kernels.silence),
        *(device_table.take_rows, device_table.find_row, device_table.fill_places, device_table.release),
        *(tokeniser.fill_table, tokeniser.fill_frames),
    ],
)
def test_the_kernels_release_the_gil(kernel: Any) -> None:
    assert kernel.targetoptions["nogil"] is True
