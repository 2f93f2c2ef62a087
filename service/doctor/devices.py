"""Checks what devices send: whether each keeps to one partition, and whether its readings make complete windows.

All messages may follow the contract, and yet no label comes, or a useless one: clocks in seconds, readings in another
unit or without gravity, too few readings. These are the mistakes that people make with their first devices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from service.activity_worker import STANDARD_GRAVITY, idle_timeout_warning
from service.configuration.settings import ActivitySettings
from service.doctor.clocks import judge, tell
from service.doctor.findings import LISTED, Finding, counted, listed, note, ok, wrong
from service.doctor.sent import Decoded, Sent, medians, sent, shown
from service.doctor.windows import Cut, cut_windows
from windowing import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS, Windower

# The median magnitude of readings, m/s². Over 15 s of the people in the training set: lying still 9.8, walking 10.7,
# jogging 12.4 (7 to 23); and of people who sit, stand or walk, if the readings were in g.
WORN = 6.5, 25.0
WORN_IN_G = 0.75, 1.5
# Readings of a device, and readings a second, below which no rate is told.
FEW = 10
SLOW = 0.05
# Shares of windows that get a label, and of readings that are too late, from which on they are spoken of.
COMPLETE = 0.9
LATE = 0.01
# A share of readings that are too late from which on something is wrong.
MUCH_LATE = 0.1


def examine_devices(
    decoded: Decoded, settings: ActivitySettings, windower: Callable[[], Windower]
) -> Iterator[Finding]:
    """Check the readings of some partitions, at least one reading."""
    everything = sent(decoded)
    clocks = judge(everything)
    rates = np.where(clocks.useless, np.nan, _rates(everything))
    yield _in_the_median(everything, rates)
    yield from _split(everything)
    yield from tell(everything, clocks)
    yield from _units(everything, settings)
    cuts = [cut_windows(records, readings, windower(), settings) for records, readings in decoded.values()]
    if (warning := idle_timeout_warning(settings)) is not None:
        yield wrong(warning)
    yield from _windows(cuts, settings, hopeless=bool(clocks.useless.all()))
    yield from _unlabelled(everything, ~clocks.useless, rates, cuts, settings)
    yield from _late(everything, cuts, settings)


def _rates(all_sent: Sent) -> NDArray[np.float64]:
    """Return each device's readings a second, by the median interval; NaN with fewer than two readings."""
    order = np.lexsort((all_sent.timestamp_ms, all_sent.device))
    device, gap = all_sent.device[order][1:], np.diff(all_sent.timestamp_ms[order])
    between = (device == all_sent.device[order][:-1]) & (gap > 0)
    return 1000 / medians(device[between], gap[between], len(all_sent.ids))


def _in_the_median(all_sent: Sent, rates: NDArray[np.float64]) -> Finding:
    devices = counted(len(all_sent.ids), "device")
    if np.isnan(rates).all():
        return note(f"{devices}, none of them with readings of two moments by a clock that makes sense")
    rate, count = float(np.nanmedian(rates)), len(all_sent.device)
    if count < FEW or rate < SLOW:
        return ok(f"{devices}, with {counted(count, 'reading')} in all")
    return ok(f"{devices}, with {rate:.1f} readings a second in the median")


