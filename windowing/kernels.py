"""The compiled loops: merge readings into ring buffers, cut the windows that close.

A device's state is one row of every array in `Rings`. Its slots lie in a ring of R = 80 + lateness places, slot s at
place s mod R. With `newest` the slot of its newest reading, everything follows from one number:

    first = the smallest slot greater than newest - R at which a window of this device starts.

Windows that start before `first` have closed, later ones are open. A reading before `first` is late; any other belongs
to an open window. So the readings in slots first..newest are held, and those always fit the ring. Places of slots
before `first` keep stale readings until they are reused; nothing reads them.

Numba's cache tracks changes by file: all compiled code stays in this one, and whoever changes a constant of `grid` has
to change this file too.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from windowing.compiled import lean_entry, lean_part
from windowing.grid import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]

HALF_SLOT_MS = SLOT_MS // 2
EMPTY = 127  # a rank no reading has
NEVER = -(2**63)  # `newest_ms` of a row without readings
NO_OFFSET = 2**63 - 1  # `oldest` of a row that is free: later than any offset
MAX_ABS_MS = 2**62  # within it, no difference of two times overflows


class Rings(NamedTuple):
    """The state of devices, one row a device; n rows, rings of R slots.

    newest_ms: int64[n], timestamp of the newest reading, `NEVER` before the first.
    phase: int64[n], the slots, modulo the stride, at which windows start.
    oldest: int64[n], smallest record offset among the readings held, `NO_OFFSET` for a free row.
    last: int64[n], offset of the last record with a reading of this device, whether held or not.
    strayed: int64[n], offset of the last record with a reading further behind the newest than the lateness, or `NEVER`.
    rank: int8[n, R], closeness of the held reading to its slot's centre (see `_rank`), `EMPTY` without one.
    held: int64[n, R], record offset of the held reading.
    xyz: float32[n, R, 3], the held reading.
    """

    newest_ms: Int64s
    phase: Int64s
    oldest: Int64s
    last: Int64s
    strayed: Int64s
    rank: Int8s
    held: Int64s
    xyz: Float32s


class FrameBuffer(NamedTuple):
    """The frames cut in one step; m rows.

    row: int64[m], the device's row in `Rings`.
    start: int64[m], first slot.
    values: float32[m, 80, 3].
    measured: int32[m], slots with a reading.
    gap: int32[m], longest run of slots without one.
    source: int64[m], record offset.
    reading: int64[m], row of the closing reading in the batch, or -1.
    """

    row: Int64s
    start: Int64s
    values: Float32s
    measured: Int32s
    gap: Int32s
    source: Int64s
    reading: Int64s


@lean_part
def _slot_of(timestamp_ms: int) -> int:
    return (timestamp_ms + HALF_SLOT_MS) // SLOT_MS


@lean_part
def _rank(timestamp_ms: int, slot: int) -> int:
    """Order a slot's readings by distance from its centre, then by time: 0 is best, 49 worst.

    Ranks of a slot and its timestamps (centre - 25 .. centre + 24) are one to one.
    """
    ahead = timestamp_ms - slot * SLOT_MS
    return 2 * ahead if ahead >= 0 else -2 * ahead - 1


@lean_part
def _first_open(newest: int, phase: int, ring: int) -> int:
    earliest = newest - ring + 1
    return earliest + (phase - earliest) % STRIDE_SLOTS


@lean_part
def _measure(ranks: Int8s, window: int, newest: int) -> tuple[int, int]:
    """Return the number of the window's slots with a reading, and the length of its longest gap."""
    # Slots after the newest share their place in the ring with older ones, and are empty.
    heard = min(WINDOW_SLOTS, newest - window + 1)
    ring = len(ranks)
    place = window % ring
    ahead = min(heard, ring - place)
    measured = _count(ranks, place, place + ahead) + _count(ranks, 0, heard - ahead)
    if measured == heard:  # without a gap the fast count is enough
        return measured, WINDOW_SLOTS - heard
    gap = longest = 0
    for _ in range(heard):
        gap = 0 if ranks[place] != EMPTY else gap + 1
        longest = max(longest, gap)
        place = place + 1 if place + 1 < ring else 0
    return measured, max(longest, gap + WINDOW_SLOTS - heard)


@lean_part
def _count(ranks: Int8s, start: int, stop: int) -> int:
    measured = 0
    for place in range(start, stop):
        measured += ranks[place] != EMPTY
    return measured


