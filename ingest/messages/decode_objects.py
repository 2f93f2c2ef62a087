"""Decodes records one by one: for records that come as objects, and for those that the compiled loop leaves.

A batch is read in two passes. The first reads short JSON samples, which nearly all records are, with a typed decoder.
Records that it is not sure of go to the second pass: chunks, long values, and all that looks wrong, which the
contract's own models then validate. So the first pass may skip any record, but it must never accept one that the models
would refuse, nor read it differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.contract import (
    BINARY_CHUNK_CONTENT_TYPE,
    BINARY_HEADER,
    BINARY_READING_BYTES,
    BINARY_VERSION,
    JSON_CONTENT_TYPE,
    MAX_ACCELERATION,
    MAX_JSON_BYTES,
    MAX_TIMESTAMP_MS,
    Chunk,
    Sample,
    check_acceleration,
    check_device_id,
    check_rate,
    check_readings,
    check_size,
    check_timestamp,
    epoch_ms,
)
from ingest.messages.json_objects import DOUBT, SHALLOW_BYTES, content_kind, judge, may_be_deep, read_object
from ingest.messages.readings import Readings, in_record_order
from ingest.record import Record
from ingest.rejections import Reason, Refused, Rejection

_IS_JSON: Final[dict[bytes | None, bool]] = {
    JSON_CONTENT_TYPE.encode(): True,
    BINARY_CHUNK_CONTENT_TYPE.encode(): False,
}


def decode_objects(
    records: Sequence[Record], indices: NDArray[np.int32], max_ahead_ms: int, scale: float
) -> tuple[Readings, list[Rejection]]:
    """Decode records as `ingest.messages.decode.decode` does; `indices` are their indices in the batch, rising."""
    parts: list[_Part] = []
    rejections: list[Rejection] = []
    with np.errstate(over="ignore", invalid="ignore"):  # overflow and NaN are refused a line later
        samples, rest = _read_plain_samples(records, max_ahead_ms, scale)
        for k in rest:
            try:
                parts.append(_read(k, records[k], max_ahead_ms, scale))
            except Refused as refused:
                rejections.append(Rejection(int(indices[k]), refused.reason, refused.detail))
    readings = in_record_order(samples, _joined(parts))
    return replace(readings, record=indices[readings.record]), rejections


# --- The first pass -------------------------------------------------------------------------------------------

_ABSENT: Final = msgspec.UNSET
_Milliseconds = Annotated[int, msgspec.Meta(ge=-MAX_TIMESTAMP_MS, le=MAX_TIMESTAMP_MS)]


class _PlainSample(msgspec.Struct, gc=False):
    device_id: str
    timestamp: _Milliseconds | str
    x: float
    y: float
    z: float
    samples: msgspec.Raw | msgspec.UnsetType = _ABSENT


class _PlainChunk(msgspec.Struct, gc=False):
    device_id: str
    start: _Milliseconds | str
    rate_hz: float
    samples: list[tuple[float, float, float]]


_decode_sample: Final = msgspec.json.Decoder(_PlainSample).decode
_decode_chunk: Final = msgspec.json.Decoder(_PlainChunk).decode


def _read_plain_samples(records: Sequence[Record], max_ahead_ms: int, scale: float) -> tuple[Readings, list[int]]:
    """Return the readings of the records that are plain samples, and the indices of all others, in order."""
    codes: dict[str, int] = {}
    device_ids: list[bytes] = []
    record_column: list[int] = []
    device_column: list[int] = []
    time_column: list[int] = []
    axes: list[float] = []
    rest: list[int] = []
    for index, record in enumerate(records):
        value = record.value
        try:
            if (
                value is None
                or (record.headers and not content_kind(record.headers, _IS_JSON))
                or len(value) > MAX_JSON_BYTES
                or (len(value) > SHALLOW_BYTES and may_be_deep(value))
            ):
                rest.append(index)
                continue
            if not value.isascii():
                value.decode()  # the typed decoder skips unknown fields without looking at their UTF-8
            sample = _decode_sample(value)
            timestamp = sample.timestamp
            if isinstance(timestamp, str):
                timestamp = epoch_ms(timestamp)
            if sample.samples is not _ABSENT or timestamp > record.timestamp + max_ahead_ms:
                rest.append(index)
                continue
            device = codes.get(sample.device_id)
            if device is None:
                device_ids.append(check_device_id(sample.device_id.encode()))
                device = codes[sample.device_id] = len(codes)
        except DOUBT:
            rest.append(index)
            continue
        record_column.append(index)
        device_column.append(device)
        time_column.append(timestamp)
        axes += (sample.x, sample.y, sample.z)
    xyz = np.array(axes, np.float64).reshape(-1, 3) * scale
    good: NDArray[np.bool_] = np.all(np.abs(xyz) <= MAX_ACCELERATION, axis=1)
    indices = np.array(record_column, np.int32)
    ids, starts, ends = _side_by_side(device_ids)
    of_device = np.array(device_column, np.intp)[good]
    readings = Readings(
        ids=ids,
        id_at=starts[of_device],
        id_end=ends[of_device],
        timestamp_ms=np.array(time_column, np.int64)[good],
        xyz=xyz[good].astype(np.float32),
        record=indices[good],
    )
    return readings, rest if good.all() else sorted(rest + indices[~good].tolist())


def _side_by_side(device_ids: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return the concatenated ids, and where each begins and ends."""
    sizes = np.array([len(device_id) for device_id in device_ids], np.int64)
    ends = np.cumsum(sizes)
    return np.frombuffer(b"".join(device_ids), np.uint8), ends - sizes, ends