def _split(all_sent: Sent) -> Iterator[Finding]:
    """Report devices on several partitions at once, and those that moved, as when partitions are added."""
    partitions = int(all_sent.partition.max()) + 1
    key = all_sent.device.astype(np.int64) * partitions + all_sent.partition
    pairs, pair, counts = np.unique(key, return_inverse=True, return_counts=True)
    stamps = all_sent.recorded_ms[np.lexsort((all_sent.recorded_ms, pair))]
    first = np.cumsum(counts) - counts
    begin, end = stamps[first + counts // 20], stamps[first + counts - 1 - counts // 20]  # without a stray stamp or two
    order = np.lexsort((begin, pairs // partitions))
    device, begin, end = (pairs // partitions)[order], begin[order], end[order]
    same = device[1:] == device[:-1]
    torn = np.unique(device[1:][same & (begin[1:] <= end[:-1])])
    moved = np.setdiff1d(device[1:][same], torn)

    def named(rows: NDArray[np.int64]) -> str:
        some = [
            f"{all_sent.name(row)} on {_and(pairs[pairs // partitions == row] % partitions)}" for row in rows[:LISTED]
        ]
        return listed(some, len(rows))

    if len(torn):
        yield wrong(
            f"{counted(len(torn), 'device')} on several partitions, each of which is windowed alone: {named(torn)}. "
            "Give all producers one partitioner (librdkafka: partitioner=murmur2_random), and the device's id as key"
        )
    if len(moved):
        yield note(f"{counted(len(moved), 'device')} moved to another partition: {named(moved)}. Were some added?")


def _and(partitions: NDArray[np.int64]) -> str:
    return " and ".join(map(str, partitions.tolist()))


def _units(all_sent: Sent, settings: ActivitySettings) -> Iterator[Finding]:
    lengths = medians(all_sent.device, all_sent.length, len(all_sent.ids))
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


def _windows(cuts: Sequence[Cut], settings: ActivitySettings, *, hopeless: bool) -> Iterator[Finding]:
    labelled = sum(sum(cut.labelled.values()) for cut in cuts)
    total = labelled + sum(cut.incomplete for cut in cuts)
    if not total:
        remedy = "for the clocks" if hopeless else "look at more of them, with --records"
        yield note(f"no window of 4 s closes within these records: {remedy}")
    elif labelled < COMPLETE * total:
        yield note(
            f"only {labelled:,} of {total:,} windows get a label; the others have a hole longer than "
            f"{settings.max_gap_ms} ms (activity.max_gap_ms): devices pause, or send too rarely"
        )
    else:
        yield ok(f"{labelled:,} of {total:,} windows get a label")


def _unlabelled(
    all_sent: Sent,
    among: NDArray[np.bool_],
    rates: NDArray[np.float64],
    cuts: Sequence[Cut],
    settings: ActivitySettings,
) -> Iterator[Finding]:
    """Return which devices sent for long enough to close a window, but have no complete one."""
    first, last = all_sent.extremes(all_sent.timestamp_ms)
    for_long = last - first > SLOT_MS * (WINDOW_SLOTS + STRIDE_SLOTS + settings.lateness_slots + 1)
    labelled = set[bytes]().union(*(cut.labelled for cut in cuts))
    rows = np.flatnonzero(among & for_long & [device not in labelled for device in all_sent.ids])
    if len(rows):
        counts = np.bincount(all_sent.device, minlength=len(all_sent.ids))
        named = [f"{all_sent.name(row)} ({_pace(rates[row], int(counts[row]))})" for row in rows.tolist()]
        yield note(f"{counted(len(rows), 'device')} without a single label: {listed(named)}")


def _pace(rate: float, count: int) -> str:
    """Return readings a second; of few readings, or fewer than one each 20 s, how many there are says more."""
    return f"{rate:.1f} readings a second" if count >= FEW and rate >= SLOW else counted(count, "reading")


def _late(all_sent: Sent, cuts: Sequence[Cut], settings: ActivitySettings) -> Iterator[Finding]:
    late, readings = sum(cut.late for cut in cuts), len(all_sent.device)
    if late <= LATE * readings:
        return
    latecomers = sum((cut.latecomers for cut in cuts), Counter[bytes]())
    most = listed([shown(device) for device, _ in latecomers.most_common()])
    much = late >= MUCH_LATE * readings
    yield (wrong if much else note)(
        f"{late:,} readings ({late / readings:.1%}) come too late and are dropped: more than {settings.lateness_slots} "
        f"slots of {SLOT_MS} ms behind their device's newest (activity.lateness_slots), their windows have closed"
        + (f". Most are of {most}" if most else "")
        + (". Was the same stretch of time sent twice, as by a second replay?" if much else "")
    )
