"""The clock of history: what most of a partition's records say, and no single one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.pipeline.log_time import GROUP, LogTime

START_MS = 1_700_000_000_000
UNTIL_S = START_MS / 1000 + 86_400
STEP_S = 15.0

histories = st.lists(
    st.lists(st.integers(-1, 2 * START_MS) | st.integers(START_MS, START_MS + 600_000), min_size=1, max_size=300),
    min_size=1,
    max_size=5,
)


def every(seconds: float, count: int, *, start_ms: int = START_MS) -> np.ndarray:
    return start_ms + (1000 * seconds * np.arange(count)).astype(np.int64)


@given(histories)
def test_pieces_are_the_batches_in_order_and_their_time_never_goes_back_nor_beyond_the_end(
    batches: list[list[int]],
) -> None:
    clock, before = LogTime(STEP_S, UNTIL_S), float("-inf")
    for batch in batches:
        pieces = clock.pieces(np.array(batch, np.int64))
        stops = [piece.stop for piece in pieces]
        assert stops == sorted(set(stops))
        assert stops[0] > 0
        assert stops[-1] == len(batch)
        times = [before, *(piece.at for piece in pieces)]
        assert times == sorted(times)
        assert times[-1] <= UNTIL_S
        before = times[-1]


def test_dense_batches_stay_whole_and_sparse_ones_are_cut_where_time_has_passed() -> None:
    assert len(LogTime(STEP_S, UNTIL_S).pieces(every(0.001, 10_000))) <= 2
    pieces = LogTime(STEP_S, UNTIL_S).pieces(every(0.1, 10_000))  # a thousand seconds
    assert len(pieces) == pytest.approx(1000 / STEP_S, abs=2)
    assert np.diff([piece.at for piece in pieces]).max() < 2 * STEP_S


@pytest.mark.parametrize("wrong", [0, -1, START_MS + 10 * 86_400_000])
def test_a_producer_whose_clock_is_wrong_does_not_move_it(wrong: int) -> None:
    right = every(0.1, 10 * GROUP)
    some_wrong = right.copy()
    some_wrong[::3] = wrong
    spoiled = LogTime(STEP_S, UNTIL_S).pieces(some_wrong)
    whole = LogTime(STEP_S, UNTIL_S).pieces(right)
    assert spoiled[-1].at == pytest.approx(whole[-1].at, abs=GROUP * 0.1)


def test_a_record_that_comes_by_itself_does_not_move_it() -> None:
    clock = LogTime(STEP_S, UNTIL_S)
    (*_, before) = clock.pieces(every(0.1, GROUP))
    (alone,) = clock.pieces(np.array([START_MS + 3_600_000]))
    assert alone.at == pytest.approx(before.at, abs=0.2)


@given(st.integers(1, 5 * GROUP), st.integers(1, 5 * GROUP))
def test_it_tells_the_same_however_records_are_batched(first: int, second: int) -> None:
    times = every(0.1, first + second)
    whole, apart = LogTime(STEP_S, UNTIL_S), LogTime(STEP_S, UNTIL_S)
    apart.pieces(times[:first])
    assert apart.pieces(times[first:])[-1].at == whole.pieces(times)[-1].at


def test_before_so_many_have_come_it_is_no_later_than_the_earliest() -> None:
    (piece,) = LogTime(STEP_S, UNTIL_S).pieces(np.array([START_MS + 2000, START_MS + 3_600_000, START_MS]))
    assert piece.at == START_MS / 1000
