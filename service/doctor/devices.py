"""What devices send: whether each keeps to one partition, and whether windows come of its readings.

The messages may all be as the contract says, and yet no label comes, or a useless one: clocks in seconds, readings in
another unit or without gravity, too few of them. These are the mistakes that people make with their first devices.
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
from service.doctor.windows import Cut, cut_windows, extremes, number_devices
from service.settings import ActivitySettings
from service.terminal import printable
from windowing import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS, Windower

Decoded = Mapping[TopicPartition, tuple[Records, Readings]]

# A device's clock counts as right if its best reading is as near to its record's Kafka timestamp as that.
CLOCK_S = 60
A_DAY_MS = 86_400_000
YEAR_2000_MS = 946_684_800_000
# How long readings are in the median, m/s². Of 15 s of the people that the model learned from: lying still 9.8, walking
# 10.7, jogging 12.4 (7 to 23); and of those who sit, stand or walk, if they were in g.
WORN = 6.5, 25.0
WORN_IN_G = 0.75, 1.5
# Shares of readings that have the timestamp of another, of windows that get a label, and of readings that are too late,
# from which on they are spoken of.
SAME_TIME = 0.5
COMPLETE = 0.9
LATE = 0.01


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
        """Name the first few of some devices."""
        return listed([self.name(row) for row in rows.tolist()])

    def name(self, row: int) -> str:
        """Return what a terminal may show of a device's id."""
        return printable(self.ids[row].decode(errors="replace"))

    def extremes(self, values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each device's lowest and highest of `values` int64[n], int64[k] both."""
        return extremes(self.device, values, len(self.ids))


def sent(decoded: Decoded) -> Sent:
    """Put the readings of partitions together; of at least one."""
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


def examine_devices(
    decoded: Decoded, settings: ActivitySettings, windower: Callable[[], Windower]
) -> Iterator[Finding]:
    """Look at the readings of some partitions, of which there are any."""
    everything = sent(decoded)
    rates = _rates(everything)
    yield _in_the_median(everything, rates)
    yield from _split(everything)
    yield from _clocks(everything)
    yield from _ticks(everything)
    yield from _units(everything, settings)
    cuts = [cut_windows(records, readings, windower(), settings) for records, readings in decoded.values()]
    yield from _windows(cuts, settings)
    yield from _unlabelled(everything, rates, cuts, settings)
    yield from _late(everything, cuts, settings)


def _rates(all_sent: Sent) -> NDArray[np.float64]:
    """Return each device's readings a second, by the median of what is between two; NaN where there aren't two."""
    order = np.lexsort((all_sent.timestamp_ms, all_sent.device))
    device, gap = all_sent.device[order][1:], np.diff(all_sent.timestamp_ms[order])
    between = (device == all_sent.device[order][:-1]) & (gap > 0)
    return 1000 / _medians(device[between], gap[between], len(all_sent.ids))


def _medians(device: NDArray[np.int32], values: NDArray[np.generic], devices: int) -> NDArray[np.float64]:
    """Return each device's median, the upper of two, float64[k]; NaN where it has no value."""
    counts = np.bincount(device, minlength=devices)
    medians = np.full(devices, np.nan)
    if len(values):
        middle = np.minimum(np.cumsum(counts) - counts + counts // 2, len(values) - 1)
        found = values[np.lexsort((values, device))][middle].astype(np.float64)
        medians[counts > 0] = found[counts > 0]
    return medians


def _in_the_median(all_sent: Sent, rates: NDArray[np.float64]) -> Finding:
    devices = counted(len(all_sent.ids), "device")
    if np.isnan(rates).all():
        return note(f"{devices}, none of them with readings of two moments")
    return ok(f"{devices}, with {np.nanmedian(rates):.1f} readings a second in the median")


def _split(all_sent: Sent) -> Iterator[Finding]:
    """Tell of devices on several partitions at once, and of those that moved, as when partitions are added."""
    partitions = int(all_sent.partition.max()) + 1
    key = all_sent.device.astype(np.int64) * partitions + all_sent.partition
    pairs, pair = np.unique(key, return_inverse=True)
    begin, end = extremes(pair, all_sent.recorded_ms, len(pairs))
    order = np.lexsort((begin, pairs // partitions))
    device, begin, end = (pairs // partitions)[order], begin[order], end[order]
    same = device[1:] == device[:-1]
    torn = np.unique(device[1:][same & (begin[1:] <= end[:-1])])
    moved = np.setdiff1d(device[1:][same], torn)
    places = {row: (pairs[pairs // partitions == row] % partitions).tolist() for row in [*torn[:3], *moved[:3]]}
    if len(torn):
        named = [f"{all_sent.name(row)} on {_and(places[row])}" for row in torn[:3]] + [""] * (len(torn) - 3)
        yield wrong(
            f"{counted(len(torn), 'device')} on several partitions, each of which is windowed alone: {listed(named)}. "
            "Give all producers one partitioner (librdkafka: partitioner=murmur2_random), and the device's id as key"
        )
    if len(moved):
        named = [f"{all_sent.name(row)} on {_and(places[row])}" for row in moved[:3]] + [""] * (len(moved) - 3)
        yield note(f"{counted(len(moved), 'device')} moved to another partition: {listed(named)}. Were some added?")


def _and(partitions: Sequence[int]) -> str:
    return " and ".join(map(str, partitions))


def _clocks(all_sent: Sent) -> Iterator[Finding]:
    newest = all_sent.extremes(all_sent.timestamp_ms)[1]
    recorded = all_sent.extremes(all_sent.recorded_ms)[1]
    nearest = all_sent.extremes(np.abs(all_sent.timestamp_ms - all_sent.recorded_ms))[0]
    off = nearest > 1000 * CLOCK_S
    seconds = off & (np.abs(1000 * np.clip(newest, 0, 2**40) - recorded) < A_DAY_MS)
    others = off & ~seconds & (newest < YEAR_2000_MS)
    rest = off & ~seconds & ~others
    if seconds.any():
        rows = np.flatnonzero(seconds)
        yield wrong(
            f"{counted(len(rows), 'device')} with timestamps in seconds: {all_sent.named(rows)}. They are to be "
            "milliseconds since 1970"
        )
    if others.any():
        rows = np.flatnonzero(others)
        yield wrong(
            f"{counted(len(rows), 'device')} with timestamps of before the year 2000: {all_sent.named(rows)}. They are "
            "to be milliseconds since 1970, not since the device was started"
        )
    if rest.any():
        rows = np.flatnonzero(rest)
        yield note(
            f"{counted(len(rows), 'device')} with a clock that is off by more than {CLOCK_S} s, or that sent late: "
            f"{all_sent.named(rows)}. Their windows have the times that they sent"
        )


def _ticks(all_sent: Sent) -> Iterator[Finding]:
    """Tell of clocks that stand still, or know whole seconds: of all readings in 50 ms a window keeps one."""
    order = np.lexsort((all_sent.timestamp_ms, all_sent.device))
    device, timestamp_ms, length = (part[order] for part in (all_sent.device, all_sent.timestamp_ms, all_sent.length))
    # What was sent twice has the same readings; those that are others had times of their own.
    again = (np.diff(device) == 0) & (np.diff(timestamp_ms) == 0) & (np.diff(length) != 0)
    count = np.bincount(device, minlength=len(all_sent.ids))
    rows = np.flatnonzero(np.bincount(device[1:][again], minlength=len(all_sent.ids)) > SAME_TIME * count)
    if len(rows):
        yield wrong(
            f"{counted(len(rows), 'device')} with many readings of one timestamp: {all_sent.named(rows)}. Does the "
            "clock stand still, or tell whole seconds? A window keeps one reading each 50 ms"
        )


def _units(all_sent: Sent, settings: ActivitySettings) -> Iterator[Finding]:
    lengths = _medians(all_sent.device, all_sent.length, len(all_sent.ids))
    odd = ~_within(lengths, WORN)
    in_g = odd & _within(lengths, WORN_IN_G) & (settings.unit == "m/s2")
    in_si = odd & _within(lengths / STANDARD_GRAVITY, WORN) & (settings.unit == "g")
    others = np.flatnonzero(odd & ~in_g & ~in_si)
    if in_g.any():
        rows = np.flatnonzero(in_g)
        yield wrong(
            f"{counted(len(rows), 'device')} with readings in g: {all_sent.named(rows)}. They are to be in m/s²; where "
            "all devices send g, set activity.unit to g"
        )
    if in_si.any():
        rows = np.flatnonzero(in_si)
        yield wrong(
            f"{counted(len(rows), 'device')} with readings in m/s² already, where activity.unit is g: "
            f"{all_sent.named(rows)}"
        )
    if len(others):
        yield note(
            f"{counted(len(others), 'device')} with readings of {lengths[others[0]]:.2f} m/s² and the like, where "
            f"gravity alone is {STANDARD_GRAVITY:.2f}: {all_sent.named(others)}. The model has learned from readings "
            "with gravity"
        )


def _within(values: NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.bool_]:
    return (values >= bounds[0]) & (values <= bounds[1])


def _windows(cuts: Sequence[Cut], settings: ActivitySettings) -> Iterator[Finding]:
    labelled = sum(sum(cut.labelled.values()) for cut in cuts)
    total = labelled + sum(cut.incomplete for cut in cuts)
    if not total:
        yield note("no window of 4 s closes within these records: look at more of them, with --records")
    elif labelled < COMPLETE * total:
        yield note(
            f"only {labelled:,} of {counted(total, 'window')} get a label; the others have a hole longer than "
            f"{settings.max_gap_ms} ms (activity.max_gap_ms): devices pause, or send too rarely"
        )
    else:
        yield ok(f"{labelled:,} of {counted(total, 'window')} get a label")


def _unlabelled(
    all_sent: Sent, rates: NDArray[np.float64], cuts: Sequence[Cut], settings: ActivitySettings
) -> Iterator[Finding]:
    """Name those who sent for long enough that a window closes, of which none is complete."""
    first, last = all_sent.extremes(all_sent.timestamp_ms)
    for_long = last - first > SLOT_MS * (WINDOW_SLOTS + STRIDE_SLOTS + settings.lateness_slots + 1)
    labelled = set[bytes]().union(*(cut.labelled for cut in cuts))
    rows = np.flatnonzero(for_long & [device not in labelled for device in all_sent.ids])
    if len(rows):
        named = [f"{all_sent.name(row)} ({rates[row]:.1f} readings a second)" for row in rows.tolist()]
        yield note(f"{counted(len(rows), 'device')} without a single label: {listed(named)}")


def _late(all_sent: Sent, cuts: Sequence[Cut], settings: ActivitySettings) -> Iterator[Finding]:
    late = sum(cut.late for cut in cuts)
    if late <= LATE * len(all_sent.device):
        return
    yield note(
        f"{late:,} readings ({late / len(all_sent.device):.1%}) come too late and are dropped: they are more than "
        f"{settings.lateness_slots} slots of {SLOT_MS} ms behind their device's newest (activity.lateness_slots). Most "
        f"are of {all_sent.named(_latest_comers(all_sent, SLOT_MS * settings.lateness_slots))}"
    )


def _latest_comers(all_sent: Sent, lateness_ms: int) -> NDArray[np.intp]:
    """Return the devices with readings that are so far behind, those with most of them first."""
    order = np.argsort(all_sent.device, kind="stable")
    counts = np.bincount(all_sent.device, minlength=len(all_sent.ids))
    behind = [
        int((np.maximum.accumulate(times) - times > lateness_ms).sum())
        for times in np.split(all_sent.timestamp_ms[order], np.cumsum(counts)[:-1])
    ]
    ranked = np.argsort(-np.array(behind), kind="stable")
    return ranked[np.array(behind)[ranked] > 0]
