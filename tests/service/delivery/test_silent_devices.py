"""Which devices a replay skips, how far the rewind point is held back for want of room, and who finds none."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.delivery import silent_devices as module
from service.delivery.silent_devices import MOST, REMEMBERED, SilentDevices, name_of


def ids(count: int, start: int = 0) -> list[bytes]:
    return [b"device-%d" % number for number in range(start, start + count)]


def numbers(*device_ids: bytes) -> NDArray[np.uint64]:
    return np.array([int.from_bytes(name_of(device_id), "big") for device_id in device_ids], np.uint64)


def add(silent: SilentDevices, device_ids: list[bytes], newest: int, last: int, *, strayed: bool) -> None:
    count = len(device_ids)
    silent.add(device_ids, numbers(*device_ids).tolist(), [newest] * count, [last] * count, [strayed] * count)


def names(device_ids: list[bytes]) -> set[bytes]:
    return set(map(name_of, device_ids))


def test_a_device_that_fell_silent_is_skipped_until_the_rewind_point_has_passed_its_last_record() -> None:
    silent = SilentDevices()
    add(silent, [b"phone"], 10, 30, strayed=False)
    assert silent.hold(30) == 30
    assert silent.skip_until() == {name_of(b"phone"): 30}
    assert silent.hold(31) == 31
    assert silent.skip_until() == {}


def test_a_successor_commits_the_tombstones_it_found() -> None:
    silent = SilentDevices({name_of(b"phone"): 30})
    assert silent.last_record(b"phone") == 30
    assert silent.last_record(b"other") == -1
    silent.hold(20)
    assert silent.skip_until() == {name_of(b"phone"): 30}


def test_where_there_is_no_room_those_that_neither_strayed_nor_came_back_go_first() -> None:
    silent = SilentDevices()
    add(silent, ids(MOST), 10, 30, strayed=False)
    silent.came_back(numbers(b"device-5"))
    add(silent, ids(MOST - 1, start=MOST), 20, 30, strayed=True)
    assert silent.hold(25) == 25
    assert silent.skip_until().keys() == names([b"device-5", *ids(MOST - 1, start=MOST)])


def test_one_that_strayed_and_finds_no_room_holds_the_rewind_point_at_its_newest_reading() -> None:
    silent = SilentDevices()
    add(silent, ids(MOST), 5, 100, strayed=True)
    add(silent, [b"last"], 10, 30, strayed=True)
    assert silent.hold(20) == 10
    assert silent.hold(31) == 31
    assert silent.overflow() == 0


def test_where_one_is_held_for_another_one_may_be_seen_in_part_who_then_needs_a_place() -> None:
    silent = SilentDevices()
    add(silent, ids(MOST - 1), 5, 100, strayed=True)
    add(silent, [b"a"], 10, 25, strayed=True)
    add(silent, [b"b", b"c"], 20, 40, strayed=True)
    assert silent.hold(30) == 20
    assert name_of(b"a") in silent.skip_until()


def test_a_chain_of_devices_each_seen_in_part_where_the_next_one_begins_does_not_hold_back_for_ever() -> None:
    """With 128 more than overlapped all the time the rewind point stood still, and memory grew without bound.

    Each one's last record lay after the point that was held for the next one, so none was ever passed.
    """
    silent = SilentDevices()
    overflow = 0
    for second in range(450, 3000):  # two a second, whose late reading comes 450 seconds after their newest
        add(silent, ids(2, start=2 * second), second - 450, second, strayed=True)
        held = silent.hold(max(0, second - 500))
        assert second - held <= 1000
        assert len(silent) <= 2 * 1000
        overflow += silent.overflow()
        in_part = {silence.name for silence in silent._silences if silence.newest < held}
        assert silent.skip_until().keys() >= in_part
    assert 0 < overflow < 0.5 * 2 * 2550


def test_many_devices_that_stray_at_once_find_room_or_are_seen_whole() -> None:
    silent = SilentDevices()
    add(silent, ids(10 * MOST), 100, 110, strayed=True)
    assert [silent.hold(moment) for moment in (99, 100, 101, 110, 111)] == [99, 100, 100, 100, 111]
    assert silent.overflow() == 0
    assert len(silent) == 0


def test_of_those_that_find_no_room_anywhere_the_one_that_would_need_it_longest_is_given_up_and_counted() -> None:
    silent = SilentDevices({name_of(b"restored"): 500})
    add(silent, ids(MOST - 2), 10, 200, strayed=True)
    add(silent, [b"a", b"b"], 30, 60, strayed=True)
    add(silent, [b"short"], 50, 90, strayed=True)
    add(silent, [b"long"], 50, 100, strayed=True)
    assert silent.hold(55) == 30
    assert silent.overflow() == 0
    assert silent.hold(70) == 70  # not 50, for a and b would be seen in part from there
    assert silent.overflow() == 1
    assert silent.overflow() == 0
    assert silent.skip_until().keys() == names([b"restored", *ids(MOST - 2), b"short"])


def test_one_that_strayed_and_falls_silent_again_has_strayed() -> None:
    """A replay may see both of its lives: without room it was taken for one that its remembered labels do for."""
    silent = SilentDevices()
    add(silent, [b"phone"], 10, 20, strayed=True)
    silent.came_back(numbers(b"phone"))
    add(silent, [b"phone"], 30, 40, strayed=False)
    add(silent, ids(MOST), 5, 100, strayed=True)
    assert silent.hold(15) == 10


def test_one_that_falls_silent_again_and_again_holds_back_for_each_of_its_silences_alone() -> None:
    silent = SilentDevices()
    for second in range(0, 1000, 10):
        add(silent, [b"phone"], second, second + 5, strayed=True)
    add(silent, ids(MOST), 0, 2000, strayed=True)
    assert [silent.hold(moment) for moment in (3, 8, 993, 996)] == [0, 8, 990, 996]


def test_one_that_came_back_does_not_put_out_one_that_strayed() -> None:
    """The rewind point has passed what that one held, and would go back to where nothing is remembered any more."""
    silent = SilentDevices()
    add(silent, [b"steady"], 1, 100, strayed=False)
    add(silent, ids(MOST), 10, 100, strayed=True)
    assert silent.hold(50) == 50
    silent.came_back(numbers(b"steady"))
    assert silent.hold(50) == 50
    assert silent.skip_until().keys() == names(ids(MOST))


def test_no_more_are_remembered_than_a_snapshot_has_time_for() -> None:
    silent = SilentDevices()
    add(silent, ids(REMEMBERED + 7), 10, 30, strayed=True)
    add(silent, ids(MOST + 7), 10, 30, strayed=False)
    assert silent.overflow() == 7
    assert len(silent) == REMEMBERED + MOST


@pytest.fixture(scope="module")
def _little_room() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST", 2)
        patch.setattr(module, "REMEMBERED", 12)
        yield


class Silence(NamedTuple):
    """A device falls silent, whose newest reading lies so far behind its last record."""

    device: int
    span: int
    strayed: bool


class Return(NamedTuple):
    device: int


silences = st.builds(Silence, st.integers(0, 30), st.integers(0, 9), st.sampled_from([True, True, True, False]))
IDLE = 10


@pytest.mark.usefixtures("_little_room")
@given(
    seconds=st.lists(
        st.lists(st.one_of(silences, silences, silences, st.builds(Return, st.integers(0, 30))), max_size=3),
        max_size=60,
    ),
    restored=st.dictionaries(st.integers(31, 33).map(lambda device: b"%d" % device), st.integers(0, 12), max_size=2),
)
def test_the_rewind_point_never_goes_back_nor_far_and_all_it_leaves_between_is_skipped_or_counted(
    seconds: list[list[Silence | Return]], restored: dict[bytes, int]
) -> None:
    """A record a second; what is open is as old as a device takes to fall silent."""
    silent, held, overflow = SilentDevices({name_of(device): last for device, last in restored.items()}), 0, 0
    added_so_far: list[tuple[bytes, int, int]] = []
    for now, events in enumerate(seconds):
        for event in events:
            device_id = b"%d" % event.device
            if isinstance(event, Return):
                silent.came_back(numbers(device_id))
            elif now >= 2 * IDLE:
                newest = now - event.span
                add(silent, [device_id], newest, now, strayed=event.strayed)
                added_so_far += [(name_of(device_id), newest, now)] if event.strayed else []
        before, held = held, silent.hold(max(0, now - IDLE))
        assert held >= before
        assert now - held <= 2 * IDLE
        overflow += silent.overflow()
        skip_until = silent.skip_until()
        assert len(skip_until) <= 2
        assert len(silent) <= 12 + 2 + len(restored)
        missed = [
            name for name, newest, last in added_so_far if newest < held <= last and skip_until.get(name, -1) < last
        ]
        assert len(missed) <= overflow
        if overflow == 0:
            assert all(skip_until[name_of(device)] >= last for device, last in restored.items() if last >= held)
