"""The table that says which records had been processed when."""

import math
import random

from windowing.processing_times import ProcessingTimes


def test_records_count_from_the_moment_they_were_processed() -> None:
    ages = ProcessingTimes(60.0)
    ages.record(100, 10.0)
    ages.record(200, 11.0)
    ages.record(300, 12.0)
    assert ages.processed_by(9.9) == 100
    assert ages.processed_by(10.0) == 200
    assert ages.processed_by(11.5) == 300
    assert ages.processed_by(12.0) is None
    assert ages.processed_by(-math.inf) == 100


def test_a_moment_before_the_last_counts_as_the_last() -> None:
    ages = ProcessingTimes(60.0)
    ages.record(100, 10.0)
    ages.record(200, 5.0)
    assert ages.processed_by(9.0) == 100
    assert ages.processed_by(10.0) is None


def test_an_empty_table_says_that_everything_was_processed() -> None:
    assert ProcessingTimes(60.0).processed_by(0.0) is None


def test_what_was_forgotten_stays_processed() -> None:
    ages = ProcessingTimes(60.0)
    for second in range(100):
        ages.record(second, float(second))
    ages.forget_until(49.0)
    assert len(ages) == 50
    assert ages.processed_by(49.0) == 50
    assert ages.processed_by(50.0) == 51


def test_no_record_counts_early_and_none_later_than_a_512th_of_the_horizon() -> None:
    rng = random.Random(7)
    ages = ProcessingTimes(60.0)
    moments, moment = [], 0.0
    for offset in range(20_000):
        moment += rng.expovariate(1000)
        moments.append(moment)
        ages.record(offset, moment)
    for caught_up_at in [rng.uniform(0, moment) for _ in range(500)]:
        bound = ages.processed_by(caught_up_at)
        assert bound is not None
        assert bound == 0 or moments[bound - 1] <= caught_up_at
        assert moments[bound] > caught_up_at - 60 / 512


def test_a_year_without_hearing_anything_takes_a_few_thousand_rows_and_is_known_to_a_512th() -> None:
    ages = ProcessingTimes(60.0)
    year = 365 * 86_400
    for minute in range(0, year // 60, 7):
        ages.record(minute, 60.0 * minute)
    assert len(ages) < 512 * (1 + math.log(year / 60) + 1)
    bound = ages.processed_by(year / 2)
    assert bound is not None
    assert year / 2 - year / 512 <= 60.0 * bound <= year / 2 + 420
