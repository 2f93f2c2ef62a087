"""What the consumer makes of a fetched partition: records found by a compiled loop, a piece of a batch at a time.

kafka-python (3.0.12) parses records one by one in Python. Here `find_records` says where the parts of a piece's
records lie, and light records are cut out of the batch's bytes. Batches are taken apart by kafka-python itself:
checksum, compression, transactions. So is a record of which the compiled loop is not sure, and a batch of an old
format: what is malformed is refused as kafka-python refuses it, at the same record.

In three things that make it stand still for ever it is not followed:

- It decodes a header's name while it walks through a batch: one byte that isn't UTF-8 raises in the middle of `poll`,
  at the same record each time. The protocol calls the name a string and no broker checks it, so any client can write
  one. Here such a name is read with its odd bytes escaped (`\\xff`).
- After it has refused a batch, the next `poll` turns in a circle, for the partition is neither drained nor goes on.
  Here it is drained, hence fetched again, and refused again if it is still malformed.
- It can't read a transaction's marker that compaction has emptied (Kafka keeps the last batch of a producer).
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import decode_varint

from ingest.record_places import COLUMNS, find_records
from ingest.records import Headers

PIECE = 1024
# Fewer records than this are read sooner by kafka-python than the compiled loop is called: many producers send each
# record in a batch of its own.
WORTH_A_CALL = 3
_NO_TIMESTAMP = -1  # KIP-32: what Kafka's own clients give for message format v0


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as it was consumed; `timestamp` is Kafka's, in epoch ms."""

    value: bytes | None
    key: bytes | None
    headers: Headers
    timestamp: int
    offset: int


class PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What a consumer's fetcher makes of one partition's part of a response: `fetcher.PartitionRecords`.

    Its consumer has no deserializers.
    """

    def take(self, n: int | None = None) -> list[FetchedRecord]:
        """Return the next records, at most `n`; raise CorruptRecordError, or what a codec raises, as kafka-python."""
        try:
            records: list[FetchedRecord] = super().take(n)
        except Exception:
            self.drain()
            raise
        return records

    def _unpack_records(self, tp: Any, records: Any, *_deserializers: object) -> Iterator[FetchedRecord]:
        """Yield the records that the isolation level allows; `next_fetch_offset` follows."""
        batch = None
        for batch in iter(records.next_batch, None):
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(
                    f"Record batch for partition {tp} at offset {batch.base_offset} failed crc check"
                )
            if batch.magic == 2:
                self.leader_epoch = batch.leader_epoch
                if self._is_hidden(batch):
                    self.next_fetch_offset = batch.next_offset
                    continue
            for piece, size in _pieces(batch):
                self.records_read += len(piece)
                self.bytes_read += size
                for record in piece:
                    self.next_fetch_offset = record.offset + 1
                    yield record
        if batch is not None and batch.magic == 2:  # compaction may have removed the last record, but not its offset
            self.next_fetch_offset = batch.next_offset
        self.drain()

    def _is_hidden(self, batch: Any) -> bool:
        """Tell whether no reader is given the batch, or no committed one; follow the transactions (KIP-98)."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)

    def _contains_abort_marker(self, batch: Any) -> bool:
        return batch.records_count > 0 and bool(super()._contains_abort_marker(batch))


def _pieces(batch: Any) -> Iterator[tuple[list[FetchedRecord], int]]:
    """Yield a batch's records in pieces, each with its size in bytes as kafka-python counts it."""
    if type(batch) is DefaultRecordBatch:
        return _v2_pieces(batch)
    return _v1_pieces(batch)


def _v1_pieces(batch: Any) -> Iterator[tuple[list[FetchedRecord], int]]:
    for record in batch:
        if not record.validate_crc():
            raise CorruptRecordError(f"Record at offset {record.offset} failed crc check")
        yield [_light(record)], record.size_in_bytes


def _v2_pieces(batch: Any) -> Iterator[tuple[list[FetchedRecord], int]]:
    """Yield what the compiled loop is sure of, and in between what kafka-python's iteration makes of the rest."""
    iter(batch)  # decompresses
    batch.__class__ = TolerantBatch
    batch._buffer = bytes(batch._buffer)
    while True:
        piece, size = _next_piece(batch)
        if piece:
            yield piece, size
        if len(piece) < PIECE:
            record = next(batch, None)
            if record is None:
                return
            yield [_light(record)], record.size_in_bytes


def _next_piece(batch: Any) -> tuple[list[FetchedRecord], int]:
    """Return the next records that the compiled loop is sure of, at most `PIECE`, and move the batch past them."""
    wanted = min(PIECE, batch.records_count - batch._next_record_index)
    if wanted < WORTH_A_CALL:
        return [], 0
    base, step = batch.first_timestamp, 1
    if batch.timestamp_type == batch.LOG_APPEND_TIME:
        base, step = batch.max_timestamp, 0
    places = np.empty((COLUMNS, wanted), np.int64)
    raw = np.frombuffer(batch._buffer, np.uint8)
    found, batch._pos, size = find_records(raw, batch._pos, batch.base_offset, base, step, places)
    batch._next_record_index += found
    return _cut(batch._buffer, *places[:, :found].tolist()), size


def _light(record: Any) -> FetchedRecord:
    timestamp = _NO_TIMESTAMP if record.timestamp is None else record.timestamp
    return FetchedRecord(record.value, record.key, record.headers, timestamp, record.offset)


class TolerantBatch(DefaultRecordBatch):  # type: ignore[misc]
    """A batch that any header name can be read from; used where the compiled loop was not sure."""

    __slots__ = ()

    def _read_msg(self, *arguments: Any) -> Any:
        try:
            return super()._read_msg(*arguments)
        except UnicodeDecodeError:  # nothing has moved yet: the position is set when a record has been read whole
            strict: bytes = self._buffer
            self._buffer: bytes = _EscapingBuffer(strict)  # type: ignore[misc]
            try:
                return super()._read_msg(*arguments)
            finally:
                self._buffer = strict  # type: ignore[misc]


class _EscapingBuffer(bytes):
    """A batch's bytes, whose slices can be decoded whatever they hold."""

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return _EscapedText(part) if isinstance(key, slice) else part


class _EscapedText(bytes):
    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, "backslashreplace")


def _cut(
    raw: bytes,
    keys: list[int],
    key_ends: list[int],
    values: list[int],
    value_ends: list[int],
    ends: list[int],
    timestamps: list[int],
    offsets: list[int],
) -> list[FetchedRecord]:
    """Make the records whose parts lie there; most have the same headers as others, or none."""
    written = [raw[at:end] for at, end in zip(value_ends, ends, strict=True)]
    headers = {block: _read_headers(block) for block in set(written)}
    return list(
        map(
            FetchedRecord,
            _fields(raw, values, value_ends),
            _fields(raw, keys, key_ends),
            map(headers.__getitem__, written),
            timestamps,
            offsets,
        )
    )


def _fields(raw: bytes, starts: list[int], ends: list[int]) -> list[bytes | None]:
    return [None if at < 0 else raw[at:end] for at, end in zip(starts, ends, strict=True)]


def _read_headers(block: bytes) -> Headers:
    """Read headers that `find_records` has looked through."""
    count, at = decode_varint(block)
    headers = []
    for _ in range(count):
        size, at = decode_varint(block, at)
        name = block[at : at + size].decode(errors="backslashreplace")
        size, at = decode_varint(block, at + size)
        headers.append((name, None if size < 0 else block[at : at + size]))
        at += max(0, size)
    return tuple(headers)
