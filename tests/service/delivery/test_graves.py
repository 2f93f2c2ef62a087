from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.delivery import graves as module
from service.delivery.graves import MOST, Graves, key_of


def ids(count: int, start: int = 0) -> list[bytes]:
    return [b"device-%d" % number for number in range(start, start + count)]


def test_a_device_that_fell_silent_is_buried_until_the_rewind_point_has_passed_its_last_record() -> None:
    graves = Graves()
    graves.bury([b"phone"], [10], [30], [False])
    assert graves.hold(30) == 30
    assert graves.buried() == {key_of(b"phone"): 30}
    assert graves.hold(31) == 31
    assert graves.buried() == {}


def test_a_successor_passes_on_whom_it_was_told_of() -> None:
    graves = Graves({key_of(b"phone"): 30})
    assert graves.last_record(b"phone") == 30
    assert graves.last_record(b"other") == -1
    graves.hold(20)
    assert graves.buried() == {key_of(b"phone"): 30}


def test_where_there_is_no_room_those_that_neither_strayed_nor_came_back_go_first() -> None:
    graves = Graves()
    graves.bury(ids(MOST), [10] * MOST, [30] * MOST, [False] * MOST)
    graves.came_back([b"device-5"])
    graves.bury(ids(MOST - 1, start=MOST), [20] * (MOST - 1), [30] * (MOST - 1), [True] * (MOST - 1))
    assert set(graves.buried()) == {key_of(device) for device in [b"device-5", *ids(MOST - 1, start=MOST)]}
    assert graves.hold(25) == 25


def test_one_that_strayed_and_finds_no_room_holds_the_rewind_point_at_what_it_held() -> None:
    graves = Graves()
    graves.bury(ids(MOST), [5] * MOST, [100] * MOST, [True] * MOST)
    graves.bury([b"last"], [10], [30], [True])
    assert graves.hold(20) == 10
    assert graves.hold(31) == 31


def test_holding_for_one_may_have_to_hold_for_another() -> None:
    graves = Graves()
    graves.bury(ids(MOST), [1] * MOST, [100] * MOST, [True] * MOST)
    graves.bury([b"a", b"b"], [10, 20], [25, 40], [True, True])
    assert graves.hold(30) == 10  # for b from 20, where a would be seen in part


def test_one_that_strayed_and_falls_silent_again_has_strayed() -> None:
    """A replay may see both of its lives: without room it was taken for one that its remembered labels do for."""
    graves = Graves()
    graves.bury([b"phone"], [10], [20], [True])
    graves.came_back([b"phone"])
    graves.bury([b"phone"], [30], [40], [False])
    graves.bury(ids(MOST), [5] * MOST, [100] * MOST, [True] * MOST)
    assert graves.hold(15) == 10


def test_one_that_came_back_does_not_put_out_one_that_strayed() -> None:
    """The rewind point has passed what that one held, and would go back to where nothing is remembered any more."""
    graves = Graves()
    graves.bury([b"steady"], [1], [100], [False])
    graves.bury(ids(MOST), [10] * MOST, [100] * MOST, [True] * MOST)
    assert graves.hold(50) == 50
    graves.came_back([b"steady"])
    assert graves.hold(50) == 50


@pytest.fixture(scope="module")
def _little_room() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST", 1)
        yield


silences = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9), st.booleans())
returns = st.tuples(st.integers(0, 3))


@pytest.mark.usefixtures("_little_room")
@given(events=st.lists(st.one_of(silences, returns, st.just(())), max_size=30))
def test_the_rewind_point_never_goes_back(events: list[tuple[int, ...]]) -> None:
    """Behind it, neither labels nor graves are remembered."""
    graves, held = Graves(), 0
    for event in events:
        match event:
            case (device, first, more, strayed):  # what was active is at or after the rewind point
                graves.bury([b"%d" % device], [held + first], [held + first + more], [bool(strayed)])
            case (device,):
                graves.came_back([b"%d" % device])
        now = graves.hold(held + 2)
        assert now >= held
        held = now
