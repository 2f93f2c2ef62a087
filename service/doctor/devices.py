"""What devices send: whether each keeps to one partition, and whether windows come of its readings.

The messages may all be as the contract says, and yet no label comes, or a useless one: clocks in seconds, readings in
another unit or without gravity, too few of them. These are the mistakes that people make who send their first ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from kafka.structs import TopicPartition
from numpy.typing import NDArray

from ingest.decode import Readings
from ingest.record_columns import Records
from service.activity_worker import STANDARD_GRAVITY
from service.doctor.findings import Finding, counted, listed, note, ok, wrong
from service.settings import ActivitySettings
from service.terminal import printable
from windowing import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS, Step, Windower
from windowing.grid import phase

YEAR_2000_MS = 946_684_800_000
# A device's clock counts as right if its best reading is as near to its record's Kafka timestamp as that.
CLOCK_S = 60
# Phones at rest read 9.8 m/s², and whoever moves reads more as often as less.
GRAVITY = 8.0, 12.0
# Shares of windows that get a label, and of readings that come too late, which are nothing to speak of.
COMPLETE_ENOUGH = 0.9
LATE_ENOUGH = 0.01


@dataclass(frozen=True, slots=True)
class Sent:
    """The readings of several partitions, with their devices numbered.

    ids: k device ids; device: int64[n], a number below k; partition: int64[n]; timestamp_ms: int64[n], the device's;
    recorded_ms: int64[n], Kafka's; xyz: float32[n, 3], m/s².
    """

    ids: Sequence[bytes]
    device: NDArray[np.int64]
    partition: NDArray[np.int64]
    timestamp_ms: NDArray[np.int64]
    recorded_ms: NDArray[np.int64]
    xyz: NDArray[np.float32]


def sent(decoded: Mapping[TopicPartition, tuple[Records, Readings]]) -> Sent:
    """Put the readings of partitions together; of at least one."""
    numbers: dict[bytes, int] = {}
    columns = []
    for source, (records, readings) in decoded.items():
        columns.append(
            (
                _devices(readings, numbers),
                np.full(len(readings.record), source.partition),
                readings.timestamp_ms,
                records.timestamp[readings.record],
                readings.xyz,
            )
        )
    return Sent(list(numbers), *(np.concatenate(parts) for parts in zip(*columns, strict=True)))


def _devices(readings: Readings, numbers: dict[bytes, int]) -> NDArray[np.int64]:
    """Return the number of each reading's device, int64[n]; a record has one device, however many readings."""
    first = np.flatnonzero(np.diff(readings.record, prepend=-1))
    ids = readings[first].device_ids()
    of_record = np.fromiter((numbers.setdefault(device, len(numbers)) for device in ids), np.int64, len(ids))
    return np.repeat(of_record, np.diff(first, append=len(readings.record)))


def examine_devices(
    decoded: Mapping[TopicPartition, tuple[Records, Readings]],
    settings: ActivitySettings,
    windower: Callable[[], Windower],
) -> Iterator[Finding]:
    """Look at all devices' readings; nothing where there are none."""
    everything = sent(decoded)
    if not len(everything.device):
        return
    yield _rate(everything)
    yield from _split(everything)
    yield from _clocks(everything)
    yield from _unit(everything, settings)
    yield from _windows(decoded, everything, settings, windower)


def _rate(all_sent: Sent) -> Finding:
    count = np.bincount(all_sent.device)
    first, last = _extremes(all_sent.device, all_sent.timestamp_ms, len(all_sent.ids))
    several = last > first
    devices = counted(len(all_sent.ids), "device")
    if not several.any():
        return note(f"{devices}, none of them with two readings")
    rate = float(np.median(1000 * (count[several] - 1) / (last - first)[several]))
    return ok(f"{devices}, with {rate:.1f} readings a second in the median")


def _extremes(device: NDArray[np.int64], values: NDArray[np.int64], devices: int) -> tuple[NDArray[np.int64], ...]:
    lowest, highest = np.full(devices, np.iinfo(np.int64).max), np.full(devices, np.iinfo(np.int64).min)
    np.minimum.at(lowest, device, values)
    np.maximum.at(highest, device, values)
    return lowest, highest


def _split(all_sent: Sent) -> Iterator[Finding]:
    first, last = _extremes(all_sent.device, all_sent.partition, len(all_sent.ids))
    torn = np.flatnonzero(first != last)
    if len(torn):
        named = [f"{_shown(all_sent.ids[row])} on {first[row]} and {last[row]}" for row in torn.tolist()]
        yield wrong(
            f"{counted(len(torn), 'device')} on several partitions, each of which is windowed alone: {listed(named)}. "
            "Give all producers one partitioner (librdkafka: partitioner=murmur2_random), and the device's id as key"
        )