# --- The second pass ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """The readings of one record: int64[n] and float32[n, 3]."""

    record: int
    device_id: bytes
    timestamp_ms: NDArray[np.int64]
    xyz: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk of any form, each of its fields within its limits; xyz is float64[n, 3] in m/s^2."""

    device_id: bytes
    start: int
    rate_hz: float
    xyz: NDArray[np.float64]


def _read(index: int, record: Record, max_ahead_ms: int, scale: float) -> _Part:
    """Return the readings of a record of any form, or raise `Refused`."""
    if record.value is None:
        raise Refused(Reason.NULL_VALUE, "the record has no value")
    latest = record.timestamp + max_ahead_ms
    message = (
        _read_json(record.value, scale)
        if content_kind(record.headers, _IS_JSON)
        else _read_binary_chunk(record.key, record.value, scale)
    )
    if isinstance(message, Sample):
        _check_not_ahead(message.timestamp, latest)
        times = np.array([message.timestamp], np.int64)
        xyz = np.array([[message.x, message.y, message.z]])
        return _Part(index, message.device_id.encode(), times, xyz.astype(np.float32))
    times = _reading_times(message.start, len(message.xyz), message.rate_hz, latest)
    return _Part(index, message.device_id, times, message.xyz.astype(np.float32))


def _read_json(value: bytes, scale: float) -> Sample | _Chunk:
    check_size(len(value), MAX_JSON_BYTES)
    try:
        return _read_plain_chunk(value, scale)
    except DOUBT:
        fields = read_object(value)
    if "samples" not in fields:
        return judge(fields, Sample, {"scale": scale})
    message = judge(fields, Chunk, {"scale": scale})
    return _Chunk(message.device_id.encode(), message.start, message.rate_hz, np.array(message.samples))


def _read_plain_chunk(value: bytes, scale: float) -> _Chunk:
    """Read an ordinary JSON chunk fast, or raise one of `DOUBT`."""
    if not value.isascii():
        value.decode()
    chunk = _decode_chunk(value)
    if may_be_deep(value, rows=len(chunk.samples)):
        raise Refused(Reason.NOT_JSON, "nested deeply, perhaps")
    start = epoch_ms(chunk.start) if isinstance(chunk.start, str) else chunk.start
    count = check_readings(len(chunk.samples))
    xyz = np.fromiter(chain.from_iterable(chunk.samples), np.float64, 3 * count).reshape(-1, 3) * scale
    _check_axes(xyz)
    return _Chunk(check_device_id(chunk.device_id.encode()), start, check_rate(chunk.rate_hz), xyz)


def _read_binary_chunk(key: bytes | None, value: bytes, scale: float) -> _Chunk:
    if len(value) < BINARY_HEADER.size:
        raise Refused(Reason.BAD_BINARY, f"{len(value)} bytes; the head of a chunk has {BINARY_HEADER.size}")
    version, reserved, count, rate_hz, start = BINARY_HEADER.unpack_from(value)
    if version != BINARY_VERSION or reserved != 0:
        raise Refused(
            Reason.BAD_BINARY,
            f"version {version}, reserved {reserved}; only version {BINARY_VERSION}, reserved 0 is known",
        )
    promised = BINARY_HEADER.size + count * BINARY_READING_BYTES
    if len(value) != promised:
        raise Refused(Reason.BAD_BINARY, f"{len(value)} bytes; a chunk of {count} readings has {promised}")
    if key is None:
        raise Refused(Reason.BAD_ID, "a binary chunk's device id is the record's key, which is null")
    check_device_id(key)
    check_timestamp(start)
    check_rate(rate_hz)
    check_readings(count)
    xyz = np.frombuffer(value, "<f4", offset=BINARY_HEADER.size).reshape(-1, 3).astype(np.float64) * scale
    _check_axes(xyz)
    return _Chunk(key, start, rate_hz, xyz)


def _check_axes(xyz: NDArray[np.float64]) -> None:
    beyond = ~(np.abs(xyz) <= MAX_ACCELERATION)
    if beyond.any():
        row, axis = np.argwhere(beyond)[0]
        try:
            check_acceleration(float(xyz[row, axis]))
        except Refused as refused:
            raise Refused(refused.reason, f"samples[{row}][{axis}]: {refused.detail}") from None


def _check_not_ahead(timestamp_ms: float, latest: int) -> None:
    if not timestamp_ms < latest + 1:
        raise Refused(
            Reason.TOO_FAR_AHEAD,
            f"a reading at {timestamp_ms:.0f} ms; by its Kafka timestamp the record may reach to {latest} ms",
        )


def _reading_times(start: int, count: int, rate_hz: float, latest: int) -> NDArray[np.int64]:
    """Return when a chunk's readings were taken, in float64 and in the contract's order of operations.

    The last time is checked before any becomes an integer: at a tiny rate it can be infinite.
    """
    last = start + (count - 1) * 1000 / rate_hz + 0.5
    _check_not_ahead(last, latest)
    check_timestamp(math.floor(last))
    k = np.arange(count, dtype=np.float64)
    return np.floor(start + k * 1000 / rate_hz + 0.5).astype(np.int64)


def _joined(parts: Sequence[_Part]) -> Readings:
    ids, starts, ends = _side_by_side([part.device_id for part in parts])
    counts = [len(part.xyz) for part in parts]
    return Readings(
        ids=ids,
        id_at=np.repeat(starts, counts),
        id_end=np.repeat(ends, counts),
        timestamp_ms=np.concatenate([np.empty(0, np.int64), *(part.timestamp_ms for part in parts)]),
        xyz=np.concatenate([np.empty((0, 3), np.float32), *(part.xyz for part in parts)]),
        record=np.repeat(np.array([part.record for part in parts], np.int32), counts),
    )
