"""Parses the fetched data of a partition into columns of records, a piece at a time, with compiled loops.

kafka-python (3.0.12) parses records one by one in Python. Here `find_batches` goes through the bytes of a response and
finds the parts of its records. What it is not sure of is parsed by kafka-python itself, a batch at a time: compression,
transactions, wrong checksums. So are records that the compiled loops are not sure of, and batches of an old format.
Malformed data is refused as kafka-python refuses it, at the same record.

kafka-python's behaviour is not followed where a client could block a partition for ever, by data that no broker checks:

- It decodes a header's name while it walks through a batch: one byte that isn't UTF-8 raises in the middle of `poll`,
  at the same record each time. Here such a name is read with its invalid bytes escaped (`\\xff`).
- It reads a record's attributes as a varint, but they are a byte.
- It trusts the offset in a record: see `settle_offsets`.
- It decompresses without a limit, and raises what the codec raises. Here a batch that can't be decompressed is skipped
  and reported: see `decompression.py`.
- After it has refused a batch, the next `poll` loops for ever, because the partition is neither drained nor advanced.
  Here it is drained, hence fetched again, and refused again if it is still malformed.
- It can't read a transaction's marker that compaction has emptied (Kafka keeps the last batch of a producer).
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import calc_crc32c, decode_varint
from kafka.structs import TopicPartition
from numpy.typing import NDArray

from ingest.record import MOST_HEADERS
from ingest.record_batches.decompression import Undecompressable, decompress
from ingest.record_batches.record_columns import Records, as_long
from ingest.record_batches.record_places import (
    CHECKED_FROM,
    COLUMNS,
    COUNT_AT,
    CRC_AT,
    DONE,
    END,
    EPOCH_AT,
    FULL,
    LAST_DELTA_AT,
    LENGTH_AT,
    MAGIC_AT,
    OFFSET,
    SHORTEST_RECORD,
    UNCHECKED,
    find_batches,
    find_records,
    settle_offsets,
)

log = logging.getLogger(__name__)

# Records found at once; a batch with more is a piece of its own.
PIECE = 4096
# The most bytes that one take returns, besides its first record: decoded, they are several times as large.
TAKE_BYTES = 32 << 20
_ALL = 2**31


class Taken:
    """The result of one `take`: pieces. kafka-python counts their records by `len`; once it is full, that is `wanted`.

    A take counts as its share of `TAKE_BYTES`, if that is more, so that a poll of many partitions ends, too.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._pieces: list[Records] = []
        self._count = 0
        self._bytes = 0

    def add(self, piece: Records) -> Records | None:
        """Append as much of a piece as there is room for, at least a record; return the rest."""
        begin, _ = piece.span
        in_bytes = int(np.searchsorted(piece.places[END], begin + TAKE_BYTES - self._bytes, "right"))
        room = min(max(in_bytes, 1), self._wanted - self._count, len(piece))
        self._pieces.append(piece[:room])
        self._count += room
        self._bytes = TAKE_BYTES if in_bytes < len(piece) else self._bytes + int(piece.places[END, room - 1]) - begin
        return piece[room:] if room < len(piece) else None

    @property
    def last(self) -> int:
        """The offset of the last record."""
        return int(self._pieces[-1].offset[-1])

    @property
    def full(self) -> bool:
        """Whether no more is to be added."""
        return self._count >= self._wanted or self._bytes >= TAKE_BYTES

    def __len__(self) -> int:
        if self._wanted == _ALL:
            return self._count
        return self._wanted if self.full else max(self._count, self._wanted * self._bytes // TAKE_BYTES)

    def __iter__(self) -> Iterator[Records]:
        return iter(self._pieces)


class PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """Replaces a fetcher's `PartitionRecords`: the records of one partition in a response.

    The consumer must have no deserializers; its `poll` returns a list of `Records` for each partition. `tell` is called
    with the partition and the number of records that can't be read.
    """

    def __init__(
        self, *arguments: Any, tell: Callable[[TopicPartition, int], None] = lambda *_: None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._tell = tell
        self._rest: Records | None = None
        self._begun = False

    def take(self, n: int | None = None) -> Taken:
        """Return the next records, at most `n`; raise CorruptRecordError as kafka-python does."""
        try:
            self._maybe_raise_next_inline_exception()
            return self._take(_ALL if n is None else n)
        except Exception:
            self.drain()
            raise

    def _take(self, wanted: int) -> Taken:
        taken = Taken(wanted)
        try:
            while not taken.full and (piece := self._next_piece()) is not None:
                self._rest = taken.add(piece)
                self.next_fetch_offset = taken.last + 1
        except Exception as error:
            if not taken:
                raise
            self._next_inline_exception = error  # for the next call
        return taken

    def _next_piece(self) -> Records | None:
        """Return what the last take left, or the next piece from the requested offset on."""
        if self._rest is not None:
            return self._rest
        for piece in self.record_iterator or ():
            if self._begun:
                return piece  # type: ignore[no-any-return]
            asked_for = piece.offset >= self.fetch_offset
            if asked_for.any():
                self._begun = True
                return piece[int(asked_for.argmax()) :]  # type: ignore[no-any-return]
            self.next_fetch_offset = max(self.fetch_offset, int(piece.offset[-1]) + 1)
        return None

    def _maybe_skip_record(self, _piece: Records) -> bool:
        return False  # see `_next_piece`

    def _unpack_records(self, tp: Any, records: Any, *_deserializers: object) -> Iterator[Records]:
        """Yield the records that the isolation level allows; at the end `next_fetch_offset` passes the last batch."""
        raw = bytes(records._buffer)  # no copy if it is bytes
        view = np.frombuffer(raw, np.uint8)
        at, last, sound = 0, -1, -1
        places = _room_for(min(PIECE, len(raw) // SHORTEST_RECORD))
        while True:
            found, at, last_found, size, why = find_batches(view, at, sound, self._must_tell_apart, places)
            if last_found >= 0:
                last, self.leader_epoch = last_found, _number(raw, last_found + EPOCH_AT)
            if found:
                yield self._counted(Records(raw, places[:, :found].copy()), size)
            if why == FULL:  # kafka-python refuses a batch with more records than bytes
                wanted = min(_number(raw, at + COUNT_AT), (len(raw) - at) // SHORTEST_RECORD)
                places = _room_for(max(places.shape[1], wanted))
            elif why == UNCHECKED and _is_sound(raw, at):
                sound = at
            elif why == DONE or (batch := _batch_at(records, at)) is None:
                break
            else:
                last, at = at, at + EPOCH_AT + _number(raw, at + LENGTH_AT)
                yield from self._read_apart(tp, batch)
        if last >= 0 and raw[last + MAGIC_AT] == 2:  # compaction may have removed the last record, but not its offset
            self.next_fetch_offset = _number(raw, last, 8) + _number(raw, last + LAST_DELTA_AT) + 1
        self.drain()

    @property
    def _must_tell_apart(self) -> bool:
        """Whether batches of transactions have to be checked one by one."""
        aborted = self.aborted_transactions or self.aborted_producer_ids
        return bool(self.isolation_level == IsolationLevel.READ_COMMITTED and aborted)

    def _read_apart(self, tp: Any, batch: Any) -> Iterator[Records]:
        """Yield the records of one batch, parsed by kafka-python."""
        if self.check_crcs and not batch.validate_crc():
            raise CorruptRecordError(f"Record batch for partition {tp} at offset {batch.base_offset} failed crc check")
        if batch.magic == 2:
            self.leader_epoch = batch.leader_epoch
            if self._is_hidden(batch):
                self.next_fetch_offset = batch.next_offset
                return
        try:
            for piece, size in _pieces(batch):
                yield self._counted(piece, size)
        except Undecompressable as error:
            first, self.next_fetch_offset = batch.base_offset, batch.next_offset
            log.error("%s[%d]: the records from %d to %d are passed over: %s", *tp, first, batch.next_offset - 1, error)
            self._tell(tp, batch.next_offset - first)

    def _counted(self, piece: Records, size: int) -> Records:
        self.records_read += len(piece)
        self.bytes_read += size
        return piece

    def _is_hidden(self, batch: Any) -> bool:
        """Return whether the batch is hidden from this reader (control or aborted); track transactions (KIP-98)."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)

    def _contains_abort_marker(self, batch: Any) -> bool:
        return batch.records_count > 0 and bool(super()._contains_abort_marker(batch))


def _room_for(records: int) -> NDArray[np.int64]:
    return np.empty((COLUMNS, records), np.int64)


def _number(raw: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(raw[at : at + size], "big", signed=True)


def _is_sound(raw: bytes, at: int) -> bool:
    """Return whether the checksum of a whole batch is right."""
    end = at + EPOCH_AT + _number(raw, at + LENGTH_AT)
    written = int.from_bytes(raw[at + CRC_AT : at + CHECKED_FROM], "big")
    return bool(calc_crc32c(memoryview(raw)[at + CHECKED_FROM : end]) == written)


def _batch_at(records: Any, at: int) -> Any:
    """Return the batch at `at`, None if no whole batch is there; raise CorruptRecordError for a truncated one."""
    records._pos = at
    records._next_slice = None
    records._cache_next()
    return records.next_batch()


def _pieces(batch: Any) -> Iterator[tuple[Records, int]]:
    """Yield a batch's records in pieces, each with its size in bytes as kafka-python counts it."""
    if type(batch) is DefaultRecordBatch:
        return _v2_pieces(batch)
    return _v1_pieces(batch)


def _v1_pieces(batch: Any) -> Iterator[tuple[Records, int]]:
    for record in batch:
        if not record.validate_crc():
            raise CorruptRecordError(f"Record at offset {record.offset} failed crc check")
        yield Records.of([record]), record.size_in_bytes


def _v2_pieces(batch: Any) -> Iterator[tuple[Records, int]]:
    """Yield pieces that the compiled loop is sure of, and in between records that are read one by one."""
    _open(batch)
    last_delta = batch.last_offset_delta
    whole, floor = batch.records_count == last_delta + 1, as_long(batch.base_offset - 1)
    while True:
        piece, size = _next_piece(batch)
        if not len(piece):
            record = next(batch, None)
            if record is None:
                return
            piece, size = Records.of([record]), record.size_in_bytes
        offsets = piece.offset.copy()
        settle_offsets(offsets, as_long(batch.base_offset), last_delta, whole, floor)
        piece.places[OFFSET] = offsets
        floor = int(offsets[-1])
        yield piece, size


def _open(batch: Any) -> None:
    """Decompress a batch, once, and make `next` read it as a `TolerantBatch`."""
    content = batch._buffer[batch._pos :]
    if not batch._decompressed and batch.compression_type != batch.CODEC_NONE:
        content = decompress(batch.compression_type, content)
    batch._buffer, batch._pos, batch._decompressed = bytes(content), 0, True
    batch.__class__ = TolerantBatch


def _next_piece(batch: Any) -> tuple[Records, int]:
    """Return the next records that the compiled loop is sure of, at most `PIECE`, and move the batch past them."""
    wanted = max(0, min(PIECE, batch.records_count - batch._next_record_index))
    base, step = batch.first_timestamp, 1
    if batch.timestamp_type == batch.LOG_APPEND_TIME:
        base, step = batch.max_timestamp, 0
    places = _room_for(wanted)
    raw = np.frombuffer(batch._buffer, np.uint8)
    found, batch._pos, size = find_records(raw, batch._pos, batch.base_offset, base, step, places)
    batch._next_record_index += found
    return Records(batch._buffer, places[:, :found]), size


class TolerantBatch(DefaultRecordBatch):  # type: ignore[misc]
    """A batch whose records are read one by one by the protocol guide, with any header name."""

    __slots__ = ()

    def _read_msg(self, *_arguments: Any) -> DefaultRecord:
        """Read one record; ValueError and IndexError become a CorruptRecordError in ``__next__``."""
        raw, base, kind = self._buffer, self.first_timestamp, self.timestamp_type
        size, start = decode_varint(raw, self._pos)
        timestamp, at = decode_varint(raw, start + 1)  # after the attributes, an unused byte
        if kind == self.LOG_APPEND_TIME:
            base, timestamp = self.max_timestamp, 0
        offset, at = decode_varint(raw, at)
        key, at = _nullable(raw, at)
        value, at = _nullable(raw, at)
        count, at = decode_varint(raw, at)
        if count < 0:
            raise ValueError(f"{count} headers")
        headers = []
        for _ in range(min(count, MOST_HEADERS)):
            name, at = _nullable(raw, at)
            if name is None:
                raise ValueError("a header without a name")
            content, at = _nullable(raw, at)
            headers.append((name.decode(errors="backslashreplace"), content))
        if count > MOST_HEADERS and 0 <= at - start <= size <= len(raw) - start:
            at = start + size
        if at - start != size:
            raise ValueError(f"a record of {size} bytes has {at - start}")
        self._pos: int = at  # type: ignore[misc]
        return DefaultRecord(size, self.base_offset + offset, base + timestamp, kind, key, value, headers)


def _nullable(raw: bytes, at: int) -> tuple[bytes | None, int]:
    """Read length-prefixed bytes, None for a negative length; return also where they end by that length."""
    size, at = decode_varint(raw, at)
    return (None, at) if size < 0 else (raw[at : at + size], at + size)
