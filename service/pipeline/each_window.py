"""The stream of a kind of worker that labels windows of devices' readings as activities."""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from kafka.structs import TopicPartition
from numpy.typing import NDArray

from inference.core import Result
from ingest.messages.decode import Readings
from ingest.messages.labels import encode_activities
from ingest.record_batches.bodies import Bodies
from ingest.record_batches.record_columns import Records
from ingest.rejections import Rejection
from service.delivery.silent_devices import SilentDevices
from service.kind import Block, Stream
from service.monitoring.metrics import WindowMetrics, observe_all
from service.pipeline.device_limit import has_room, refuse_beyond_limit
from service.pipeline.log_time import LogTime, Piece
from windowing import WINDOW_MS, Frames, Smoother, Step, Windower


@dataclasses.dataclass(frozen=True, slots=True)
class Windows:
    """What the labels of windows need: the windows, and the smoother, which knows the probabilities before them."""

    frames: Frames
    smoother: Smoother | None


class EachWindow(Stream):
    """Turns one partition's records into frames: readings go into ring buffers, complete windows come out.

    ``others`` holds the streams of all partitions, including this one. Without a ``smoother``, labels are not smoothed.
    With ``log_time``, silence is judged by the log's timestamps; without, by the caller's clock.
    """

    def __init__(
        self,
        source: TopicPartition,
        decode: Callable[[Records], tuple[Readings, Sequence[Rejection]]],
        windower: Windower,
        metrics: WindowMetrics,
        others: "weakref.WeakSet[EachWindow]",
        smoother: Smoother | None,
        log_time: LogTime | None = None,
        *,
        max_devices: int,
    ) -> None:
        self._source = source
        self._decode = decode
        self._windower = windower
        self._metrics = metrics
        self._others = others
        self._smoother = smoother
        self._log_time = log_time
        self._max_devices = max_devices
        self._silent_devices = SilentDevices()
        self._skip_until = -1
        self._readings = self._late = 0  # since they were last taken
        others.add(self)

    def push(self, records: Records, processed_at: float, *, mute: bool) -> tuple[Sequence[Rejection], Iterator[Block]]:
        """Decode readings; return the rejections, and blocks of the windows that the readings close."""
        readings, rejections = self._decode(records)
        if records.offset[0] <= self._skip_until:
            readings = self._without_skipped(records, readings)
        beyond_limit = list[Rejection]()
        if self._log_time is None:
            blocks = self._windows(records, self._within_limit(readings, mute, beyond_limit), processed_at, mute)
        else:
            room = has_room(readings, self._windower, self._max_devices)
            pieces = self._log_time.pieces(records.timestamp)
            blocks = self._windows_and_silences(records, readings, pieces, mute, beyond_limit)
            if not room:  # which are refused depends on which devices have fallen silent before
                blocks = iter(list(blocks))
        if beyond_limit:
            rejections = sorted([*rejections, *beyond_limit], key=lambda refused: refused.record)
        return rejections, blocks

    def fall_silent(self, caught_up_at: float) -> Iterator[Block]:
        """Close the windows of devices that are silent at ``caught_up_at``."""
        while True:
            step = self._windower.fall_silent(caught_up_at)
            if not step.forgotten:
                return
            self._silent_devices.add(
                step.forgotten,
                step.numbers.tolist(),
                step.newest_records.tolist(),
                step.last_records.tolist(),
                step.strayed.tolist(),
            )
            self._count(step)
            if len(step.frames):
                yield self._block(step.frames, np.full(len(step.frames), -1, np.int64), silent=True)
            if not step.more:
                return

    def rewind_to(self, position: int) -> int:
        """Return the offset of the oldest record in an open window; ``position`` if none is open.

        It may be held back further: see ``SilentDevices.hold``.
        """
        held = self._silent_devices.hold(self._windower.rewind_to(position))
        self._metrics.overflow.inc(self._silent_devices.overflow())
        return held

    def restore(self, skip_until: Mapping[bytes, int]) -> None:
        """Take over which devices to skip from the last commit."""
        self._silent_devices = SilentDevices(skip_until)
        self._skip_until = max(skip_until.values(), default=-1)

    def skip_until(self) -> Mapping[bytes, int]:
        """Return which devices a replay must skip, and up to which record."""
        return self._silent_devices.skip_until()

    def identities(self, block: Block) -> Sequence[tuple[bytes, int]]:
        """Return each row's device and the start of its window."""
        frames: Frames = block.columns.frames
        return list(zip(frames.device_ids(), frames.start_ms.tolist(), strict=True))

    def last_records(self, block: Block) -> Sequence[int]:
        """Return, for each row, the offset of the record that closed its window, or of its device's last record."""
        frames: Frames = block.columns.frames
        return list(frames.source_offset.tolist())

    def select(self, block: Block, rows: NDArray[np.intp]) -> Block:
        """Return a block of some of its rows."""
        frames: Frames = block.columns.frames
        chosen = Frames(**{column.name: getattr(frames, column.name)[rows] for column in dataclasses.fields(frames)})
        return self._block(chosen, block.source_timestamp_ms[rows], silent=block.silent)

    def is_open(self, identity: Any) -> bool:
        """Tell whether a device's window is open."""
        return self._windower.is_open(*identity)

    def count_duplicates(self, count: int) -> None:
        """Count windows that were published before."""
        self._metrics.windows["duplicate"].inc(count)

    def __len__(self) -> int:
        """Return how many devices have an open window."""
        return len(self._windower)

    def take_late(self) -> tuple[int, int]:
        """Return how many readings came since the last call, and how many of them were dropped as late."""
        taken = self._readings, self._late
        self._readings = self._late = 0
        return taken

    def labelled(self, block: Block, rows: slice, at: float) -> None:
        """Count the windows, and observe their age when their labels were there."""
        ages = at - (block.columns.frames.start_ms[rows] + WINDOW_MS) / 1000
        self._metrics.windows["labelled"].inc(len(ages))
        observe_all(self._metrics.window_age, np.maximum(ages, 0.0))

    def _without_skipped(self, records: Records, readings: Readings) -> Readings:
        """Drop readings that a replay must skip: see ``delivery/silent_devices.py``."""
        devices = readings.device_ids()
        skip_until = {device: self._silent_devices.last_record(device) for device in set(devices)}
        last = np.fromiter(map(skip_until.__getitem__, devices), np.int64, len(devices))
        return readings[records.offset[readings.record] > last]

    def _within_limit(self, readings: Readings, mute: bool, beyond_limit: list[Rejection]) -> Readings:
        """Drop readings of devices beyond the limit, and add their rejections to ``beyond_limit``."""
        readings, refused = refuse_beyond_limit(readings, self._windower, self._max_devices)
        beyond_limit += refused
        if not mute:
            self._metrics.samples.inc(len(readings.record))
            self._readings += len(readings.record)
        return readings

    def _windows(self, records: Records, readings: Readings, processed_at: float, mute: bool) -> Iterator[Block]:
        offsets = records.offset[readings.record]
        start, total = 0, len(offsets)
        while start < total:
            step = self._windower.push(
                readings.ids,
                readings.id_at,
                readings.id_end,
                readings.timestamp_ms,
                readings.xyz,
                offsets,
                processed_at,
                start,
            )
            start = step.consumed
            if not mute:
                self._count(step)
            if len(step.frames):
                yield self._block(step.frames, records.timestamp[readings.record[step.frames.reading]])

    def _windows_and_silences(
        self,
        records: Records,
        readings: Readings,
        pieces: Sequence[Piece],
        mute: bool,
        beyond_limit: list[Rejection],
    ) -> Iterator[Block]:
        start = 0
        for piece in pieces:
            stop = int(np.searchsorted(readings.record, piece.stop))
            yield from self._windows(
                records, self._within_limit(readings[start:stop], mute, beyond_limit), piece.at, mute
            )
            if not mute:  # a replay must not close windows that are open at the position
                yield from self.fall_silent(piece.at)
            start = stop

    def _block(self, frames: Frames, source_timestamp_ms: NDArray[np.int64], *, silent: bool = False) -> Block:
        return Block(frames.values, source_timestamp_ms, Windows(frames, self._smoother), silent)

    def _count(self, step: Step) -> None:
        metrics = self._metrics
        if step.incomplete:
            metrics.windows["incomplete"].inc(step.incomplete)
        if step.superseded:
            metrics.dropped["superseded"].inc(step.superseded)
        if len(step.late):
            metrics.dropped["late"].inc(len(step.late))
            self._late += len(step.late)
            observe_all(metrics.lateness, step.late / 1000)
        if len(step.new_rows):
            self._silent_devices.came_back(self._windower.numbers(step.new_rows))
            # The stream of an earlier assignment of this partition lives on while its frames are in flight.
            others = (other._windower for other in self._others if other._source != self._source)
            metrics.split_devices.inc(self._windower.count_shared(step.new_rows, others))


