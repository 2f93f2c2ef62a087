"""The windows of one partition's devices: readings in, frames out."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from windowing import device_table, kernels
from windowing.compiled import first_call
from windowing.device_table import Bytes, UInt64s
from windowing.grid import IDLE_TIMEOUT_S, LATENESS_SLOTS, MAX_GAP_MS, SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS
from windowing.kernels import Float32s, FrameBuffer, Int32s, Int64s, Rings
from windowing.processing_times import ProcessingTimes

_MAX_LATENESS_SLOTS = 1200
_MIN_CAPACITY = 64
_NO_ROWS = np.empty(0, dtype=np.int64)
_NO_NUMBERS = np.empty(0, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Frames:
    """Closed and complete windows, one row each; possibly none.

    device_id: uint8[m, 128], UTF-8, zero-padded.
    id_size: int32[m], its bytes.
    start_ms: int64[m], centre of the first slot, epoch ms.
    values: float32[m, 80, 3], in the readings' unit.
    measured: int32[m], slots measured rather than interpolated; coverage is measured / 80.
    longest_gap_ms: int32[m], 50 (n + 1) for the longest run of n empty slots.
    by_silence: bool[m].
    source_offset: int64[m], offset of the record that closed the window, or the device's last before its silence.
    reading: int64[m], row in the pushed batch of the closing reading, -1 for a silence.
    row, device: int64[m] and uint64[m], for `Smoother`: the device's row here, which others may have had before it, and
        a number that tells it from those.
    """

    device_id: Bytes
    id_size: Int32s
    start_ms: Int64s
    values: Float32s
    measured: Int32s
    longest_gap_ms: Int32s
    by_silence: npt.NDArray[np.bool_]
    source_offset: Int64s
    reading: Int64s
    row: Int64s
    device: UInt64s

    def __len__(self) -> int:
        return len(self.start_ms)

    def device_ids(self) -> list[bytes]:
        """Return each window's device id as an object: not for the hot path."""
        return _as_objects(self.device_id, self.id_size)


@dataclass(frozen=True, slots=True)
class Step:
    """What one call did.

    frames: the windows that closed and are complete.
    consumed: row of the batch to continue at; its length when all of it is consumed. 0 for a silence.
    more: whether the call stopped early, because `max_frames` might not have been enough: call again.
    incomplete: number of windows that closed with too long a gap.
    late: int64, for each reading dropped because its windows have closed, ms behind its device's newest.
    superseded: number of readings that lost their slot: duplicates, and the surplus of fast producers.
    new_rows: int64, the rows of devices that became active; theirs until they fall silent.
    forgotten: ids that fell silent.
    numbers: uint64[forgotten], see `Windower.numbers`.
    newest_records, last_records: int64[forgotten], offsets of the record that holds each one's newest slot, and of its
        last one.
    strayed: bool[forgotten], whether one of the records after the newest slot's had a reading further behind the newest
        than the lateness: a replay that begins between them would take such a device for younger than it was.
    """

    frames: Frames
    consumed: int = 0
    more: bool = False
    incomplete: int = 0
    late: Int64s = field(default_factory=lambda: _NO_ROWS)
    superseded: int = 0
    new_rows: Int64s = field(default_factory=lambda: _NO_ROWS)
    forgotten: list[bytes] = field(default_factory=list)
    numbers: UInt64s = field(default_factory=lambda: _NO_NUMBERS)
    newest_records: Int64s = field(default_factory=lambda: _NO_ROWS)
    last_records: Int64s = field(default_factory=lambda: _NO_ROWS)
    strayed: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))


_NO_FRAMES = Frames(
    device_id=np.empty((0, device_table.MAX_ID_BYTES), dtype=np.uint8),
    id_size=np.empty(0, dtype=np.int32),
    start_ms=np.empty(0, dtype=np.int64),
    values=np.empty((0, WINDOW_SLOTS, 3), dtype=np.float32),
    measured=np.empty(0, dtype=np.int32),
    longest_gap_ms=np.empty(0, dtype=np.int32),
    by_silence=np.empty(0, dtype=np.bool_),
    source_offset=np.empty(0, dtype=np.int64),
    reading=np.empty(0, dtype=np.int64),
    row=np.empty(0, dtype=np.int64),
    device=np.empty(0, dtype=np.uint64),
)


