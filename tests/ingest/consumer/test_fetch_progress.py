import math

from kafka.structs import TopicPartition

from ingest.consumer.fetch_progress import FetchProgress

FIRST, SECOND = TopicPartition("accelerometer", 0), TopicPartition("accelerometer", 1)


def test_nothing_is_caught_up_before_the_first_response() -> None:
    assert FetchProgress().caught_up_at(FIRST, 0) == -math.inf


def test_a_partition_was_caught_up_when_the_latest_fetch_was_sent_whose_high_watermark_is_processed() -> None:
    fetch_progress = FetchProgress()
    fetch_progress.note_response([FIRST], 1.0, {FIRST: 10})
    fetch_progress.note_response([FIRST], 2.0, {FIRST: 20})
    assert fetch_progress.caught_up_at(FIRST, 9) == -math.inf
    assert fetch_progress.caught_up_at(FIRST, 10) == 1.0
    assert fetch_progress.caught_up_at(FIRST, 19) == 1.0
    assert fetch_progress.caught_up_at(FIRST, 20) == 2.0


def test_time_stands_still_while_the_worker_catches_up_and_moves_on_when_it_has() -> None:
    fetch_progress = FetchProgress()
    for second in range(100):
        fetch_progress.note_response([FIRST], float(second), {FIRST: 1000 + second})
    assert fetch_progress.caught_up_at(FIRST, 999) == -math.inf
    assert fetch_progress.caught_up_at(FIRST, 1050) == 50.0
    assert fetch_progress.caught_up_at(FIRST, 1099) == 99.0


def test_a_partition_absent_from_an_incremental_response_keeps_its_high_watermark() -> None:
    """KIP-227: a fetch session's response leaves out partitions for which nothing changed."""
    fetch_progress = FetchProgress()
    fetch_progress.note_response([FIRST, SECOND], 1.0, {FIRST: 10, SECOND: 5})
    fetch_progress.note_response([FIRST, SECOND], 2.0, {FIRST: 11})
    assert fetch_progress.caught_up_at(SECOND, 5) == 2.0
    assert fetch_progress.caught_up_at(FIRST, 10) == 1.0


def test_an_error_response_tells_nothing() -> None:
    fetch_progress = FetchProgress()
    fetch_progress.note_response([FIRST], 1.0, {FIRST: -1})
    assert fetch_progress.caught_up_at(FIRST, 100) == -math.inf


def test_the_last_answer_is_the_latest_whatever_it_tells_and_outlives_its_partition() -> None:
    fetch_progress = FetchProgress()
    assert fetch_progress.last_answer is None
    fetch_progress.note_response([FIRST], 1.0, {FIRST: 10})
    fetch_progress.note_response([SECOND], 2.0, {})
    fetch_progress.forget([FIRST, SECOND])
    assert fetch_progress.last_answer == 2.0


def test_a_partition_that_has_gone_is_forgotten() -> None:
    fetch_progress = FetchProgress()
    fetch_progress.note_response([FIRST], 1.0, {FIRST: 0})
    assert fetch_progress.caught_up_at(FIRST, 0) == 1.0
    fetch_progress.forget([FIRST])
    assert fetch_progress.caught_up_at(FIRST, 0) == -math.inf
    assert fetch_progress.high_watermark(FIRST) is None


def test_the_latest_of_many_fetches_with_one_high_watermark_counts() -> None:
    fetch_progress = FetchProgress()
    for second in range(10_000):
        fetch_progress.note_response([FIRST], float(second), {FIRST: 10})
    fetch_progress.note_response([FIRST], 10_000.0, {FIRST: 11})
    assert fetch_progress.caught_up_at(FIRST, 10) == 9_999.0


def test_expired_records_are_taken_once_and_forgotten_with_their_partition() -> None:
    fetch_progress = FetchProgress()
    fetch_progress.note_expired([FIRST, SECOND])
    assert [fetch_progress.take_expired(FIRST) for _ in range(2)] == [True, False]
    fetch_progress.forget([SECOND])
    assert not fetch_progress.take_expired(SECOND)