class _Start(msgspec.Struct):
    window_start: int


def identify(record: Any, source_offset: int) -> tuple[bytes, int] | None:
    """Read the identity of a label: its device, which is the record's key, and the start of its window."""
    if record.key is None:
        return None
    try:
        return record.key, msgspec.json.decode(record.value, type=_Start).window_start
    except (msgspec.DecodeError, TypeError, RecursionError):
        return None


def encode_labels(result: Result, block: Block, source: int) -> Bodies:
    """Encode the labels of the windows in a result."""
    manifest = result.bundle.manifest
    rows = slice(result.start, result.stop)
    windows: Windows = block.columns
    frames = windows.frames
    return encode_activities(
        device_id=frames.device_id[rows],
        id_size=frames.id_size[rows],
        start_ms=frames.start_ms[rows],
        labels=manifest.labels,
        probabilities=result.probabilities,
        familiarity=result.familiarity,
        smoothed=_smoothed(result, windows, rows),
        measured=frames.measured[rows],
        longest_gap_ms=frames.longest_gap_ms[rows],
        by_silence=frames.by_silence[rows],
        model=result.bundle.title,
        source_partition=source,
        source_offset=frames.source_offset[rows],
        bundle_digest=result.bundle.digest,
    )


def _smoothed(result: Result, windows: Windows, rows: slice) -> NDArray[np.int64] | None:
    """Smooth the windows' labels; called once for each window, in the order in which they closed."""
    transitions, frames = result.bundle.manifest.transitions, windows.frames
    if windows.smoother is None or transitions is None:
        return None
    return windows.smoother.smooth(
        frames.row[rows], frames.device[rows], frames.start_ms[rows], result.probabilities, _matrix(transitions)
    )


@functools.lru_cache(maxsize=8)
def _matrix(transitions: tuple[tuple[float, ...], ...]) -> NDArray[np.float32]:
    return np.array(transitions, np.float32)
