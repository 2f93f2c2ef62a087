"""Decodes records as objects and as columns, and holds one against the other."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ingest.messages.decode import Readings, decode
from ingest.record_batches.record_columns import Records
from ingest.record_batches.record_places import COLUMNS, FURTHEST, find_records
from ingest.rejections import Rejection
from tests.ingest.batches import record
from tests.ingest.records import HandMade


def columns_of(records: Sequence[HandMade], behind: bytes = b"") -> Records:
    """The records as the consumer hands them over, out of bytes that end with `behind`."""
    bases = [FURTHEST if each.timestamp >= FURTHEST else 0 for each in records]
    written = [
        record(
            each.offset,
            each.value,
            each.key,
            [(name.encode(), content) for name, content in each.headers],
            each.timestamp - base,
        )
        for each, base in zip(records, bases, strict=True)
    ]
    raw, at = b"".join(written) + behind, 0
    places = np.empty((COLUMNS, len(records)), np.int64)
    for k, base in enumerate(bases):
        found, at, _ = find_records(np.frombuffer(raw, np.uint8), at, 0, base, 1, places[:, k : k + 1])
        assert found == 1
    return Records(raw, places)


def decode_both_ways(records: Sequence[HandMade], **options: float) -> tuple[Readings, list[Rejection]]:
    """What `decode` says, which is the same for objects and for columns, for these alone and for these twice over."""
    expected = decode(records, **options)  # type: ignore[arg-type]
    assert_same(expected, decode(columns_of(records), **options))  # type: ignore[arg-type]
    readings, rejections = decode(columns_of([*records, *records], b"0" * 9), **options)  # type: ignore[arg-type]
    for first in (0, len(records)):
        own = (first <= readings.record) & (readings.record < first + len(records))
        part = replace(readings[own], record=readings.record[own] - first)
        refused = [replace(bad, record=bad.record - first) for bad in rejections]
        assert_same(expected, (part, [bad for bad in refused if 0 <= bad.record < len(records)]))
    return expected


def assert_same(one: tuple[Readings, list[Rejection]], other: tuple[Readings, list[Rejection]]) -> None:
    """Bit for bit, and rejections with all that they say."""
    assert one[1] == other[1]
    assert one[0].record.tolist() == other[0].record.tolist()
    assert one[0].device_ids() == other[0].device_ids()
    assert one[0].timestamp_ms.tolist() == other[0].timestamp_ms.tolist()
    assert one[0].xyz.tobytes() == other[0].xyz.tobytes()
