"""Decodes records of accelerometer readings into columns; bad records become rejections.

A compiled loop reads columns of records directly from their bytes (`ingest.messages.scanner`). Records that it is not
sure of, and records that come as objects, are read one by one (`ingest.messages.decode_objects`). Both give the same
result.

The contract has three message forms. The header `content-type` distinguishes JSON and a binary chunk (see
`ingest.messages.json_objects`). JSON with a field `samples` is a chunk, any other JSON is a sample. In a JSON record,
the value's `device_id` counts, whatever the record's key is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import first_call
from ingest.contract import BINARY_READING_BYTES, MAX_AHEAD_MS, MAX_READINGS
from ingest.messages.decode_objects import decode_objects
from ingest.messages.readings import Readings, empty_readings, in_record_order, with_room
from ingest.messages.scanner import FURTHEST_AHEAD, scan, scratch
from ingest.record import Record
from ingest.record_batches.record_columns import Records
from ingest.record_batches.record_places import COLUMNS, END, KEY, KEY_END, TIMESTAMP, VALUE, VALUE_END
from ingest.rejections import Rejection

__all__ = ["Readings", "decode", "warm_up"]

_LONG: Final = 250  # bytes a record, on average, above which they count as chunks
_PARTS: Final = (KEY, KEY_END, VALUE, VALUE_END, END, TIMESTAMP)


def decode(
    records: Records | Sequence[Record], *, max_ahead_ms: int = MAX_AHEAD_MS, scale: float = 1.0
) -> tuple[Readings, list[Rejection]]:
    """Decode a batch; never raises, whatever a record contains.

    Args:
        records: in the order of the log
        max_ahead_ms: how far after its record's Kafka timestamp a reading may lie
        scale: the factor from the axes' unit to m/s^2, for example 9.80665 for g

    Returns:
        the readings of the good records, and the bad records in order, each whole
    """
    if not isinstance(records, Records):
        return decode_objects(records, np.arange(len(records), dtype=np.int32), max_ahead_ms, scale)
    readings, left = read_surely(records, max_ahead_ms, scale)
    if len(left) == 0:
        return readings, []
    rest = list(Records(records.raw, records.places[:, left]))
    more, rejections = decode_objects(rest, left, max_ahead_ms, scale)
    return in_record_order(readings, more), rejections


def read_surely(records: Records, max_ahead_ms: int, scale: float) -> tuple[Readings, NDArray[np.int32]]:
    """Return the readings of the records that the compiled loop is sure of, and the other records."""
    raw = np.frombuffer(records.raw, np.uint8)
    places = np.ascontiguousarray(records.places)
    key, key_end, value, value_end, end, timestamp = [places[part] for part in _PARTS]
    columns = empty_readings(raw, _expected_rows(records))
    unsure = np.empty(len(records), np.int32)
    paper = scratch()
    at, rows, left = 0, 0, 0
    while True:
        at, rows, left = scan(
            raw,
            key,
            key_end,
            value,
            value_end,
            end,
            timestamp,
            min(max_ahead_ms, FURTHEST_AHEAD),
            float(scale),
            at,
            columns.id_at,
            columns.id_end,
            columns.timestamp_ms,
            columns.xyz,
            columns.record,
            rows,
            unsure,
            left,
            *paper,
        )
        if at == len(records):
            return columns[:rows], unsure[:left]
        columns = with_room(columns, rows, 2 * len(columns.record) + MAX_READINGS)  # any record fits


def _expected_rows(records: Records) -> int:
    """Guess how many readings the records have; memory that isn't written to costs nothing."""
    begin, end = records.span
    size = max(0, min(end - begin, len(records.raw)))
    return len(records) + (size // BINARY_READING_BYTES if size > _LONG * len(records) else 0)


def warm_up() -> None:
    """Compile the loop, or load it from its cache, so that the first record doesn't wait for that."""
    first_call(lambda: decode(Records(b"", np.empty((COLUMNS, 0), np.int64))))