@lean_part
def _fill(frame: Float32s, ranks: Int8s, xyz: Float32s, window: int, newest: int, measured: int) -> None:
    """Copy the window's readings into the frame, and interpolate its gaps linearly.

    Computed in float64, left + (right - left) * steps / length, then rounded to float32.
    """
    heard = min(WINDOW_SLOTS, newest - window + 1)
    ring = len(ranks)
    place = window % ring
    ahead = min(heard, ring - place)
    _copy(frame, 0, xyz, place, ahead)
    _copy(frame, ahead, xyz, 0, heard - ahead)
    if measured < WINDOW_SLOTS:
        _interpolate_gaps(frame, ranks, place, heard)


@lean_part
def _copy(frame: Float32s, to: int, xyz: Float32s, start: int, count: int) -> None:
    for k in range(count):
        for axis in range(3):
            frame[to + k, axis] = xyz[start + k, axis]


@lean_part
def _interpolate_gaps(frame: Float32s, ranks: Int8s, place: int, heard: int) -> None:
    """Interpolate the slots of a frame whose places in the ring are empty; the window starts at `place`."""
    ring = len(ranks)
    before = -1  # the last measured slot, relative to the window
    for k in range(heard):
        if ranks[place] != EMPTY:
            if before < k - 1:
                for axis in range(3):
                    right = np.float64(frame[k, axis])
                    left = np.float64(frame[before, axis]) if before >= 0 else right
                    for j in range(before + 1, k):
                        frame[j, axis] = left + (right - left) * (j - before) / (k - before)
            before = k
        place = place + 1 if place + 1 < ring else 0
    for k in range(before + 1, WINDOW_SLOTS):
        for axis in range(3):
            frame[k, axis] = frame[before, axis]


@lean_part
def _close(
    rings: Rings,
    row: int,
    first: int,
    stop: int,
    newest: int,
    max_gap_slots: int,
    buffer: FrameBuffer,
    cut: int,
    reading: int,
) -> tuple[int, int]:
    """Close the windows that start in first..stop - 1.

    Returns the number of rows then used in the buffer, and of incomplete windows.
    """
    incomplete = 0
    # Windows without a reading don't exist, and those after the newest slot have none. So however far the device's
    # clock has jumped, there are at most ring / stride windows to check.
    for window in range(first, min(stop, newest + 1), STRIDE_SLOTS):
        measured, gap = _measure(rings.rank[row], window, newest)
        if measured == 0:
            continue
        if gap > max_gap_slots:
            incomplete += 1
            continue
        _fill(buffer.values[cut], rings.rank[row], rings.xyz[row], window, newest, measured)
        buffer.row[cut] = row
        buffer.start[cut] = window
        buffer.measured[cut] = measured
        buffer.gap[cut] = gap
        buffer.source[cut] = rings.last[row]
        buffer.reading[cut] = reading
        cut += 1
    return cut, incomplete


@lean_part
def _advance(ranks: Int8s, newest: int, slot: int) -> None:
    """Empty the places that the slots newest + 1..slot take over."""
    ring = len(ranks)
    place = (newest + 1) % ring
    for _ in range(min(slot - newest, ring)):
        ranks[place] = EMPTY
        place = place + 1 if place + 1 < ring else 0


@lean_part
def _oldest_held(ranks: Int8s, held: Int64s, first: int, newest: int) -> int:
    ring = len(ranks)
    place = first % ring
    ahead = min(newest - first + 1, ring - place)
    oldest = _oldest(ranks, held, place, place + ahead)
    return min(oldest, _oldest(ranks, held, 0, newest - first + 1 - ahead))


@lean_part
def _oldest(ranks: Int8s, held: Int64s, start: int, stop: int) -> int:
    oldest = NO_OFFSET
    for place in range(start, stop):
        oldest = min(oldest, held[place] if ranks[place] != EMPTY else NO_OFFSET)
    return oldest


@lean_part
def _precedes(a: Float32s, b: Float32s) -> bool:
    for axis in range(3):
        if a[axis] != b[axis]:
            return bool(a[axis] < b[axis])
    return False


