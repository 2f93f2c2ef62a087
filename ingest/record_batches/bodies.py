"""Records to send, as the bytes that go to Kafka, without a Python object for each record.

A record's *body* is what follows its offset in message format v2 (Kafka's protocol guide, "Record"): key, value and
headers. What precedes it is the record's place in its batch, and is written when the batch is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from kafka.record.util import decode_varint, encode_varint
from numpy.typing import NDArray

Outgoing = tuple[bytes, bytes, list[tuple[str, bytes]]]
"""Key, value and headers of one record."""


@dataclass(frozen=True, slots=True, eq=False)
class Bodies:
    """The bodies of m records.

    content: uint8[n].
    begins: int64[m + 1], where each begins in it, and where the last one ends.
    """

    content: NDArray[np.uint8]
    begins: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.begins) - 1


def pack(outgoing: Iterable[Outgoing]) -> Bodies:
    """Encode records' bodies one by one: for labels that have no compiled encoder."""
    content, begins = bytearray(), [0]
    for key, value, headers in outgoing:
        _write(content, key)
        _write(content, value)
        write_headers(content, headers)
        begins.append(len(content))
    return Bodies(np.frombuffer(content, np.uint8), np.array(begins, np.int64))


def write_headers(content: bytearray, headers: Sequence[tuple[str, bytes]]) -> None:
    """Append the number of headers and the headers to a body."""
    encode_varint(len(headers), content.append)
    for name, header in headers:
        _write(content, name.encode())
        _write(content, header)


def unpack(bodies: Bodies) -> list[Outgoing]:
    """Decode the records' keys, values and headers from their bodies."""
    content = bodies.content.data
    return [_unpack(content, begin) for begin in bodies.begins[:-1].tolist()]


def _unpack(content: memoryview, at: int) -> Outgoing:
    key, at = _read(content, at)
    value, at = _read(content, at)
    count, at = decode_varint(content, at)
    headers = []
    for _ in range(count):
        name, at = _read(content, at)
        header, at = _read(content, at)
        headers.append((name.decode(), header))
    return key, value, headers


def _write(content: bytearray, field: bytes) -> None:
    encode_varint(len(field), content.append)
    content += field


def _read(content: memoryview, at: int) -> tuple[bytes, int]:
    size, at = decode_varint(content, at)
    return bytes(content[at : at + size]), at + size
