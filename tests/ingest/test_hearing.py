import math

from kafka.structs import TopicPartition

from ingest.hearing import Hearing

FIRST, SECOND = TopicPartition("accelerometer", 0), TopicPartition("accelerometer", 1)


def test_nothing_has_been_heard_before_the_first_response() -> None:
    assert Hearing().heard_until(FIRST, 0) == -math.inf


def test_a_partition_is_heard_up_to_the_sending_of_the_latest_fetch_whose_high_watermark_is_processed() -> None:
    hearing = Hearing()
    hearing.note_response([FIRST], 1.0, {FIRST: 10})
    hearing.note_response([FIRST], 2.0, {FIRST: 20})
    assert hearing.heard_until(FIRST, 9) == -math.inf
    assert hearing.heard_until(FIRST, 10) == 1.0
    assert hearing.heard_until(FIRST, 19) == 1.0
    assert hearing.heard_until(FIRST, 20) == 2.0


def test_time_stands_still_while_the_worker_catches_up_and_moves_on_when_it_has() -> None:
    hearing = Hearing()
    for second in range(100):
        hearing.note_response([FIRST], float(second), {FIRST: 1000 + second})
    assert hearing.heard_until(FIRST, 999) == -math.inf
    assert hearing.heard_until(FIRST, 1050) == 50.0
    assert hearing.heard_until(FIRST, 1099) == 99.0


def test_a_partition_absent_from_an_incremental_response_keeps_its_high_watermark() -> None:
    """KIP-227: a fetch session's response leaves out partitions for which nothing changed."""
    hearing = Hearing()
    hearing.note_response([FIRST, SECOND], 1.0, {FIRST: 10, SECOND: 5})
    hearing.note_response([FIRST, SECOND], 2.0, {FIRST: 11})
    assert hearing.heard_until(SECOND, 5) == 2.0
    assert hearing.heard_until(FIRST, 10) == 1.0


def test_an_error_response_tells_nothing() -> None:
    hearing = Hearing()
    hearing.note_response([FIRST], 1.0, {FIRST: -1})
    assert hearing.heard_until(FIRST, 100) == -math.inf


def test_the_last_answer_is_the_latest_whatever_it_tells_and_outlives_its_partition() -> None:
    hearing = Hearing()
    assert hearing.last_answer is None
    hearing.note_response([FIRST], 1.0, {FIRST: 10})
    hearing.note_response([SECOND], 2.0, {})
    hearing.forget([FIRST, SECOND])
    assert hearing.last_answer == 2.0


def test_a_partition_that_has_gone_is_forgotten() -> None:
    hearing = Hearing()
    hearing.note_response([FIRST], 1.0, {FIRST: 0})
    assert hearing.heard_until(FIRST, 0) == 1.0
    hearing.forget([FIRST])
    assert hearing.heard_until(FIRST, 0) == -math.inf
    assert hearing.high_watermark(FIRST) is None


def test_the_latest_of_many_fetches_with_one_high_watermark_counts() -> None:
    hearing = Hearing()
    for second in range(10_000):
        hearing.note_response([FIRST], float(second), {FIRST: 10})
    hearing.note_response([FIRST], 10_000.0, {FIRST: 11})
    assert hearing.heard_until(FIRST, 10) == 9_999.0