def _clocks(all_sent: Sent) -> Iterator[Finding]:
    newest = _extremes(all_sent.device, all_sent.timestamp_ms, len(all_sent.ids))[1]
    ancient = np.flatnonzero(newest < YEAR_2000_MS)
    if len(ancient):
        yield wrong(
            f"{counted(len(ancient), 'device')} with timestamps of before the year 2000: {_named(all_sent, ancient)}. "
            "They are to be milliseconds since 1970: are these seconds?"
        )
    off = np.abs(all_sent.timestamp_ms - all_sent.recorded_ms)
    nearest = _extremes(all_sent.device, off, len(all_sent.ids))[0]
    wild = np.flatnonzero((nearest > 1000 * CLOCK_S) & (newest >= YEAR_2000_MS))
    if len(wild):
        yield note(
            f"{counted(len(wild), 'device')} with a clock that is off by more than {CLOCK_S} s, or that sent late: "
            f"{_named(all_sent, wild)}. Their windows have the times that they sent"
        )


def _unit(all_sent: Sent, settings: ActivitySettings) -> Iterator[Finding]:
    length = float(np.median(np.linalg.norm(all_sent.xyz, axis=1)))
    low, high = GRAVITY
    if low <= length <= high:
        return
    measured = f"readings are {length:.2f} m/s² long in the median, where gravity alone is {STANDARD_GRAVITY:.2f}"
    if settings.unit == "m/s2" and low <= length * STANDARD_GRAVITY <= high:
        yield wrong(f"{measured}: are they in g? Then set activity.unit to g")
    elif settings.unit == "g" and low <= length / STANDARD_GRAVITY <= high:
        yield wrong(f"{measured}: activity.unit is g, and they seem to be in m/s² already")
    else:
        yield note(f"{measured}: the model has learned from readings with gravity, in m/s²")


def _windows(
    decoded: Mapping[TopicPartition, tuple[Records, Readings]],
    all_sent: Sent,
    settings: ActivitySettings,
    windower: Callable[[], Windower],
) -> Iterator[Finding]:
    """Cut windows as a worker does, and tell how many are labelled, and what others lack."""
    steps = [step for records, readings in decoded.values() for step in _pushed(windower(), records, readings)]
    labelled = sum(len(step.frames) for step in steps)
    incomplete = max(0, sum(step.incomplete for step in steps) - _cut_off(all_sent, settings))
    late = sum(len(step.late) for step in steps)
    if not labelled + incomplete:
        yield note("no window of 4 s closes within these records: look at more of them, with --records")
    elif labelled < COMPLETE_ENOUGH * (labelled + incomplete):
        yield note(
            f"only {labelled:,} of {counted(labelled + incomplete, 'window')} get a label; the others have a "
            f"hole longer than {settings.max_gap_ms} ms (activity.max_gap_ms): devices pause, or send too rarely"
        )
    else:
        yield ok(f"{labelled:,} of {counted(labelled + incomplete, 'window')} get a label")
    if late > LATE_ENOUGH * len(all_sent.device):
        yield note(
            f"{late:,} readings ({late / len(all_sent.device):.1%}) come too late and are dropped: they are more than "
            f"{settings.lateness_slots} slots of {SLOT_MS} ms behind their device's newest (activity.lateness_slots)"
        )


def _pushed(windower: Windower, records: Records, readings: Readings) -> Iterator[Step]:
    offsets, start = records.offset[readings.record], 0
    while start < len(offsets):
        step = windower.push(
            readings.ids,
            readings.id_at,
            readings.id_end,
            readings.timestamp_ms,
            readings.xyz,
            offsets,
            0.0,
            start,
        )
        start = step.consumed
        yield step


def _cut_off(all_sent: Sent, settings: ActivitySettings) -> int:
    """Count the windows that are incomplete because they begin before the first record that was looked at."""
    edges = _extremes(all_sent.device, all_sent.timestamp_ms, len(all_sent.ids))
    first, last = ((edge + SLOT_MS // 2) // SLOT_MS for edge in edges)
    phases = np.fromiter(map(phase, all_sent.ids), np.int64, len(all_sent.ids))
    latest = last - settings.lateness_slots - WINDOW_SLOTS  # start of a window that has closed
    hole = settings.max_gap_ms // SLOT_MS  # that spoils one
    ends = np.minimum(first - hole, latest)
    counts = (ends - phases) // STRIDE_SLOTS - (first - WINDOW_SLOTS - phases) // STRIDE_SLOTS
    return int(np.maximum(counts, 0).sum())


def _named(all_sent: Sent, rows: NDArray[np.intp]) -> str:
    return listed([_shown(all_sent.ids[row]) for row in rows.tolist()])


def _shown(device: bytes) -> str:
    return printable(device.decode(errors="replace"))
