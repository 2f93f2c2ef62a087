"""What the consumer makes of a fetched partition: columns of records, a piece at a time, found by compiled loops.

kafka-python (3.0.12) parses records one by one in Python. Here `find_batches` goes through the bytes of a response and
says where the parts of its records lie. What it is not sure of is taken apart by kafka-python itself, a batch at a
time: compression, transactions, checksums that don't fit. So is a record of which the compiled loops are not sure, and
a batch of an old format: what is malformed is refused as kafka-python refuses it, at the same record.

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

import numpy as np
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import calc_crc32c
from numpy.typing import NDArray

from ingest.record_columns import Records
from ingest.record_places import (
    CHECKED_FROM,
    COLUMNS,
    COUNT_AT,
    CRC_AT,
    DONE,
    EPOCH_AT,
    FULL,
    LAST_DELTA_AT,
    LENGTH_AT,
    MAGIC_AT,
    SHORTEST_RECORD,
    UNCHECKED,
    find_batches,
    find_records,
)

# Records found at once; a batch that has more is a piece of its own.
PIECE = 4096
_ALL = 2**31


class Taken:
    """What one `take` gave: pieces, whose records kafka-python counts by `len`."""

    def __init__(self) -> None:
        self._pieces: list[Records] = []
        self._count = 0

    def add(self, piece: Records) -> None:
        """Append a piece."""
        self._pieces.append(piece)
        self._count += len(piece)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Records]:
        return iter(self._pieces)


class PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What a consumer's fetcher makes of one partition's part of a response: `fetcher.PartitionRecords`.

    Its consumer has no deserializers, and its `poll` returns a list of `Records` for each partition.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._rest: Records | None = None
        self._begun = False

    def take(self, n: int | None = None) -> Taken:
        """Return the next records, at most `n`; raise CorruptRecordError, or what a codec raises, as kafka-python."""
        try:
            self._maybe_raise_next_inline_exception()
            return self._take(_ALL if n is None else n)
        except Exception:
            self.drain()
            raise

    def _take(self, wanted: int) -> Taken:
        taken = Taken()
        try:
            while len(taken) < wanted and (piece := self._next_piece()) is not None:
                room = wanted - len(taken)
                self._rest = piece[room:] if room < len(piece) else None
                taken.add(piece[:room])
                self.next_fetch_offset = int(piece.offset[min(room, len(piece)) - 1]) + 1
        except Exception as error:
            if not taken:
                raise
            self._next_inline_exception = error  # for the next call
        return taken

    def _next_piece(self) -> Records | None:
        """Return what the last take left, or the next piece from the offset on that was asked for."""
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
        raw = bytes(records._buffer)  # itself, where it is bytes
        view = np.frombuffer(raw, np.uint8)
        at, last, sound = 0, -1, -1
        places = _room_for(min(PIECE, len(raw) // SHORTEST_RECORD))
        while True:
            found, at, last_found, size, why = find_batches(view, at, sound, self._must_tell_apart, places)
            if last_found >= 0:
                last, self.leader_epoch = last_found, _number(raw, last_found + EPOCH_AT)
            if found:
                yield self._counted(Records(raw, places[:, :found].copy()), size)
            if why == FULL:  # a batch that says it has more records than bytes is for others to refuse
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
        """Whether batches of transactions have to be looked at one by one."""
        aborted = self.aborted_transactions or self.aborted_producer_ids
        return bool(self.isolation_level == IsolationLevel.READ_COMMITTED and aborted)

    def _read_apart(self, tp: Any, batch: Any) -> Iterator[Records]:
        """Yield the records of one batch, as kafka-python takes it apart."""
        if self.check_crcs and not batch.validate_crc():
            raise CorruptRecordError(f"Record batch for partition {tp} at offset {batch.base_offset} failed crc check")
        if batch.magic == 2:
            self.leader_epoch = batch.leader_epoch
            if self._is_hidden(batch):
                self.next_fetch_offset = batch.next_offset
                return
        for piece, size in _pieces(batch):
            yield self._counted(piece, size)

    def _counted(self, piece: Records, size: int) -> Records:
        self.records_read += len(piece)
        self.bytes_read += size
        return piece

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


def _room_for(records: int) -> NDArray[np.int64]:
    return np.empty((COLUMNS, records), np.int64)


def _number(raw: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(raw[at : at + size], "big", signed=True)


def _is_sound(raw: bytes, at: int) -> bool:
    """Tell whether the checksum of a whole batch fits."""
    end = at + EPOCH_AT + _number(raw, at + LENGTH_AT)
    written = int.from_bytes(raw[at + CRC_AT : at + CHECKED_FROM], "big")
    return bool(calc_crc32c(memoryview(raw)[at + CHECKED_FROM : end]) == written)


def _batch_at(records: Any, at: int) -> Any:
    """Return the batch that begins at `at`, None where no whole one does; raise CorruptRecordError for a stump."""
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
    """Yield what the compiled loop is sure of, and in between what kafka-python's iteration makes of the rest."""
    iter(batch)  # decompresses
    batch.__class__ = TolerantBatch
    batch._buffer = bytes(batch._buffer)
    while True:
        piece, size = _next_piece(batch)
        if len(piece):
            yield piece, size
        if len(piece) < PIECE:
            record = next(batch, None)
            if record is None:
                return
            yield Records.of([record]), record.size_in_bytes


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
