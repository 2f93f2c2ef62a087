from service.delivery.published import ELSEWHERE, Mark, Published

A, B, C = (b"a", 100), (b"b", 100), (b"c", 100)


def never(identity: object) -> bool:
    return False


def test_the_oldest_label_is_that_of_the_marks_that_are_left() -> None:
    published = Published({A: Mark(7, 50), B: Mark(3, 60), C: Mark(9, 70)})
    assert published.oldest_label(50, never) == 3
    published.forget([B])
    assert published.oldest_label(50, never) == 7
    published.forget([A, C])
    assert published.oldest_label(50, never) is None


def test_a_mark_goes_when_the_rewind_point_has_passed_its_record() -> None:
    published = Published({A: Mark(7, 50), B: Mark(3, 60)})
    assert published.oldest_label(60, never) == 3
    assert A not in published
    assert B in published
    assert published.oldest_label(61, never) is None


def test_a_mark_stays_for_as_long_as_its_window_is_open() -> None:
    published = Published({A: Mark(7, 50)})
    assert published.oldest_label(90, lambda identity: identity == A) == 7
    assert published.oldest_label(91, lambda identity: identity == A) == 7
    assert published.oldest_label(92, never) is None


def test_a_window_that_closes_by_silence_is_remembered_until_its_devices_last_record_is_passed() -> None:
    published = Published()
    published.remember([A], label=40, records=[80])
    assert published.oldest_label(80, never) == 40
    assert published.oldest_label(81, never) is None


def test_a_reread_window_that_closes_by_silence_keeps_the_place_of_its_label() -> None:
    published = Published({A: Mark(7, 50)})
    published.remember([A], label=40, records=[80])
    assert published.oldest_label(80, never) == 7
    assert published.oldest_label(81, never) is None


def test_a_label_in_another_partition_of_the_output_is_older_than_all() -> None:
    published = Published({A: Mark(0, 50), B: Mark(ELSEWHERE, 50)})
    assert published.oldest_label(0, never) == ELSEWHERE