_NONE_SILENT = Step(_NO_FRAMES)


class Windower:
    """The open windows of one partition's devices.

    Deterministic: what it returns depends on its arguments and on nothing else. Offsets and `processed_at` never
    decrease from call to call. Not thread-safe; the compiled loops release the GIL.

    A device takes 204 bytes, with its id of up to 128, and 21 for each of its 80 + `lateness_slots` slots: 2.0 KB at
    the default, under 2.5 KB up to 29 slots of lateness.

    Args:
        lateness_slots: how far behind its device's newest, in slots of 50 ms, a reading surely still counts.
        max_gap_ms: a complete window has no gap of n empty slots with 50 (n + 1) greater than this.
        idle_timeout_s: a device is silent once the oldest reading its open windows hold was processed this long ago.
        max_frames: the most frames a call returns.

    Raises:
        ValueError: a setting is outside its range.

    """

    def __init__(
        self,
        *,
        lateness_slots: int = LATENESS_SLOTS,
        max_gap_ms: int = MAX_GAP_MS,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        max_frames: int = 4096,
    ) -> None:
        if not 0 <= lateness_slots <= _MAX_LATENESS_SLOTS:
            raise ValueError(f"lateness_slots is {lateness_slots}: it must be 0 to {_MAX_LATENESS_SLOTS}")
        if max_gap_ms < SLOT_MS:
            raise ValueError(f"max_gap_ms is {max_gap_ms}: neighbouring slots are {SLOT_MS} ms apart, it can't be less")
        if not 0 < idle_timeout_s < math.inf:
            raise ValueError(f"idle_timeout_s is {idle_timeout_s}: it must be more than 0, and finite")
        ring = WINDOW_SLOTS + lateness_slots
        at_once = -(-ring // STRIDE_SLOTS)
        if max_frames < at_once:
            raise ValueError(
                f"max_frames is {max_frames}: a single reading can close {at_once} windows, it must be at least that"
            )
        self._idle_timeout_s = idle_timeout_s
        # An int: for a float, numba would compile the kernels again.
        self._max_gap_slots = int(min(max_gap_ms // SLOT_MS - 1, WINDOW_SLOTS))
        self._rings = _new_rings(_MIN_CAPACITY, ring)
        self._table = device_table.new_table(_MIN_CAPACITY)
        self._free = np.arange(_MIN_CAPACITY - 1, -1, -1, dtype=np.int64)  # a stack, of which so many are left:
        self._left = _MIN_CAPACITY
        self._active = 0
        self._buffer = _new_buffer(max_frames)
        self._processing_times = ProcessingTimes(idle_timeout_s)
        self._reached = -1

    def __len__(self) -> int:
        """Return the number of active devices."""
        return self._active

    def __contains__(self, device_id: bytes) -> bool:
        return self._row_of(device_id) != device_table.FREE

    @property
    def nbytes(self) -> int:
        """Bytes reserved for the state of devices, active or not."""
        return sum(column.nbytes for column in (*self._rings, *self._table, self._free))

    def push(
        self,
        ids: Bytes,
        id_at: Int64s,
        id_end: Int64s,
        timestamp_ms: Int64s,
        xyz: Float32s,
        offset: Int64s,
        processed_at: float,
        start: int = 0,
    ) -> Step:
        """Take in the readings from row `start` on, and cut the windows that they close.

        Stops between two readings if the next one might bring more than `max_frames` frames. Then `Step.more` is true,
        and the same batch is to be pushed again with `start=step.consumed`.

        Args:
            ids: uint8[m], the bytes in which the device ids lie.
            id_at: int64[n], where each reading's id begins.
            id_end: int64[n], where it ends; it has up to 128 bytes.
            timestamp_ms: int64[n], epoch ms, strictly within +-2**62.
            xyz: float32[n, 3], finite.
            offset: int64[n], each reading's record; never decreasing.
            processed_at: seconds on the caller's clock.
            start: the first row to take in.

        Raises:
            ValueError: the columns don't fit each other or are out of range; nothing has been taken in.
        """
        ids = _read_only(np.require(ids, np.uint8, ["C", "A"]))
        id_at = _column(id_at, np.int64)
        id_end = _column(id_end, np.int64)
        timestamp_ms = _column(timestamp_ms, np.int64)
        xyz = _column(xyz, np.float32)
        offset = _column(offset, np.int64)
        self._check(ids, id_at, id_end, timestamp_ms, xyz, offset, start)
        if start == len(id_at):
            return Step(_NO_FRAMES, consumed=start)
        self._processing_times.record(int(offset[start]), processed_at)
        rows, joined = self._find_rows(ids, id_at, id_end, start)
        late_ms = np.empty(len(rows) - start, dtype=np.int64)
        consumed, cut, incomplete, superseded, late = kernels.merge(
            rows, timestamp_ms, xyz, offset, start, self._max_gap_slots, self._rings, self._buffer, late_ms
        )
        self._reached = int(offset[consumed - 1])
        if len(joined):  # but a device whose readings all come after an early stop has not
            absent = self._rings.newest_ms[joined] == kernels.NEVER
            self._release(joined[absent])
            joined = joined[~absent]
        return Step(
            self._frames(cut, by_silence=False),
            consumed=consumed,
            more=consumed < len(rows),
            incomplete=incomplete,
            late=late_ms[:late].copy() if late else _NO_ROWS,
            superseded=superseded,
            new_rows=joined,
        )

    def are_absent(self, ids: Bytes, id_at: Int64s, id_end: Int64s) -> npt.NDArray[np.bool_]:
        """Return for each of n ids, given as in `push`, whether no active device has it.

        Raises:
            ValueError: an id lies outside the bytes, or is too long.
        """
        ids = _read_only(np.require(ids, np.uint8, ["C", "A"]))
        id_at, id_end = _column(id_at, np.int64), _column(id_end, np.int64)
        size = id_end - id_at
        inside = (id_at >= 0) & (size >= 0) & (size <= device_table.MAX_ID_BYTES) & (id_end <= len(ids))
        if not inside.all():
            row = int(np.argmin(inside))
            raise ValueError(
                f"row {row} has its id at {id_at[row]} to {id_end[row]}: it must lie in the {len(ids)} bytes and have "
                f"up to {device_table.MAX_ID_BYTES}"
            )
        return device_table.are_absent(self._table, device_table.KEY, ids, id_at, id_end)

    def fall_silent(self, caught_up_at: float) -> Step:
        """Close all windows of the devices that are silent at `caught_up_at`, and forget those devices.

        A device is silent if the oldest reading in its open windows was processed at or before `caught_up_at` less
        `idle_timeout_s`. Never early; late by at most 1/512 of `idle_timeout_s` or, if `caught_up_at` lagged by more,
        of its lag. `caught_up_at` is on the clock of `processed_at`, may stand still, and may be infinite: minus before
        the first fetch response, plus to close everything.
        """
        moment = caught_up_at - self._idle_timeout_s
        bound = self._processing_times.processed_by(moment)
        silent = np.flatnonzero(self._rings.oldest < (kernels.NO_OFFSET if bound is None else bound))
        if not len(silent):  # nearly always
            self._processing_times.forget_until(moment)
            return _NONE_SILENT
        done, cut, incomplete = kernels.silence(silent, self._max_gap_slots, self._rings, self._buffer)
        rows = silent[:done]
        newest = self._newest_records(rows)
        step = Step(
            self._frames(cut, by_silence=True),
            more=done < len(silent),
            incomplete=incomplete,
            forgotten=self.device_ids(rows),
            numbers=self.numbers(rows),
            newest_records=newest,
            last_records=self._rings.last[rows],
            strayed=self._rings.strayed[rows] > newest,
        )
        self._release(rows)
        self._processing_times.forget_until(moment)
        return step

    def device_ids(self, rows: Int64s) -> list[bytes]:
        """Return the ids of the devices in these rows, as objects: not for the hot path."""
        return [] if len(rows) == 0 else _as_objects(self._table.id[rows], self._table.size[rows])

    def numbers(self, rows: Int64s) -> UInt64s:
        """Return the numbers that identify the devices in these rows in this process."""
        return self._table.hash[rows]

    def count_shared(self, rows: Int64s, others: Iterable["Windower"]) -> int:
        """Return how many of the devices in these rows another windower has, too."""
        absent = rows.copy()
        for other in others:
            absent = absent[: device_table.keep_absent(self._table, absent, other._table)]
        return len(rows) - len(absent)

    def rewind_to(self, position: int) -> int:
        """Return the offset of the oldest record with a reading in an open window, or `position` if there is none."""
        return min(int(self._rings.oldest.min()), position)

    def is_open(self, device_id: bytes, start_ms: int) -> bool:
        """Return whether a device's window may still hold readings, or receive some."""
        row = self._row_of(device_id)
        if row == device_table.FREE:
            return False
        newest_slot = (int(self._rings.newest_ms[row]) + SLOT_MS // 2) // SLOT_MS
        return bool(start_ms // SLOT_MS > newest_slot - self._rings.rank.shape[1])

    def _check(
        self,
        ids: Bytes,
        id_at: Int64s,
        id_end: Int64s,
        timestamp_ms: Int64s,
        xyz: Float32s,
        offset: Int64s,
        start: int,
    ) -> None:
        """Raise ValueError for arguments that would take the compiled loops, which check nothing, out of bounds."""
        n, longest = len(id_at), device_table.MAX_ID_BYTES
        shapes = ids.shape, id_at.shape, id_end.shape, timestamp_ms.shape, xyz.shape, offset.shape
        if shapes != ((len(ids),), (n,), (n,), (n,), (n, 3), (n,)):
            raise ValueError(
                f"columns of shapes {shapes}: they must be (m,), (n,), (n,), (n,), (n, 3) and (n,) for one m and n"
            )
        if not 0 <= start <= n:
            raise ValueError(f"start is {start}: it must be a row of the batch, 0 to {n}")
        row = kernels.first_fault(len(ids), longest, id_at, id_end, timestamp_ms, offset, self._reached, start)
        if row >= 0:
            before = offset[row - 1] if row > start else self._reached
            raise ValueError(
                f"row {row} has its id at {id_at[row]} to {id_end[row]}, timestamp_ms {timestamp_ms[row]} and, after "
                f"{before}, offset {offset[row]}: the id must lie in the {len(ids)} bytes and have up to {longest}, "
                "the time be within 2**62 ms of the epoch, and offsets not go back (to read records again, take a new "
                "Windower)"
            )

    def _find_rows(self, ids: Bytes, id_at: Int64s, id_end: Int64s, start: int) -> tuple[Int64s, Int64s]:
        """Return the row of each reading's device, and the rows newly given to devices."""
        rows = np.empty(len(id_at), dtype=np.int64)
        joined: list[Int64s] = []
        while True:
            start, left, _ = device_table.take_rows(
                self._table,
                device_table.KEY,
                ids,
                id_at,
                id_end,
                start,
                self._free,
                self._left,
                self._rings.phase,
                rows,
            )
            if left < self._left:
                joined.append(self._free[left : self._left][::-1].copy())
                self._left = left
            if start == len(rows):
                break
            self._grow()
        new = np.concatenate(joined) if joined else _NO_ROWS
        self._active += len(new)
        if len(new):
            self._rings.newest_ms[new] = kernels.NEVER
            self._rings.strayed[new] = kernels.NEVER
            self._rings.rank[new] = kernels.EMPTY
        return rows, new

    def _grow(self) -> None:
        """Double the rows; none of them is free."""
        old = len(self._free)
        rings = _new_rings(2 * old, self._rings.rank.shape[1])
        for column in Rings._fields:
            getattr(rings, column)[:old] = getattr(self._rings, column)
        self._rings = rings
        self._table = device_table.doubled(self._table)
        self._free = np.empty(2 * old, dtype=np.int64)
        self._free[:old] = np.arange(2 * old - 1, old - 1, -1)
        self._left = old

    def _release(self, rows: Int64s) -> None:
        if not len(rows):
            return
        device_table.release(self._table, rows)
        self._rings.oldest[rows] = kernels.NO_OFFSET
        self._free[self._left : self._left + len(rows)] = rows
        self._left += len(rows)
        self._active -= len(rows)

    def _row_of(self, device_id: bytes) -> int:
        if len(device_id) > device_table.MAX_ID_BYTES:
            return device_table.FREE
        return device_table.find_row(self._table, device_table.KEY, np.frombuffer(device_id, np.uint8))

    def _newest_records(self, rows: Int64s) -> Int64s:
        newest = (self._rings.newest_ms[rows] + SLOT_MS // 2) // SLOT_MS
        held: Int64s = self._rings.held[rows, newest % self._rings.rank.shape[1]]
        return held

    def _frames(self, cut: int, by_silence: bool) -> Frames:
        """Copy the frames out of the buffer, which the next call overwrites."""
        if cut == 0:
            return _NO_FRAMES
        buffer = self._buffer
        return Frames(
            device_id=self._table.id[buffer.row[:cut]],
            id_size=self._table.size[buffer.row[:cut]],
            start_ms=buffer.start[:cut] * SLOT_MS,
            values=buffer.values[:cut].copy(),
            measured=buffer.measured[:cut].copy(),
            longest_gap_ms=SLOT_MS * (buffer.gap[:cut] + 1),
            by_silence=np.full(cut, by_silence),
            source_offset=buffer.source[:cut].copy(),
            reading=buffer.reading[:cut].copy(),
            row=buffer.row[:cut].copy(),
            device=self._table.hash[buffer.row[:cut]],
        )


def warm_up() -> None:
    """Compile the kernels, or load them from their cache, so that the first reading doesn't wait for it."""
    first_call(_call_each_kernel, entries=9)


def _call_each_kernel() -> None:
    windower = Windower()
    one = np.zeros(1, dtype=np.int64)
    windower.push(np.empty(0, np.uint8), one, one, one, np.zeros((1, 3), dtype=np.float32), one, 0.0)
    windower.is_open(b"", 0)
    windower.are_absent(np.empty(0, np.uint8), one, one)
    windower.count_shared(one, [windower])
    windower._grow()
    windower.fall_silent(np.inf)


def _column(array: npt.NDArray[Any], dtype: type) -> npt.NDArray[Any]:
    """Return the array itself if the compiled loops can take it, else a copy."""
    if array.dtype == dtype and array.flags.carray:
        return array
    return np.require(array, dtype, ["C", "A", "W"])


def _read_only(ids: Bytes) -> Bytes:
    """Return a read-only view, as bytes are read-only, so that the kernels are compiled for one kind of array."""
    view = ids.view()
    view.flags.writeable = False
    return view


def _as_objects(device_id: Bytes, size: Int32s) -> list[bytes]:
    return [row[:n].tobytes() for row, n in zip(device_id, size.tolist(), strict=True)]


def _new_rings(rows: int, ring: int) -> Rings:
    return Rings(
        newest_ms=np.full(rows, kernels.NEVER, dtype=np.int64),
        phase=np.zeros(rows, dtype=np.int64),
        oldest=np.full(rows, kernels.NO_OFFSET, dtype=np.int64),
        last=np.zeros(rows, dtype=np.int64),
        strayed=np.full(rows, kernels.NEVER, dtype=np.int64),
        rank=np.full((rows, ring), kernels.EMPTY, dtype=np.int8),
        held=np.zeros((rows, ring), dtype=np.int64),
        xyz=np.zeros((rows, ring, 3), dtype=np.float32),
    )


def _new_buffer(rows: int) -> FrameBuffer:
    # Not zeroed: memory that no frame has used is never touched, so a large bound costs nothing.
    return FrameBuffer(
        row=np.empty(rows, dtype=np.int64),
        start=np.empty(rows, dtype=np.int64),
        values=np.empty((rows, WINDOW_SLOTS, 3), dtype=np.float32),
        measured=np.empty(rows, dtype=np.int32),
        gap=np.empty(rows, dtype=np.int32),
        source=np.empty(rows, dtype=np.int64),
        reading=np.empty(rows, dtype=np.int64),
    )
