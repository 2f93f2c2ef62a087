from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingest.rejections import Reason, Rejection
from service.each_record import EachRecord
from service.kind import by_source
from tests.ingest.records import HandMade


class Record(NamedTuple):
    offset: int
    timestamp: int
    value: int


@dataclass(frozen=True)
class Numbers:
    ids: list[bytes]
    values: NDArray[np.float32]
    record: NDArray[np.int32]


def decode(records: Sequence[Record]) -> tuple[Numbers, list[Rejection]]:
    """Take even numbers, refuse odd ones."""
    good = [row for row, record in enumerate(records) if record.value % 2 == 0]
    refused = [Rejection(row, Reason.OUT_OF_RANGE, "odd") for row, record in enumerate(records) if record.value % 2]
    values = np.array([records[row].value for row in good], np.float32)
    return Numbers([b"%d" % records[row].value for row in good], values, np.array(good, np.int32)), refused


@given(values=st.lists(st.integers(0, 9), max_size=20), block=st.integers(1, 7))
def test_every_good_record_is_one_row_of_a_small_block_with_its_own_id_offset_and_timestamp(
    values: list[int], block: int
) -> None:
    records = [Record(100 + 3 * row, 7000 + row, value) for row, value in enumerate(values)]
    stream = EachRecord(decode, lambda numbers, rows: numbers.values[rows, None], block)
    rejections, blocks = stream.push(records, 0.0, mute=False)
    rows = []
    for found in blocks:
        assert 1 <= len(found.frames) == len(found.columns.ids) <= block
        assert found.frames.shape[1:] == (1,)
        columns = (found.columns.source_offset, found.source_timestamp_ms, found.frames[:, 0])
        rows += list(zip(*(column.tolist() for column in columns), found.columns.ids, strict=True))
    assert rows == [(*record, b"%d" % record.value) for record in records if record.value % 2 == 0]
    assert [rejection.record for rejection in rejections] == [row for row, value in enumerate(values) if value % 2]


def test_nothing_is_ever_open_between_records() -> None:
    stream = EachRecord(decode, lambda numbers, rows: numbers.values[rows, None], 8)
    _, blocks = stream.push([Record(5, 0, 2)], 0.0, mute=False)
    assert len(list(blocks)) == 1
    assert (len(stream), stream.rewind_to(6), list(stream.fall_silent(float("inf")))) == (0, 6, [])


def test_a_label_read_back_has_the_identity_of_its_record() -> None:
    stream = EachRecord(decode, lambda numbers, rows: numbers.values[rows, None], 8)
    _, blocks = stream.push([Record(5, 0, 2), Record(6, 0, 4)], 0.0, mute=False)
    identities = stream.identities(next(blocks))
    assert identities == [by_source(HandMade(b"{}", key=key), offset) for key, offset in [(b"2", 5), (b"4", 6)]]
    assert by_source(HandMade(b"{}", key=b"of a topic that is gone"), 5) not in identities
