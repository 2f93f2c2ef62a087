from service.ledger import Ledger, Point


def test_a_snapshot_without_outputs_may_be_committed_at_once() -> None:
    ledger = Ledger()
    ledger.seal(Point(10, 7))
    assert ledger.committable() == Point(10, 7)


def test_an_unacknowledged_output_delays_the_snapshot_taken_after_it_and_all_later_ones() -> None:
    ledger = Ledger()
    segment = ledger.promise(2)
    ledger.seal(Point(10, 7))
    ledger.seal(Point(20, 12))
    assert ledger.committable() is None
    segment.owed -= 1
    assert ledger.committable() is None
    segment.owed -= 1
    assert ledger.committable() == Point(20, 12)


def test_an_output_promised_after_a_snapshot_does_not_delay_it() -> None:
    ledger = Ledger()
    ledger.seal(Point(10, 10))
    ledger.promise(1)
    ledger.seal(Point(20, 10))
    assert ledger.committable() == Point(10, 10)
    assert ledger.owed == 1


def test_a_snapshot_after_nothing_new_takes_the_place_of_the_one_before() -> None:
    """While Kafka acknowledges nothing, a snapshot a second must not fill the memory."""
    ledger = Ledger()
    segment = ledger.promise(1)
    for position in range(10, 1000):
        ledger.seal(Point(position, 7))
    assert len(ledger) == 1
    assert ledger.committable() is None
    segment.owed -= 1
    assert ledger.committable() == Point(999, 7)


def test_what_is_committed_already_is_not_committed_again() -> None:
    ledger = Ledger()
    ledger.committed = Point(10, 10)
    ledger.seal(Point(10, 10))
    assert ledger.committable() is None
    ledger.seal(Point(11, 10))
    assert ledger.committable() == Point(11, 10)


def test_a_commit_that_failed_is_offered_again_with_the_next_snapshot() -> None:
    ledger = Ledger()
    ledger.seal(Point(10, 10))
    assert ledger.committable() == Point(10, 10)
    ledger.seal(Point(10, 10))
    assert ledger.committable() == Point(10, 10)
