"""A fleet's readings as messages of the contract, in bulk."""

import enum
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from kafka.partitioner.default import murmur2

from ingest.contract import BINARY_CHUNK_CONTENT_TYPE, BINARY_HEADER, BINARY_VERSION, MAX_RATE_HZ
from service.replay.fleet import GOLDEN_RATIO, Fleet, FleetReadings


class Form(enum.StrEnum):
    """The contract's three message forms."""

    SAMPLE = "sample"
    CHUNK = "chunk"
    BINARY = "binary"


def headers_of(form: Form) -> list[tuple[str, bytes]]:
    """Return the headers that messages of a form have."""
    return [("content-type", BINARY_CHUNK_CONTENT_TYPE.encode())] if form is Form.BINARY else []


def partition_of(key: bytes, partitions: int) -> int:
    """Return the default partition of a key. Call it once a device: once a message costs a tenth of a core."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages in the order in which they are due.

    `due_ms` float64[n]; `device` int[n]; the values; and `readings` int[n], the number of readings in each.
    """

    due_ms: np.ndarray
    device: np.ndarray
    values: Sequence[bytes]
    readings: np.ndarray


class Pack(Protocol):
    """Puts readings into messages."""

    def __call__(self, readings: FleetReadings, stop_ms: float, *, last: bool) -> Messages:
        """Return all messages due up to `stop_ms`, once all readings were passed in; `last` at the stream's end."""


def packer(fleet: Fleet, form: Form, origin_ms: int, chunk_ms: float) -> Pack:
    """Return a function that packs a fleet's readings; `origin_ms` is when its stream starts, in epoch ms."""
    if form is Form.SAMPLE:
        return _SamplePack(fleet, origin_ms)
    return _ChunkPack(fleet, origin_ms, chunk_ms, binary_chunk if form is Form.BINARY else json_chunk)


_WriteChunk = Callable[[str, np.ndarray, np.ndarray, float], bytes]


class _SamplePack:
    """Each reading is a message."""

    def __init__(self, fleet: Fleet, origin_ms: int) -> None:
        self._templates = [sample_template(device_id) for device_id in fleet.device_ids]
        self._origin_ms = origin_ms

    def __call__(self, readings: FleetReadings, stop_ms: float, *, last: bool) -> Messages:
        templates = self._templates
        columns = (readings.device, readings.timestamp_ms + self._origin_ms, *readings.xyz.T)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        values = [templates[device] % (timestamp, x, y, z) for device, timestamp, x, y, z in rows]
        return Messages(readings.due_ms, readings.device, values, np.ones(len(values), np.int64))


class _ChunkPack:
    """A message holds a device's readings of `chunk_ms`, and is sent when they are complete; devices take turns."""

    def __init__(self, fleet: Fleet, origin_ms: int, chunk_ms: float, write: _WriteChunk) -> None:
        self._ids = fleet.device_ids
        self._period_ms = fleet.period_ms
        self._gap_ms = fleet.gap_ms
        self._origin_ms = origin_ms
        self._chunk_ms = chunk_ms
        self._turn_ms = np.arange(len(fleet.device_ids)) * GOLDEN_RATIO % 1.0 * chunk_ms
        self._write = write
        self._kept: FleetReadings | None = None

    def __call__(self, readings: FleetReadings, stop_ms: float, *, last: bool) -> Messages:
        if self._kept is not None:
            readings = FleetReadings.joined([self._kept, readings])
        turn_ms = self._turn_ms[readings.device]
        number = np.floor((readings.due_ms + turn_ms) / self._chunk_ms)
        due_ms = np.minimum((number + 1) * self._chunk_ms - turn_ms, stop_ms if last else np.inf)
        ready = due_ms <= stop_ms
        self._kept = readings[~ready]
        readings, due_ms = readings[ready], due_ms[ready]
        order = np.lexsort((readings.timestamp_ms, readings.device, due_ms))
        return self._chunks(readings[order], due_ms[order])

    def _chunks(self, readings: FleetReadings, due_ms: np.ndarray) -> Messages:
        starts = self._starts(readings, due_ms)
        ends = np.append(starts, len(readings))[1:]
        device = readings.device[starts]
        values = [
            self._write(
                self._ids[which],
                readings.timestamp_ms[start:end] + self._origin_ms,
                readings.xyz[start:end],
                self._period_ms[which],
            )
            for which, start, end in zip(device.tolist(), starts.tolist(), ends.tolist(), strict=True)
        ]
        return Messages(due_ms[starts], device, values, ends - starts)

    def _starts(self, readings: FleetReadings, due_ms: np.ndarray) -> np.ndarray:
        """Return the rows where a chunk starts: another device or time, or a gap or standstill of the device's clock.

        A chunk can't express readings that are not evenly spaced.
        """
        step = np.diff(readings.timestamp_ms)
        uneven = (step > self._gap_ms[readings.device[1:]]) | (step <= 0)
        new = (np.diff(readings.device) != 0) | (np.diff(due_ms) != 0) | uneven
        return np.flatnonzero(np.concatenate([np.ones(min(1, len(readings)), bool), new]))


def sample_template(device_id: str) -> bytes:
    """Return a format for `bytes % (timestamp, x, y, z)` that gives one sample of this device as JSON.

    Four decimals, a tenth of a millimetre per second squared, are far below what any phone resolves.
    """
    quoted = json.dumps(device_id).replace("%", "%%")
    return f'{{"device_id":{quoted},"timestamp":%d,"x":%.4f,"y":%.4f,"z":%.4f}}'.encode()


def json_chunk(device_id: str, timestamp_ms: np.ndarray, xyz: np.ndarray, period_ms: float) -> bytes:
    """Return readings as one JSON chunk: int64[n] epoch ms, increasing, and float32[n, 3]."""
    rows = ",".join(["[%.4f,%.4f,%.4f]"] * len(xyz)) % tuple(xyz.ravel().tolist())
    start, rate_hz = int(timestamp_ms[0]), _rate_hz(timestamp_ms, period_ms)
    head = f'{{"device_id":{json.dumps(device_id)},"start":{start},"rate_hz":{rate_hz!r},"samples":['
    return f"{head}{rows}]}}".encode()


def binary_chunk(_device_id: str, timestamp_ms: np.ndarray, xyz: np.ndarray, period_ms: float) -> bytes:
    """Return readings as one binary chunk; the device is in the record's key."""
    head = BINARY_HEADER.pack(BINARY_VERSION, 0, len(xyz), _rate_hz(timestamp_ms, period_ms), int(timestamp_ms[0]))
    return head + xyz.astype("<f4").tobytes()


def _rate_hz(timestamp_ms: np.ndarray, period_ms: float) -> float:
    """Return the constant rate that puts the first and the last reading at their times."""
    if len(timestamp_ms) > 1:
        period_ms = float(timestamp_ms[-1] - timestamp_ms[0]) / (len(timestamp_ms) - 1)
    return float(min(MAX_RATE_HZ, 1000.0 / period_ms))
