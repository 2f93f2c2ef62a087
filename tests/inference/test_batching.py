import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference.batching import Block, FrameQueue, Piece
from tests.inference.fakes import numbered


def block(ticket: str, *numbers: int) -> Block:
    return Block(numbered(*numbers), ticket, submitted_at=0.0)


def rows_of(pieces: list[Piece]) -> list[tuple[str, int, int]]:
    return [(piece.block.ticket, piece.start, piece.stop) for piece in pieces]


def test_blocks_leave_in_the_order_in_which_they_came() -> None:
    queue = FrameQueue(capacity=10)
    queue.offer(block("first", 1, 2))
    queue.offer(block("second", 3))

    assert rows_of(queue.take(10)) == [("first", 0, 2), ("second", 0, 1)]
    assert queue.take(10) == []


def test_a_block_is_split_where_a_batch_ends_and_its_rest_leads_the_next() -> None:
    queue = FrameQueue(capacity=10)
    queue.offer(block("first", 1, 2, 3, 4, 5))
    queue.offer(block("second", 6))

    assert rows_of(queue.take(2)) == [("first", 0, 2)]
    assert rows_of(queue.take(2)) == [("first", 2, 4)]
    assert rows_of(queue.take(2)) == [("first", 4, 5), ("second", 0, 1)]


def test_a_block_goes_in_whole_or_not_at_all() -> None:
    queue = FrameQueue(capacity=3)

    assert queue.offer(block("first", 1, 2))
    assert not queue.offer(block("second", 3, 4))
    assert queue.offer(block("third", 5))
    assert queue.frames == 3
    assert rows_of(queue.take(9)) == [("first", 0, 2), ("third", 0, 1)]


def test_a_block_larger_than_the_capacity_has_an_empty_queue_to_itself() -> None:
    queue = FrameQueue(capacity=2)

    assert queue.offer(block("large", 1, 2, 3, 4))
    assert not queue.offer(block("second", 5))
    queue.take(3)
    assert queue.offer(block("second", 5))


def test_a_block_of_no_frames_is_taken_and_forgotten() -> None:
    queue = FrameQueue(capacity=2)

    assert queue.offer(block("empty"))
    assert queue.take(2) == []


def test_clearing_forgets_half_taken_blocks_too() -> None:
    queue = FrameQueue(capacity=4)
    queue.offer(block("first", 1, 2, 3))
    queue.take(1)
    queue.clear()
    queue.offer(block("second", 4))

    assert queue.frames == 1
    assert rows_of(queue.take(4)) == [("second", 0, 1)]


@given(
    sizes=st.lists(st.integers(0, 9), max_size=12),
    limits=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    capacity=st.integers(1, 20),
)
def test_whatever_goes_in_comes_out_once_and_in_order(sizes: list[int], limits: list[int], capacity: int) -> None:
    queue = FrameQueue(capacity)
    accepted: list[float] = []
    out: list[float] = []
    number = 0
    for turn, size in enumerate(sizes):
        numbers = range(number, number + size)
        number += size
        if queue.offer(block("any", *numbers)):
            accepted.extend(numbers)
        assert queue.frames <= max(capacity, *sizes)
        limit = limits[turn % len(limits)]
        pieces = queue.take(limit)
        assert sum(map(len, pieces)) <= limit
        out += [frame for piece in pieces for frame in piece.block.frames[piece.start : piece.stop, 0]]
    out += [frame for piece in queue.take(10**6) for frame in piece.block.frames[piece.start : piece.stop, 0]]

    assert np.array_equal(out, accepted)
    assert queue.frames == 0