@lean_entry
def first_fault(
    ids: int,
    longest: int,
    id_at: Int64s,
    id_end: Int64s,
    timestamp_ms: Int64s,
    offset: Int64s,
    reached: int,
    start: int,
) -> int:
    """Return the first row from `start` on that could not be taken in safely, or -1.

    An id must lie within `ids` bytes and have at most `longest`, a time be strictly within +-`MAX_ABS_MS`, and no
    offset be below the one before or below `reached`.
    """
    for i in range(start, len(id_at)):
        if not (0 <= id_at[i] <= id_end[i] <= ids and id_end[i] - id_at[i] <= longest):
            return i
        if not (-MAX_ABS_MS < timestamp_ms[i] < MAX_ABS_MS and reached <= offset[i]):
            return i
        reached = offset[i]
    return -1


@lean_entry
def merge(
    rows: Int64s,
    timestamp_ms: Int64s,
    xyz: Float32s,
    offset: Int64s,
    start: int,
    max_gap_slots: int,
    rings: Rings,
    buffer: FrameBuffer,
    late_ms: Int64s,
) -> tuple[int, int, int, int, int]:
    """Merge the readings from row `start` on into the rings, and cut each window that a reading closes by time.

    rows: int64[n], the row in the rings of each reading's device; timestamp_ms: int64[n], strictly within +-2**62;
    xyz: float32[n, 3]; offset: int64[n], the readings' records; max_gap_slots: longest gap of a complete window;
    late_ms: int64[n], filled with how late late readings are.

    Stops before a reading that the buffer might lack room for. Returns the row to continue at and the numbers of
    frames cut, of incomplete windows, of readings that lost their slot to a better one, and of late readings.
    """
    ring = rings.rank.shape[1]
    room = len(buffer.row) - (ring + STRIDE_SLOTS - 1) // STRIDE_SLOTS
    cut = incomplete = superseded = late = 0
    i = start
    while i < len(rows) and cut <= room:
        row = rows[i]
        slot = _slot_of(timestamp_ms[i])
        rings.last[row] = offset[i]
        if rings.newest_ms[row] == NEVER:
            rings.newest_ms[row] = timestamp_ms[i]
        newest = _slot_of(rings.newest_ms[row])
        first = _first_open(newest, rings.phase[row], ring)
        if slot < newest - (ring - WINDOW_SLOTS):
            rings.strayed[row] = offset[i]
        if slot < first:
            late_ms[late] = rings.newest_ms[row] - timestamp_ms[i]
            late += 1
            i += 1
            continue

        recount = False
        if slot > newest:
            opens = _first_open(slot, rings.phase[row], ring)
            if opens > first:
                cut, ill = _close(rings, row, first, opens, newest, max_gap_slots, buffer, cut, i)
                incomplete += ill
                first = opens
                recount = True
            _advance(rings.rank[row], newest, slot)
            newest = slot
        rings.newest_ms[row] = max(rings.newest_ms[row], timestamp_ms[i])

        place = slot % ring
        rank = _rank(timestamp_ms[i], slot)
        kept = rings.rank[row, place]
        if kept != EMPTY:
            superseded += 1
        if rank < kept or (rank == kept and _precedes(xyz[i], rings.xyz[row, place])):
            if kept != EMPTY and rings.held[row, place] == rings.oldest[row]:
                recount = True
            rings.rank[row, place] = rank
            rings.held[row, place] = offset[i]
            rings.oldest[row] = min(rings.oldest[row], offset[i])
            for axis in range(3):
                # Adding zero turns -0.0, which equals 0.0, into 0.0. Otherwise the stored bits would depend on which of
                # the two came first.
                rings.xyz[row, place, axis] = xyz[i, axis] + np.float32(0.0)
        if recount:
            rings.oldest[row] = _oldest_held(rings.rank[row], rings.held[row], first, newest)
        i += 1
    return i, cut, incomplete, superseded, late


@lean_entry
def silence(rows: Int64s, max_gap_slots: int, rings: Rings, buffer: FrameBuffer) -> tuple[int, int, int]:
    """Close all open windows of these rows, as many rows as the buffer has room for.

    Returns how many rows are done, and the numbers of frames cut and of incomplete windows.
    """
    ring = rings.rank.shape[1]
    room = len(buffer.row) - (ring + STRIDE_SLOTS - 1) // STRIDE_SLOTS
    done = cut = incomplete = 0
    while done < len(rows) and cut <= room:
        row = rows[done]
        newest = _slot_of(rings.newest_ms[row])
        first = _first_open(newest, rings.phase[row], ring)
        cut, ill = _close(rings, row, first, newest + 1, newest, max_gap_slots, buffer, cut, -1)
        incomplete += ill
        done += 1
    return done, cut, incomplete
