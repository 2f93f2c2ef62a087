"""A slow, obvious decoder, written from the contract's text alone; it shares nothing with `ingest`.

It answers with a list of readings (device id, timestamp, x, y, z as float32 values), or None for a refused record.
"""

import json
import math
import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

Reading = tuple[bytes, int, float, float, float]


def reference_decode(
    value: bytes | None,
    key: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    kafka_ms: int,
    max_ahead_ms: int,
    scale: float,
) -> list[Reading] | None:
    try:
        readings = _decode(value, key, headers, scale)
    except (Wrong, UnicodeError):
        return None
    for reading in readings:
        if reading[1] > kafka_ms + max_ahead_ms:
            return None
    return readings


class Wrong(Exception):
    pass


def need(condition: bool) -> None:
    if not condition:
        raise Wrong


def _decode(
    value: bytes | None, key: bytes | None, headers: Sequence[tuple[str, bytes | None]], scale: float
) -> list[Reading]:
    if value is None:
        raise Wrong
    need(len(headers) <= 100)
    content_type = "application/json"
    for name, text in headers:
        if name == "content-type":
            content_type = (text or b"").decode("latin-1").split(";")[0].strip(" \t\n\r\v\f").lower()
    if content_type == "application/vnd.stridecast.chunk":
        return _binary(key, value, scale)
    need(content_type == "application/json")
    need(len(value) <= 2 * 1024 * 1024)
    message = _object(value)
    device_id = _device_id(message)
    if "samples" in message:
        start, rate = _time(message.get("start")), _number(message.get("rate_hz"))
        rows = message["samples"]
        need(isinstance(rows, list))
        for row in rows:
            need(isinstance(row, list) and len(row) == 3)
        return _spread(device_id, start, rate, [[_number(v) for v in row] for row in rows], scale)
    x, y, z = (_axis(_number(message.get(name)), scale) for name in "xyz")
    return [(device_id, _time(message.get("timestamp")), x, y, z)]


def _object(value: bytes) -> dict[str, Any]:
    def refuse(_: str) -> None:
        raise Wrong

    def integer(digits: str) -> int | float:
        return int(digits) if len(digits) < 4000 else float("inf")

    try:
        message = json.loads(value.decode("utf-8"), parse_constant=refuse, parse_int=integer)
    except (json.JSONDecodeError, RecursionError):
        raise Wrong from None
    need(isinstance(message, dict))
    need(_depth(message) <= 100)
    return message  # type: ignore[no-any-return]


def _depth(value: Any) -> int:
    """How deep the value is nested. Repeated fields hide what they replace; no example repeats a deep one."""
    if isinstance(value, dict):
        return 1 + max((_depth(v) for v in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(v) for v in value), default=0)
    return 0


def _device_id(message: dict[str, Any]) -> bytes:
    device_id = message.get("device_id")
    need(isinstance(device_id, str))
    encoded = str(device_id).encode("utf-8")
    need(1 <= len(encoded) <= 128)
    return encoded


def _number(value: Any) -> float:
    need(type(value) in (int, float))
    try:
        return float(value)
    except OverflowError:
        raise Wrong from None


def _axis(value: float, scale: float) -> float:
    value = value * scale
    need(math.isfinite(value) and -1000 <= value <= 1000)
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _time(value: Any) -> int:
    if isinstance(value, str):
        match = re.fullmatch(
            r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
            r"(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?)",
            value,
        )
        if not match:
            raise Wrong
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
        fraction, sign, offset_hours, offset_minutes = match.groups()[6:]
        offset = 60 * int(offset_hours or 0) + int(offset_minutes or 0)
        need(int(offset_minutes or 0) < 60 and offset < 24 * 60)
        try:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            raise Wrong from None
        seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
        seconds -= (-60 if sign == "-" else 60) * offset
        return seconds * 1000 + int(((fraction or "") + "000")[:3])
    need(type(value) is int)
    need(-(2**53) <= value <= 2**53)
    return int(value)


def _spread(device_id: bytes, start: int, rate: float, rows: list[list[float]], scale: float) -> list[Reading]:
    need(0 < rate <= 1000)
    need(1 <= len(rows) <= 20_000)
    readings = []
    for k, row in enumerate(rows):
        time = float(start) + float(k) * 1000.0 / rate + 0.5
        need(math.isfinite(time))
        need(math.floor(Fraction(time)) <= 2**53)
        x, y, z = (_axis(value, scale) for value in row)
        readings.append((device_id, math.floor(time), x, y, z))
    return readings


def _binary(key: bytes | None, value: bytes, scale: float) -> list[Reading]:
    if key is None:
        raise Wrong
    key.decode("utf-8")
    need(1 <= len(key) <= 128)
    need(len(value) >= 16)
    version, reserved = value[0], value[1]
    count = int.from_bytes(value[2:4], "little")
    (rate,) = struct.unpack("<f", value[4:8])
    start = int.from_bytes(value[8:16], "little", signed=True)
    need(version == 1 and reserved == 0 and len(value) == 16 + 12 * count)
    need(-(2**53) <= start <= 2**53)
    rows = [list(struct.unpack_from("<3f", value, 16 + 12 * k)) for k in range(count)]
    return _spread(key, start, rate, rows, scale)


def reference_decode_text(value: bytes | None, max_bytes: int) -> tuple[bytes, str] | None:
    """The id and the text, or None for a refused record; the value is JSON, by its headers."""
    if value is None:
        return None
    try:
        need(len(value) <= 6 * max_bytes + 1024 * 1024)
        message = _object(value)
        text_id, text = message.get("id"), message.get("text")
        need(isinstance(text_id, str) and isinstance(text, str))
        need(1 <= len(str(text_id).encode()) <= 512)
        need(len(str(text).encode("utf-8", "surrogatepass")) <= max_bytes)
    except (Wrong, UnicodeError):
        return None
    return str(text_id).encode(), str(text)
