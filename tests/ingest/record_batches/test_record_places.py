"""The compiled loop that reads what any client may have written: it must never look outside its bytes."""

from pathlib import Path

from ingest.record_batches import record_places
from tests.ingest.damaged_records import digest
from tests.interpreter import python


def test_interpreted_with_each_index_and_sum_checked_the_loop_says_the_same() -> None:
    assert python("-m", "tests.ingest.damaged_records", NUMBA_DISABLE_JIT="1") == digest()


def test_compiled_with_bounds_checked_and_no_room_for_a_cache_the_loop_says_the_same(tmp_path: Path) -> None:
    """A full disk lets numba make its cache's folder but write no file; the worker must start all the same."""
    bounds_checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_OPT": "0", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert python("-m", "tests.ingest.damaged_records", full_disk=True, **bounds_checked) == digest()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_where_there_is_no_place_for_a_cache_the_loop_is_compiled_all_the_same() -> None:
    output = python(
        "-m",
        "tests.ingest.damaged_records",
        NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator",
        NUMBA_CACHE_DIR="/dev/null/nowhere",
    )
    assert output == digest()


def test_the_loop_releases_the_gil() -> None:
    assert record_places.find_records.targetoptions["nogil"] is True  # type: ignore[attr-defined]
