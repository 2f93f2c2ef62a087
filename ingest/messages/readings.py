"""The columns of decoded accelerometer readings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Readings:
    """The readings of a batch as columns: one row a reading, in record order and, within a record, in its own.

    Attributes:
        ids: uint8[m], bytes that contain the device ids, UTF-8; other bytes in it mean nothing
        id_at: int64[n], where in `ids` the id of the reading's device begins
        id_end: int64[n], where it ends
        timestamp_ms: int64[n], epoch ms
        xyz: float32[n, 3], m/s^2
        record: int32[n], index of the reading's record in the batch
    """

    ids: NDArray[np.uint8]
    id_at: NDArray[np.int64]
    id_end: NDArray[np.int64]
    timestamp_ms: NDArray[np.int64]
    xyz: NDArray[np.float32]
    record: NDArray[np.int32]

    def device_ids(self) -> list[bytes]:
        """Return each reading's device id; an object for each, so not for the hot path."""
        ids = self.ids.tobytes()
        return [ids[at:end] for at, end in zip(self.id_at.tolist(), self.id_end.tolist(), strict=True)]

    def __getitem__(self, rows: Any) -> Readings:
        """Return the rows that an index, a mask or a slice chooses."""
        return Readings(
            self.ids, self.id_at[rows], self.id_end[rows], self.timestamp_ms[rows], self.xyz[rows], self.record[rows]
        )


def empty_readings(ids: NDArray[np.uint8], rows: int) -> Readings:
    """Return columns with uninitialised rows."""
    return Readings(
        ids=ids,
        id_at=np.empty(rows, np.int64),
        id_end=np.empty(rows, np.int64),
        timestamp_ms=np.empty(rows, np.int64),
        xyz=np.empty((rows, 3), np.float32),
        record=np.empty(rows, np.int32),
    )


def with_room(readings: Readings, filled: int, rows: int) -> Readings:
    """Return columns of so many rows, which begin with the filled ones."""
    larger = empty_readings(readings.ids, rows)
    larger.id_at[:filled] = readings.id_at[:filled]
    larger.id_end[:filled] = readings.id_end[:filled]
    larger.timestamp_ms[:filled] = readings.timestamp_ms[:filled]
    larger.xyz[:filled] = readings.xyz[:filled]
    larger.record[:filled] = readings.record[:filled]
    return larger


def in_record_order(one: Readings, other: Readings) -> Readings:
    """Merge two columns of readings; both are in record order, and no record is in both."""
    if len(other.record) == 0:
        return one
    if len(one.record) == 0:
        return other
    behind = len(one.ids)
    both = Readings(
        ids=np.concatenate([one.ids, other.ids]),
        id_at=np.concatenate([one.id_at, other.id_at + behind]),
        id_end=np.concatenate([one.id_end, other.id_end + behind]),
        timestamp_ms=np.concatenate([one.timestamp_ms, other.timestamp_ms]),
        xyz=np.concatenate([one.xyz, other.xyz]),
        record=np.concatenate([one.record, other.record]),
    )
    return both[np.argsort(both.record, kind="stable")]
