"""The windows of one partition's devices: readings in, frames out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from windowing import kernels
from windowing.ages import Ages
from windowing.compiled import first_call
from windowing.grid import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS, phase
from windowing.kernels import Float32s, Int32s, Int64s, Rings, Sheet

_MOST_LATENESS_SLOTS = 1200
_SMALLEST_CAPACITY = 64


@dataclass(frozen=True, slots=True)
class Frames:
    """Closed and complete windows, one row each; there may be none.

    device_id: object[m] of bytes.
    start_ms: int64[m], centre of the first slot, epoch ms.
    values: float32[m, 80, 3], in the readings' unit.
    measured: int32[m], slots measured rather than interpolated; coverage is measured / 80.
    longest_gap_ms: int32[m], 50 (n + 1) for the longest run of n empty slots.
    by_silence: bool[m].
    source_offset: int64[m], offset of the record that closed the window, or the device's last before its silence.
    reading: int64[m], row in the pushed batch of the closing reading, -1 for a silence.
    """

    device_id: npt.NDArray[np.object_]
    start_ms: Int64s
    values: Float32s
    measured: Int32s
    longest_gap_ms: Int32s
    by_silence: npt.NDArray[np.bool_]
    source_offset: Int64s
    reading: Int64s

    def __len__(self) -> int:
        return len(self.start_ms)


@dataclass(frozen=True, slots=True)
class Step:
    """What one call did.

    frames: the windows that closed and are complete.
    consumed: row of the batch to continue at; its length when all of it is consumed. 0 for a silence.
    more: whether the call stopped early, because `max_frames` might not have been enough: call again.
    incomplete: number of windows that closed with too long a hole.
    late: int64, for each reading dropped because its windows have closed, ms behind its device's newest.
    superseded: number of readings that lost their slot: duplicates, and the surplus of fast producers.
    new_devices: ids that became active.
    forgotten: ids that fell silent.
    first_records, last_records: int64[forgotten], offsets of the oldest record that each one held, and of its last one.
    strayed: bool[forgotten], whether one of the readings since was further behind the newest than the lateness: a
        replay that begins after the record of the newest would take such a device for younger than it was.
    """

    frames: Frames
    consumed: int = 0
    more: bool = False
    incomplete: int = 0
    late: Int64s = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    superseded: int = 0
    new_devices: list[bytes] = field(default_factory=list)
    forgotten: list[bytes] = field(default_factory=list)
    first_records: Int64s = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    last_records: Int64s = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    strayed: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))


_NO_FRAMES = Frames(
    device_id=np.empty(0, dtype=np.object_),
    start_ms=np.empty(0, dtype=np.int64),
    values=np.empty((0, WINDOW_SLOTS, 3), dtype=np.float32),
    measured=np.empty(0, dtype=np.int32),
    longest_gap_ms=np.empty(0, dtype=np.int32),
    by_silence=np.empty(0, dtype=np.bool_),
    source_offset=np.empty(0, dtype=np.int64),
    reading=np.empty(0, dtype=np.int64),
)


class Windower:
    """The open windows of one partition's devices.

    Deterministic: what it returns depends on its arguments and on nothing else. Offsets and `processed_at` never
    decrease from call to call. Not thread-safe; the compiled loops release the GIL.

    A device takes 48 bytes and 21 for each of its 80 + `lateness_slots` slots: 1.8 KB at the default, under 2.5 KB up
    to 36 slots of lateness; its id and its place in the dictionary, some 150 bytes, come on top.

    Args:
        lateness_slots: how far behind its device's newest, in slots of 50 ms, a reading surely still counts.
        max_gap_ms: a complete window has no hole of n empty slots with 50 (n + 1) greater than this.
        idle_timeout_s: a device is silent once the oldest reading its open windows hold was processed this long ago.
        max_frames: the most frames a call returns.

    Raises:
        ValueError: a setting is outside its range.

    """

    def __init__(
        self,
        *,
        lateness_slots: int = 4,
        max_gap_ms: int = 250,
        idle_timeout_s: float = 60.0,
        max_frames: int = 4096,
    ) -> None:
        if not 0 <= lateness_slots <= _MOST_LATENESS_SLOTS:
            raise ValueError(f"lateness_slots is {lateness_slots}: it must be 0 to {_MOST_LATENESS_SLOTS}")
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
        self._max_hole = int(min(max_gap_ms // SLOT_MS - 1, WINDOW_SLOTS))  # a float would be another kernel to compile
        self._rings = _new_rings(_SMALLEST_CAPACITY, ring)
        self._ids = np.empty(_SMALLEST_CAPACITY, dtype=np.object_)
        self._rows: dict[bytes, int] = {}
        self._free = list(range(_SMALLEST_CAPACITY - 1, -1, -1))
        self._sheet = _new_sheet(max_frames)
        self._ages = Ages(idle_timeout_s)
        self._reached = -1

    def __len__(self) -> int:
        """Return the number of active devices."""
        return len(self._rows)

    def __contains__(self, device_id: bytes) -> bool:
        return device_id in self._rows

    @property
    def nbytes(self) -> int:
        """Bytes reserved for the state of devices, active or not."""
        return sum(column.nbytes for column in self._rings) + self._ids.nbytes

    def push(
        self,
        device_ids: Sequence[bytes],
        device: Int32s,
        timestamp_ms: Int64s,
        xyz: Float32s,
        offset: Int64s,
        processed_at: float,
        start: int = 0,
    ) -> Step:
        """Take in the readings from row `start` on, and cut the windows that they close.

        Stops between two readings when the next one might bring more than `max_frames` frames; then `Step.more` is
        true, and the same batch is to be pushed again with `start=step.consumed`.

        Args:
            device_ids: distinct ids of the batch's devices.
            device: int32[n], indices into `device_ids`.
            timestamp_ms: int64[n], epoch ms, strictly within +-2**62.
            xyz: float32[n, 3], finite.
            offset: int64[n], each reading's record; never decreasing.
            processed_at: seconds on the caller's clock.
            start: the first row to take in.

        Raises:
            ValueError: the columns don't fit each other or are out of range; nothing has been taken in.

        """
        device = np.require(device, np.int32, ["C", "A", "W"])
        timestamp_ms = np.require(timestamp_ms, np.int64, ["C", "A", "W"])
        xyz = np.require(xyz, np.float32, ["C", "A", "W"])
        offset = np.require(offset, np.int64, ["C", "A", "W"])
        self._check(len(device_ids), device, timestamp_ms, xyz, offset, start)
        if start == len(device):
            return Step(_NO_FRAMES, consumed=start)
        self._ages.note(int(offset[start]), processed_at)
        rows, joined = self._find_rows(device_ids)
        late_ms = np.empty(len(device) - start, dtype=np.int64)
        consumed, cut, incomplete, superseded, late = kernels.merge(
            rows, device, timestamp_ms, xyz, offset, start, self._max_hole, self._rings, self._sheet, late_ms
        )
        self._reached = int(offset[consumed - 1])
        # A device whose readings all come after an early stop, or were consumed before it, has not joined.
        absent = [i for i in joined if self._rings.newest_ms[rows[i]] == kernels.NEVER]
        self._release([device_ids[i] for i in absent])
        return Step(
            self._frames(cut, by_silence=False),
            consumed=consumed,
            more=consumed < len(device),
            incomplete=incomplete,
            late=late_ms[:late].copy(),
            superseded=superseded,
            new_devices=[device_ids[i] for i in joined if device_ids[i] in self._rows],
        )

    def fall_silent(self, heard_until: float) -> Step:
        """Close all windows of the devices that are silent, judged at `heard_until`, and forget those devices.

        A device is silent if the oldest reading its open windows hold was processed at or before `heard_until` less
        `idle_timeout_s`. Never early; late by at most 1/512 of `idle_timeout_s` or, where `heard_until` lagged by more,
        of its lag. `heard_until` is on the clock of `processed_at`, may stand still, and may be infinite: minus for
        nothing heard yet, plus to close everything.
        """
        moment = heard_until - self._idle_timeout_s
        bound = self._ages.processed_by(moment)
        silent = np.flatnonzero(self._rings.oldest < (kernels.NOTHING if bound is None else bound))
        done, cut, incomplete = kernels.silence(silent, self._max_hole, self._rings, self._sheet)
        rows = silent[:done]
        forgotten: list[bytes] = self._ids[rows].tolist()
        step = Step(
            self._frames(cut, by_silence=True),
            more=done < len(silent),
            incomplete=incomplete,
            forgotten=forgotten,
            first_records=self._rings.oldest[rows],
            last_records=self._rings.last[rows],
            strayed=self._rings.strayed[rows] >= self._rings.oldest[rows],
        )
        self._release(forgotten)
        self._ages.forget_until(moment)
        return step

    def rewind_to(self, position: int) -> int:
        """Return the offset of the oldest record whose reading an open window holds, or `position` if there is none."""
        return min(int(self._rings.oldest.min()), position)

    def is_open(self, device_id: bytes, start_ms: int) -> bool:
        """Tell whether a device's window may still hold readings, or take some in."""
        row = self._rows.get(device_id)
        if row is None:
            return False
        newest_slot = (int(self._rings.newest_ms[row]) + SLOT_MS // 2) // SLOT_MS
        return bool(start_ms // SLOT_MS > newest_slot - self._rings.rank.shape[1])

    def _check(
        self, devices: int, device: Int32s, timestamp_ms: Int64s, xyz: Float32s, offset: Int64s, start: int
    ) -> None:
        """Keep the compiled loops, which check nothing, from reading and writing outside their arrays."""
        n = len(device)
        shapes = device.shape, timestamp_ms.shape, xyz.shape, offset.shape
        if shapes != ((n,), (n,), (n, 3), (n,)):
            raise ValueError(f"columns of shapes {shapes}: they must be (n,), (n,), (n, 3) and (n,) for one n")
        if not 0 <= start <= n:
            raise ValueError(f"start is {start}: it must be a row of the batch, 0 to {n}")
        row = kernels.first_fault(devices, device, timestamp_ms, offset, self._reached, start)
        if row >= 0:
            before = offset[row - 1] if row > start else self._reached
            raise ValueError(
                f"row {row} has device {device[row]}, timestamp_ms {timestamp_ms[row]} and, after {before}, "
                f"offset {offset[row]}: the device must index the {devices} device_ids, the time be within 2**62 ms "
                "of the epoch, and offsets not go back (to read records again, take a new Windower)"
            )

    def _find_rows(self, device_ids: Sequence[bytes]) -> tuple[Int64s, list[int]]:
        """Return each device's row, and the indices of those that had none and were given one."""
        rows = np.empty(len(device_ids), dtype=np.int64)
        joined = []
        for i, device_id in enumerate(device_ids):
            row = self._rows.get(device_id)
            if row is None:
                row = self._take_row(device_id)
                joined.append(i)
            rows[i] = row
        if joined:
            self._rings.newest_ms[rows[joined]] = kernels.NEVER
            self._rings.strayed[rows[joined]] = kernels.NEVER
            self._rings.rank[rows[joined]] = kernels.EMPTY
        return rows, joined

    def _take_row(self, device_id: bytes) -> int:
        if not self._free:
            self._grow()
        row = self._free.pop()
        self._rows[device_id] = row
        self._ids[row] = device_id
        self._rings.phase[row] = phase(device_id)
        return row

    def _grow(self) -> None:
        old = len(self._ids)
        rings = _new_rings(2 * old, self._rings.rank.shape[1])
        for column in Rings._fields:
            getattr(rings, column)[:old] = getattr(self._rings, column)
        self._rings = rings
        self._ids = np.concatenate([self._ids, np.empty(old, dtype=np.object_)])
        self._free.extend(range(2 * old - 1, old - 1, -1))

    def _release(self, device_ids: Sequence[bytes]) -> None:
        for device_id in device_ids:
            row = self._rows.pop(device_id)
            self._rings.oldest[row] = kernels.NOTHING
            self._ids[row] = None
            self._free.append(row)

    def _frames(self, cut: int, by_silence: bool) -> Frames:
        """Copy the frames out of the sheet, which the next call writes over."""
        if cut == 0:
            return _NO_FRAMES
        sheet = self._sheet
        return Frames(
            device_id=self._ids[sheet.row[:cut]],
            start_ms=sheet.start[:cut] * SLOT_MS,
            values=sheet.values[:cut].copy(),
            measured=sheet.measured[:cut].copy(),
            longest_gap_ms=SLOT_MS * (sheet.hole[:cut] + 1),
            by_silence=np.full(cut, by_silence),
            source_offset=sheet.source[:cut].copy(),
            reading=sheet.reading[:cut].copy(),
        )


def warm_up() -> None:
    """Compile the kernels, or load them from their cache, so that the first reading needn't wait for it."""
    first_call(_call_each_kernel, entries=3)


def _call_each_kernel() -> None:
    windower = Windower()
    column = np.zeros(1, dtype=np.int64)
    windower.push([b""], column.astype(np.int32), column, np.zeros((1, 3), dtype=np.float32), column, 0.0)
    windower.fall_silent(np.inf)


def _new_rings(rows: int, ring: int) -> Rings:
    return Rings(
        newest_ms=np.full(rows, kernels.NEVER, dtype=np.int64),
        phase=np.zeros(rows, dtype=np.int64),
        oldest=np.full(rows, kernels.NOTHING, dtype=np.int64),
        last=np.zeros(rows, dtype=np.int64),
        strayed=np.full(rows, kernels.NEVER, dtype=np.int64),
        rank=np.full((rows, ring), kernels.EMPTY, dtype=np.int8),
        held=np.zeros((rows, ring), dtype=np.int64),
        xyz=np.zeros((rows, ring, 3), dtype=np.float32),
    )


def _new_sheet(rows: int) -> Sheet:
    # Empty rather than zeroed: memory that no frame has used yet is never touched, so a large bound costs nothing.
    return Sheet(
        row=np.empty(rows, dtype=np.int64),
        start=np.empty(rows, dtype=np.int64),
        values=np.empty((rows, WINDOW_SLOTS, 3), dtype=np.float32),
        measured=np.empty(rows, dtype=np.int32),
        hole=np.empty(rows, dtype=np.int32),
        source=np.empty(rows, dtype=np.int64),
        reading=np.empty(rows, dtype=np.int64),
    )
