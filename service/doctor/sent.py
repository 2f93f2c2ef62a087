"""The readings of several partitions as columns, with numbered devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from kafka.structs import TopicPartition
from numpy.typing import NDArray

from ingest.messages.decode import Readings
from ingest.record_batches.record_columns import Records
from service.doctor.findings import LISTED, listed
from service.host.terminal import printable

Decoded = Mapping[TopicPartition, tuple[Records, Readings]]


@dataclass(frozen=True, slots=True)
class Sent:
    """The readings of several partitions, each partition's in order of the log, with their devices numbered.

    ids: k device ids; device: int32[n], a number below k; partition: int32[n]; timestamp_ms: int64[n], the device's;
    recorded_ms: int64[n], Kafka's; length: float32[n], m/s².
    """

    ids: Sequence[bytes]
    device: NDArray[np.int32]
    partition: NDArray[np.int32]
    timestamp_ms: NDArray[np.int64]
    recorded_ms: NDArray[np.int64]
    length: NDArray[np.float32]

    def named(self, rows: NDArray[np.intp]) -> str:
        """List the first few of some devices."""
        return listed([self.name(row) for row in rows[:LISTED].tolist()], len(rows))

    def name(self, row: int) -> str:
        """Return a device's id as people can read it."""
        return shown(self.ids[row])

    def extremes(self, values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each device's lowest and highest of `values` int64[n], int64[k] both."""
        return extremes(self.device, values, len(self.ids))


def shown(device: bytes) -> str:
    """Return a device's id as a terminal may show it."""
    return printable(device.decode(errors="replace"))


def sent(decoded: Decoded) -> Sent:
    """Join the readings of one or more partitions."""
    numbers: dict[bytes, int] = {}
    columns = [
        (
            number_devices(readings, numbers),
            np.full(len(readings.record), source.partition, np.int32),
            readings.timestamp_ms,
            records.timestamp[readings.record],
            np.linalg.norm(readings.xyz, axis=1),
        )
        for source, (records, readings) in decoded.items()
    ]
    return Sent(list(numbers), *(np.concatenate(parts) for parts in zip(*columns, strict=True)))


def number_devices(readings: Readings, ids: dict[bytes, int]) -> NDArray[np.int32]:
    """Return the number of each reading's device, int32[n], and add those to `ids` that have none yet.

    A record has one device, however many readings.
    """
    first = np.flatnonzero(np.diff(readings.record, prepend=-1))
    devices = readings[first].device_ids()
    of_record = np.fromiter((ids.setdefault(device, len(ids)) for device in devices), np.int32, len(devices))
    return np.repeat(of_record, np.diff(first, append=len(readings.record)))


def extremes(
    group: NDArray[np.integer], values: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lowest and the highest of `values` int64[n] of each group, int64[groups] both."""
    lowest = np.full(groups, np.iinfo(np.int64).max)
    highest = np.full(groups, np.iinfo(np.int64).min)
    np.minimum.at(lowest, group, values)
    np.maximum.at(highest, group, values)
    return lowest, highest


def medians(device: NDArray[np.int32], values: NDArray[np.generic], devices: int) -> NDArray[np.float64]:
    """Return each device's median, the upper of two, float64[k]; NaN where it has no value."""
    counts = np.bincount(device, minlength=devices)
    medians = np.full(devices, np.nan)
    if len(values):
        middle = np.minimum(np.cumsum(counts) - counts + counts // 2, len(values) - 1)
        found = values[np.lexsort((values, device))][middle].astype(np.float64)
        medians[counts > 0] = found[counts > 0]
    return medians
