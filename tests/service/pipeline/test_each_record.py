from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingest.record_batches.record_columns import Records
from ingest.rejections import Reason, Rejection
from service.kind import by_source
from service.pipeline.each_record import EachRecord
from tests.ingest.records import HandMade


@dataclass(frozen=True)
class Numbers:
    ids: list[bytes]
    values: NDArray[np.float32]
    record: NDArray[np.int32]


def record(offset: int, timestamp: int, value: int) -> HandMade:
    return HandMade(b"%d" % value, offset=offset, timestamp=timestamp)


def decode(records: Records) -> tuple[Numbers, list[Rejection]]:
    """Take even numbers, refuse odd ones."""
    values = np.array([int(each.value or b"") for each in records], np.int64)
    good, odd = np.flatnonzero(values % 2 == 0), np.flatnonzero(values % 2)
    refused = [Rejection(row, Reason.OUT_OF_RANGE, "odd") for row in odd.tolist()]
    ids = [b"%d" % value for value in values[good].tolist()]
    return Numbers(ids, values[good].astype(np.float32), good.astype(np.int32)), refused


@given(values=st.lists(st.integers(0, 9), max_size=20), block=st.integers(1, 7))
def test_every_good_record_is_one_row_of_a_small_block_with_its_own_id_offset_and_timestamp(
    values: list[int], block: int
) -> None:
    numbered = [(100 + 3 * row, 7000 + row, value) for row, value in enumerate(values)]
    stream = EachRecord(decode, lambda numbers, rows: numbers.values[rows, None], block)
    rejections, blocks = stream.push(Records.of(record(*each) for each in numbered), 0.0, mute=False)
    rows = []
    for found in blocks:
        assert 1 <= len(found.frames) == len(found.columns.ids) <= block
        assert found.frames.shape[1:] == (1,)
        columns = (found.columns.source_offset, found.source_timestamp_ms, found.frames[:, 0])
        rows += list(zip(*(column.tolist() for column in columns), found.columns.ids, strict=True))
    assert rows == [(*each, b"%d" % each[2]) for each in numbered if each[2] % 2 == 0]
    assert [rejection.record for rejection in rejections] == [row for row, value in enumerate(values) if value % 2]


def test_nothing_is_ever_open_between_records() -> None:
    stream = EachRecord(decode, lambda numbers, rows: numbers.values[rows, None], 8)
    _, blocks = stream.push(Records.of([record(5, 0, 2)]), 0.0, mute=False)
    assert len(list(blocks)) == 1
    assert (len(stream), stream.rewind_to(6), list(stream.fall_silent(float("inf")))) == (0, 6, [])


def test_a_label_read_back_has_the_identity_of_its_record() -> None:
    stream = EachRecord(decode, lambda numbers, rows: numbers.values[rows, None], 8)
    _, blocks = stream.push(Records.of([record(5, 0, 2), record(6, 0, 4)]), 0.0, mute=False)
    identities = stream.identities(next(blocks))
    assert identities == [by_source(HandMade(b"{}", key=key), offset) for key, offset in [(b"2", 5), (b"4", 6)]]
    assert by_source(HandMade(b"{}", key=b"of a topic that is gone"), 5) not in identities
