"""Records as columns: the bytes that came from Kafka, and where each record's parts lie in them.

An object for a record is made only when one is needed: for a dead letter, a text, a rare form.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import msgspec
import numpy as np
from kafka.record.util import decode_varint, encode_varint
from numpy.typing import NDArray

from ingest.record import MOST_HEADERS, ConsumedRecord, Headers
from ingest.record_batches.record_places import COLUMNS, END, KEY, KEY_END, OFFSET, TIMESTAMP

_NO_TIMESTAMP = -1  # KIP-32: the value of Kafka's own clients for message format v0
_PARTS = slice(KEY, END + 1)


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """A consumed record, without headers beyond `MOST_HEADERS`; `timestamp` is Kafka's, in epoch ms."""

    value: bytes | None
    key: bytes | None
    headers: Headers
    timestamp: int
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Records(Sequence[FetchedRecord]):
    """Some records of one partition, in the order of the log.

    raw: the bytes in which their parts lie.
    places: int64[COLUMNS, n], the rows as `record_places` names them; all of them lie within `raw`.
    """

    raw: bytes
    places: NDArray[np.int64]

    @staticmethod
    def of(records: Iterable[ConsumedRecord]) -> Records:
        """Turn record objects, such as kafka-python's own, into columns."""
        raw, rows = bytearray(), []
        for record in records:
            row = []
            for part in (record.key, record.value):
                row += [-1 if part is None else len(raw), len(raw) + len(part or b"")]
                raw += part or b""
            _write_headers(record.headers, raw)
            timestamp: int | None = record.timestamp
            written = _NO_TIMESTAMP if timestamp is None else as_long(timestamp)
            rows.append((*row, len(raw), written, as_long(record.offset)))
        return Records(bytes(raw), np.array(rows, np.int64).reshape(-1, COLUMNS).T)

    @staticmethod
    def join(pieces: Sequence[Records]) -> Records:
        """Concatenate one or more pieces."""
        if len(pieces) == 1:
            return pieces[0]
        places = np.concatenate([piece.places for piece in pieces], axis=1)
        if all(piece.raw is pieces[0].raw for piece in pieces):  # of one response
            return Records(pieces[0].raw, places)
        raw, row = [], 0
        at = 0
        for piece in pieces:
            first, last = piece.span
            raw.append(piece.raw[first:last])
            moved = places[_PARTS, row : row + len(piece)]
            moved[moved >= 0] += at - first
            at += last - first
            row += len(piece)
        return Records(b"".join(raw), places)

    @property
    def offset(self) -> NDArray[np.int64]:
        """int64[n], never decreasing."""
        offset: NDArray[np.int64] = self.places[OFFSET]
        return offset

    @property
    def timestamp(self) -> NDArray[np.int64]:
        """int64[n], Kafka's, in epoch ms."""
        timestamp: NDArray[np.int64] = self.places[TIMESTAMP]
        return timestamp

    @property
    def span(self) -> tuple[int, int]:
        """Where the bytes of the records begin and end; they lie in the records' order."""
        if not len(self):
            return 0, 0
        first = self.places[KEY, 0] if self.places[KEY, 0] >= 0 else self.places[KEY_END, 0]
        return int(first), int(self.places[END, -1])

    @property
    def nbytes(self) -> int:
        """Bytes in memory, some of which may be shared with other records."""
        return len(self.raw) + self.places.nbytes

    def compact(self) -> Records:
        """Return the same records with a copy of their own bytes only."""
        first, last = self.span
        places = self.places.copy()
        parts = places[_PARTS]
        parts[parts >= 0] -= first
        return Records(self.raw[first:last], places)

    def __len__(self) -> int:
        return int(self.places.shape[1])

    @overload
    def __getitem__(self, index: int) -> FetchedRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> FetchedRecord | Records:
        if isinstance(index, slice):
            return Records(self.raw, self.places[:, index])
        return next(iter(Records(self.raw, self.places[:, index, np.newaxis])))

    def __iter__(self) -> Iterator[FetchedRecord]:
        """Yield an object for each record; most share their headers with others, or have none."""
        raw = self.raw
        keys, key_ends, values, value_ends, ends, timestamps, offsets = self.places.tolist()
        written = [raw[at:end] for at, end in zip(value_ends, ends, strict=True)]
        headers = {block: _read_headers(block) for block in set(written)}
        return map(
            FetchedRecord,
            _fields(raw, values, value_ends),
            _fields(raw, keys, key_ends),
            map(headers.__getitem__, written),
            timestamps,
            offsets,
        )


def as_long(number: int) -> int:
    """Return a time or an offset wrapped to 64 bits, as Kafka's own clients compute it from any batch header."""
    return (number + 2**63) % 2**64 - 2**63


def _fields(raw: bytes, starts: list[int], ends: list[int]) -> list[bytes | None]:
    return [None if at < 0 else raw[at:end] for at, end in zip(starts, ends, strict=True)]


def _read_headers(block: bytes) -> Headers:
    """Read headers that `find_records` has checked; in a name that is not UTF-8, invalid bytes are escaped."""
    count, at = decode_varint(block)
    headers = []
    for _ in range(min(count, MOST_HEADERS)):  # a batch of kilobytes may have sixty million
        size, at = decode_varint(block, at)
        name = block[at : at + size].decode(errors="backslashreplace")
        size, at = decode_varint(block, at + size)
        headers.append((name, None if size < 0 else block[at : at + size]))
        at += max(0, size)
    return tuple(headers)


def _write_headers(headers: Headers, raw: bytearray) -> None:
    encode_varint(len(headers), raw.append)
    for part in itertools.chain.from_iterable((name.encode(), value) for name, value in headers):
        encode_varint(-1 if part is None else len(part), raw.append)
        raw += part or b""
