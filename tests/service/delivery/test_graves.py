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
