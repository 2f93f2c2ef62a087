"""The table of devices, beside a dictionary, and its hash beside Python's own."""

import os
import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.windowing.streams import spell
from windowing import device_table
from windowing.device_table import (
    FREE,
    KEY,
    Table,
    are_absent,
    find_row,
    keep_absent,
    new_table,
    release,
    siphash,
    take_rows,
)
from windowing.grid import phase


def test_the_hash_is_that_of_python_under_the_same_key() -> None:
    """With PYTHONHASHSEED=0 Python hashes bytes by SipHash-1-3 under a key of zeros."""
    content = [os.urandom(size) for size in range(1, 129)]
    ask = f"import sys; print(sys.hash_info.algorithm, *(hash(each) % 2**64 for each in {content!r}))"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    algorithm, *hashes = done.stdout.split()
    assert algorithm == "siphash13"
    key = np.zeros(2, np.uint64)
    assert [siphash(key, np.frombuffer(each, np.uint8), 0, len(each)) for each in content] == list(map(int, hashes))


class Devices:
    """A table and its free rows, as a windower keeps them."""

    def __init__(self, rows: int) -> None:
        self.table = new_table(rows)
        self.free = np.arange(rows - 1, -1, -1)
        self.left = rows
        self.phase = np.zeros(rows, np.int64)

    def take(self, ids: list[bytes]) -> tuple[int, list[int]]:
        rows = np.full(len(ids), -7)
        reached, self.left, _ = take_rows(self.table, KEY, *spell(ids), 0, self.free, self.left, self.phase, rows)
        return reached, rows[:reached].tolist()

    def release(self, rows: list[int]) -> None:
        release(self.table, np.array(rows, np.int64))
        self.free[self.left : self.left + len(rows)] = rows
        self.left += len(rows)


def row_of(table: Table, device_id: bytes) -> int:
    return find_row(table, KEY, np.frombuffer(device_id, np.uint8))


ids = st.one_of(st.integers(0, 25).map(lambda n: b"%d" % n), st.binary(max_size=128))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.lists(ids, max_size=12), st.lists(ids, max_size=12)), max_size=8))
def test_devices_come_and_go_as_in_a_dictionary(turns: list[tuple[list[bytes], list[bytes]]]) -> None:
    devices, expected = Devices(128), dict[bytes, int]()
    for coming, going in turns:
        reached, rows = devices.take(coming)
        assert reached == len(coming)
        for device_id, row in zip(coming, rows, strict=True):
            assert expected.setdefault(device_id, row) == row
            assert devices.phase[row] == phase(device_id)
            size = devices.table.size[row]
            assert devices.table.id[row].tobytes() == device_id.ljust(128, b"\0")
            assert size == len(device_id)
        assert len(set(expected.values())) == len(expected)
        leaving = [device_id for device_id in dict.fromkeys(going) if device_id in expected]
        devices.release([expected.pop(device_id) for device_id in leaving])
        assert devices.left == 128 - len(expected)
        for device_id in [*expected, *going, *coming]:
            assert row_of(devices.table, device_id) == expected.get(device_id, FREE)
        absent = are_absent(devices.table, KEY, *spell([*going, *coming]))
        assert absent.tolist() == [device_id not in expected for device_id in [*going, *coming]]


@given(st.lists(ids, max_size=30, unique=True), st.lists(ids, max_size=30, unique=True))
def test_of_some_rows_those_stay_whose_devices_another_table_has_not(here: list[bytes], there: list[bytes]) -> None:
    devices, other = Devices(64), Devices(64)
    _, rows = devices.take(here)
    other.take(there)
    some = np.array(rows[1:], np.int64)
    absent = keep_absent(devices.table, some, other.table)
    expected = [row for row, device_id in list(zip(rows, here, strict=True))[1:] if device_id not in there]
    assert some[:absent].tolist() == expected


def test_a_full_table_says_where_to_go_on_and_keeps_its_devices_when_it_grows() -> None:
    devices = Devices(4)
    assert devices.take([b"a", b"b", b"a", b"c", b"d", b"a", b"e", b"a"]) == (6, [0, 1, 0, 2, 3, 0])
    larger = device_table.doubled(devices.table)
    assert [row_of(larger, each) for each in (b"a", b"b", b"c", b"d", b"e")] == [0, 1, 2, 3, FREE]


def test_devices_that_meet_in_one_place_are_told_apart_and_close_the_gap_when_one_goes() -> None:
    devices = Devices(64)
    everyone = [b"%d" % n for n in range(64)]
    _, rows = devices.take(everyone)
    devices.table.hash[:] = 120  # all of them want the same place, near the end, and the table is a ring
    devices.table.place[:] = 0
    device_table.fill_places(devices.table)
    taken = np.flatnonzero(devices.table.place)
    assert sorted(taken.tolist()) == [*range(56), *range(120, 128)]
    devices.release(rows[::3])
    left = np.flatnonzero(devices.table.place)
    assert sorted(left.tolist()) == [*range(34), *range(120, 128)]
    assert sorted((devices.table.place[left] - 1).tolist()) == sorted(set(rows) - set(rows[::3]))
