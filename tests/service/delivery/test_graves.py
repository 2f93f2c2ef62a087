"""Who is buried, how far the rewind point is held back for those who find no room, and who is given up."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.delivery import graves as module
from service.delivery.graves import MOST, REMEMBERED, Graves, name_of


def ids(count: int, start: int = 0) -> list[bytes]:
    return [b"device-%d" % number for number in range(start, start + count)]


def numbers(*device_ids: bytes) -> NDArray[np.uint64]:
    return np.array([int.from_bytes(name_of(device_id), "big") for device_id in device_ids], np.uint64)


def bury(graves: Graves, device_ids: list[bytes], newest: int, last: int, *, strayed: bool) -> None:
    count = len(device_ids)
    graves.bury(device_ids, numbers(*device_ids).tolist(), [newest] * count, [last] * count, [strayed] * count)


def names(device_ids: list[bytes]) -> set[bytes]:
    return set(map(name_of, device_ids))


def test_a_device_that_fell_silent_is_buried_until_the_rewind_point_has_passed_its_last_record() -> None:
    graves = Graves()
    bury(graves, [b"phone"], 10, 30, strayed=False)
    assert graves.hold(30) == 30
    assert graves.buried() == {name_of(b"phone"): 30}
    assert graves.hold(31) == 31
    assert graves.buried() == {}


def test_a_successor_passes_on_whom_it_was_told_of() -> None:
    graves = Graves({name_of(b"phone"): 30})
    assert graves.last_record(b"phone") == 30
    assert graves.last_record(b"other") == -1
    graves.hold(20)
    assert graves.buried() == {name_of(b"phone"): 30}


def test_where_there_is_no_room_those_that_neither_strayed_nor_came_back_go_first() -> None:
    graves = Graves()
    bury(graves, ids(MOST), 10, 30, strayed=False)
    graves.came_back(numbers(b"device-5"))
    bury(graves, ids(MOST - 1, start=MOST), 20, 30, strayed=True)
    assert graves.hold(25) == 25
    assert graves.buried().keys() == names([b"device-5", *ids(MOST - 1, start=MOST)])


def test_one_that_strayed_and_finds_no_room_holds_the_rewind_point_at_its_newest_reading() -> None:
    graves = Graves()
    bury(graves, ids(MOST), 5, 100, strayed=True)
    bury(graves, [b"last"], 10, 30, strayed=True)
    assert graves.hold(20) == 10
    assert graves.hold(31) == 31
    assert graves.unburied() == 0


def test_where_one_is_held_for_another_one_may_be_seen_in_part_who_then_needs_a_place() -> None:
    graves = Graves()
    bury(graves, ids(MOST - 1), 5, 100, strayed=True)
    bury(graves, [b"a"], 10, 25, strayed=True)
    bury(graves, [b"b", b"c"], 20, 40, strayed=True)
    assert graves.hold(30) == 20
    assert name_of(b"a") in graves.buried()


def test_a_chain_of_devices_each_seen_in_part_where_the_next_one_begins_does_not_hold_back_for_ever() -> None:
    """With 128 more than overlapped all the time the rewind point stood still, and the graves grew without bound.

    Each one's last record lay after the point that was held for the next one, so none was ever passed.
    """
    graves = Graves()
    given_up = 0
    for second in range(450, 3000):  # two a second, whose late reading comes 450 seconds after their newest
        bury(graves, ids(2, start=2 * second), second - 450, second, strayed=True)
        held = graves.hold(max(0, second - 500))
        assert second - held <= 1000
        assert len(graves) <= 2 * 1000
        given_up += graves.unburied()
        in_part = {grave.name for grave in graves._graves if grave.newest < held}
        assert graves.buried().keys() >= in_part
    assert 0 < given_up < 0.5 * 2 * 2550


def test_a_crowd_that_strays_at_once_finds_room_or_is_seen_whole() -> None:
    graves = Graves()
    bury(graves, ids(10 * MOST), 100, 110, strayed=True)
    assert [graves.hold(moment) for moment in (99, 100, 101, 110, 111)] == [99, 100, 100, 100, 111]
    assert graves.unburied() == 0
    assert len(graves) == 0


def test_of_those_that_find_no_room_anywhere_the_one_that_would_need_it_longest_is_given_up_and_counted() -> None:
    graves = Graves({name_of(b"told of"): 500})
    bury(graves, ids(MOST - 2), 10, 200, strayed=True)
    bury(graves, [b"a", b"b"], 30, 60, strayed=True)
    bury(graves, [b"short"], 50, 90, strayed=True)
    bury(graves, [b"long"], 50, 100, strayed=True)
    assert graves.hold(55) == 30
    assert graves.unburied() == 0
    assert graves.hold(70) == 70  # not 50, for a and b would be seen in part from there
    assert graves.unburied() == 1
    assert graves.unburied() == 0
    assert graves.buried().keys() == names([b"told of", *ids(MOST - 2), b"short"])


def test_one_that_strayed_and_falls_silent_again_has_strayed() -> None:
    """A replay may see both of its lives: without room it was taken for one that its remembered labels do for."""
    graves = Graves()
    bury(graves, [b"phone"], 10, 20, strayed=True)
    graves.came_back(numbers(b"phone"))
    bury(graves, [b"phone"], 30, 40, strayed=False)
    bury(graves, ids(MOST), 5, 100, strayed=True)
    assert graves.hold(15) == 10


def test_one_that_falls_silent_again_and_again_holds_back_for_each_of_its_silences_alone() -> None:
    graves = Graves()
    for second in range(0, 1000, 10):
        bury(graves, [b"phone"], second, second + 5, strayed=True)
    bury(graves, ids(MOST), 0, 2000, strayed=True)
    assert [graves.hold(moment) for moment in (3, 8, 993, 996)] == [0, 8, 990, 996]


def test_one_that_came_back_does_not_put_out_one_that_strayed() -> None:
    """The rewind point has passed what that one held, and would go back to where nothing is remembered any more."""
    graves = Graves()
    bury(graves, [b"steady"], 1, 100, strayed=False)
    bury(graves, ids(MOST), 10, 100, strayed=True)
    assert graves.hold(50) == 50
    graves.came_back(numbers(b"steady"))
    assert graves.hold(50) == 50
    assert graves.buried().keys() == names(ids(MOST))


def test_no_more_are_remembered_than_a_snapshot_has_time_for() -> None:
    graves = Graves()
    bury(graves, ids(REMEMBERED + 7), 10, 30, strayed=True)
    bury(graves, ids(MOST + 7), 10, 30, strayed=False)
    assert graves.unburied() == 7
    assert len(graves) == REMEMBERED + MOST


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
    told=st.dictionaries(st.integers(31, 33).map(lambda device: b"%d" % device), st.integers(0, 12), max_size=2),
)
def test_the_rewind_point_never_goes_back_nor_far_and_all_it_leaves_between_are_buried_or_counted(
    seconds: list[list[Silence | Return]], told: dict[bytes, int]
) -> None:
    """A record a second; what is open is as old as a device takes to fall silent."""
    graves, held, given_up = Graves({name_of(device): last for device, last in told.items()}), 0, 0
    buried_so_far: list[tuple[bytes, int, int]] = []
    for now, events in enumerate(seconds):
        for event in events:
            device_id = b"%d" % event.device
            if isinstance(event, Return):
                graves.came_back(numbers(device_id))
            elif now >= 2 * IDLE:
                newest = now - event.span
                bury(graves, [device_id], newest, now, strayed=event.strayed)
                buried_so_far += [(name_of(device_id), newest, now)] if event.strayed else []
        before, held = held, graves.hold(max(0, now - IDLE))
        assert held >= before
        assert now - held <= 2 * IDLE
        given_up += graves.unburied()
        buried = graves.buried()
        assert len(buried) <= 2
        assert len(graves) <= 12 + 2 + len(told)
        missed = [name for name, newest, last in buried_so_far if newest < held <= last and buried.get(name, -1) < last]
        assert len(missed) <= given_up
        if given_up == 0:
            assert all(buried[name_of(device)] >= last for device, last in told.items() if last >= held)
