from service.delivery.ledger import Ledger, Point
from service.delivery.letter import Letter


def point(position: int, rewind_to: int | None = None) -> Point:
    return Point(position, position if rewind_to is None else rewind_to, labels_from=0)


def letter(value: bytes = b"bad") -> Letter:
    return Letter("dead", b"", value, [])


def test_a_snapshot_without_outputs_may_be_committed_at_once() -> None:
    ledger = Ledger()
    ledger.seal(point(10, 7))
    assert ledger.committable() == point(10, 7)


def test_an_unacknowledged_output_delays_the_snapshot_taken_after_it_and_all_later_ones() -> None:
    ledger = Ledger()
    segment = ledger.promise(2)
    ledger.seal(point(10, 7))
    ledger.seal(point(20, 12))
    assert ledger.committable() is None
    ledger.acknowledge(segment)
    assert ledger.committable() is None
    ledger.acknowledge(segment)
    assert ledger.committable() == point(20, 12)


def test_an_output_promised_after_a_snapshot_does_not_delay_it() -> None:
    ledger = Ledger()
    ledger.seal(point(10))
    ledger.promise(1)
    ledger.seal(point(20, 10))
    assert ledger.committable() == point(10)
    assert ledger.owed == 1


def test_a_snapshot_after_nothing_new_takes_the_place_of_the_one_before() -> None:
    """While Kafka acknowledges nothing, a snapshot a second must not fill the memory."""
    ledger = Ledger()
    segment = ledger.promise(1)
    for position in range(10, 1000):
        ledger.seal(point(position, 7))
    assert len(ledger) == 1
    assert ledger.committable() is None
    ledger.acknowledge(segment)
    assert ledger.committable() == point(999, 7)


def test_what_is_committed_already_is_not_committed_again() -> None:
    ledger = Ledger()
    ledger.seal(point(10))
    ledger.commit(point(10))
    ledger.seal(point(10))
    assert ledger.committable() is None
    ledger.seal(point(11, 10))
    assert ledger.committable() == point(11, 10)
    assert ledger.committed == point(10)


def test_a_snapshot_is_offered_until_it_has_been_committed() -> None:
    ledger = Ledger()
    ledger.seal(point(10))
    assert ledger.committable() == point(10)
    assert ledger.committable() == point(10)
    ledger.commit(point(10))
    assert ledger.committable() is None
    assert ledger.settled


def test_a_snapshot_taken_at_the_same_position_after_a_silence_outlives_the_commit_of_the_one_before() -> None:
    ledger = Ledger()
    ledger.seal(point(10, 5))
    segment = ledger.promise(1)  # what the silence closed
    ledger.seal(point(10, 10))
    ledger.commit(point(10, 5))
    assert ledger.committable() is None
    ledger.acknowledge(segment)
    assert ledger.committable() == point(10, 10)


def test_two_snapshots_at_one_position_are_both_settled_by_the_commit_of_the_later() -> None:
    """The earlier one would have waited for a commit that nobody makes, and a worker that stops for its whole grace."""
    ledger = Ledger()
    first = ledger.promise(1)
    ledger.seal(point(10, 4))
    second = ledger.promise(1)
    ledger.seal(point(10, 10))
    ledger.acknowledge(first)
    ledger.acknowledge(second)
    assert ledger.committable() == point(10, 10)
    ledger.commit(point(10, 10))
    assert ledger.settled


def test_an_abort_takes_back_acknowledgements_also_for_snapshots_taken_since() -> None:
    ledger = Ledger()
    segment = ledger.promise(1)
    ledger.seal(point(10))
    ledger.acknowledge(segment)
    ledger.seal(point(20))  # stands in the place of the first, and waits for the same label
    ledger.acknowledge(segment, -1)
    assert ledger.committable() is None
    assert not ledger.settled
    ledger.acknowledge(segment)
    assert ledger.committable() == point(20)


def test_letters_that_are_kept_back_go_with_the_position_after_them_and_not_before() -> None:
    ledger = Ledger()
    first, second = letter(), letter()
    ledger.keep_back([first])
    ledger.seal(point(10))
    segment = ledger.promise(1)
    ledger.keep_back([second])
    ledger.seal(point(20))
    assert ledger.due() == (point(10), [first])
    ledger.acknowledge(segment)
    assert ledger.due() == (point(20), [first, second])
    ledger.drop_letters([first, second])
    ledger.commit(point(20))
    assert (ledger.letter_bytes, ledger.settled) == (0, True)


def test_letters_that_have_been_sent_are_not_sent_again_when_their_segment_has_a_newer_snapshot() -> None:
    ledger = Ledger()
    sent = letter()
    ledger.keep_back([sent])
    ledger.seal(point(10))
    ledger.seal(point(20))  # takes the first one's place while that is on its way
    ledger.drop_letters([sent])
    ledger.commit(point(10))
    assert ledger.due() == (point(20), [])


def test_letters_go_with_the_snapshot_that_they_were_asked_for_with() -> None:
    """Asked for by the snapshot's position, they were not found when another had taken its place meanwhile.

    The position was committed without them, and a worker killed before the next transaction lost them.
    """
    ledger = Ledger()
    kept = letter()
    ledger.keep_back([kept])
    ledger.seal(point(10))
    assert ledger.due() == (point(10), [kept])
    ledger.seal(point(20))
    assert ledger.due() == (point(20), [kept])
