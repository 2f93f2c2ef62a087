"""Records as Kafka would hand them over, made by hand."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

KAFKA_MS = 1_700_000_100_000
"""The Kafka timestamp of every record here unless it says otherwise."""

BINARY = [("content-type", b"application/vnd.stridecast.chunk")]


@dataclass(frozen=True)
class HandMade:
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: int = KAFKA_MS
    offset: int = 0


def sample(**fields: Any) -> bytes:
    """A good sample with some fields changed; a field that is ... is left out."""
    return _json(
        {"device_id": "phone-17", "timestamp": 1_700_000_000_050, "x": -0.6946, "y": 12.6805, "z": 0.5039} | fields
    )


def chunk(**fields: Any) -> bytes:
    """A good chunk of two readings with some fields changed; a field that is ... is left out."""
    return _json(
        {
            "device_id": "phone-17",
            "start": 1_700_000_000_000,
            "rate_hz": 20,
            "samples": [[-0.6946, 12.6805, 0.5039], [5.012, 11.264, 0.9534]],
        }
        | fields
    )


def binary_chunk(
    rows: list[tuple[float, float, float]],
    *,
    start: int = 1_700_000_000_000,
    rate_hz: float = 20.0,
    version: int = 1,
    reserved: int = 0,
    count: int | None = None,
) -> bytes:
    """A binary chunk; `count` is what its head says."""
    head = struct.pack("<BBHfq", version, reserved, len(rows) if count is None else count, rate_hz, start)
    return head + b"".join(struct.pack("<3f", *row) for row in rows)


def text(**fields: Any) -> bytes:
    """A good text with some fields changed; a field that is ... is left out."""
    return _json({"id": "review-17", "text": "It's a deft comedy."} | fields)


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()
