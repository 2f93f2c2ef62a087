"""Record batches by the protocol guide, right or wrong in any of their parts."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import crc32c
from kafka import codec
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import decode_varint
from kafka.structs import TopicPartition

from ingest.record_batches.decompression import Undecompressable, decompress
from ingest.record_batches.record_columns import Records, as_long

CONTROL, TRANSACTIONAL, APPEND_TIME = 0x20, 0x10, 0x08
COMMITTED = 1
"""The isolation level of readers who see no open or aborted transaction."""

SOURCE = TopicPartition("topic", 0)
ENCODE: list[Callable[[bytes], bytes]] = [
    bytes,
    codec.gzip_encode,
    codec.snappy_encode,
    codec.lz4_encode,
    codec.zstd_encode,
]


def varint(value: int, padding: int = 0) -> bytes:
    """A zigzag varint, with so many bytes more than it needs."""
    encoded, rest = bytearray(), value << 1 if value >= 0 else (-value << 1) - 1
    while rest > 127:
        encoded.append(rest & 127 | 128)
        rest >>= 7
    encoded.append(rest)
    for _ in range(padding):
        encoded[-1] |= 128
        encoded.append(0)
    return bytes(encoded)


def nullable(content: bytes | None, padding: int = 0) -> bytes:
    return varint(-1, padding) if content is None else varint(len(content), padding) + content


def record(
    offset: int,
    value: bytes | None,
    key: bytes | None = None,
    headers: Sequence[tuple[bytes | None, bytes | None]] = (),
    timestamp: int = 0,
    padding: int = 0,
) -> bytes:
    """A record `offset` and `timestamp` ms after its batch's first."""
    body = bytearray(b"\0" + varint(timestamp, padding) + varint(offset, padding))
    body += nullable(key, padding) + nullable(value)
    body += varint(len(headers))
    for name, content in headers:
        body += nullable(name) + nullable(content, padding)
    return varint(len(body)) + bytes(body)


@dataclass(frozen=True)
class Batch:
    """A batch of message format v2; its bytes are `written`, with the checksum that they should have."""

    records: list[bytes]
    base_offset: int = 0
    leader_epoch: int = 7
    attributes: int = 0
    last_delta: int | None = None
    first_timestamp: int = 1_700_000_000_000
    max_timestamp: int = 1_700_000_000_999
    producer_id: int = -1
    count: int | None = None
    damage: dict[int, int] = field(default_factory=dict)
    """What to XOR which bytes with, from the attributes on, before the checksum is made."""
    trailer: bytes = b""
    """What follows the compressed records."""
    compress: Callable[[bytes], bytes] | None = None
    """In the place of how the codec that the attributes name is usually written."""

    @property
    def written(self) -> bytes:
        encode = self.compress or ENCODE[self.attributes & 7]
        body = bytearray(
            struct.pack(
                ">hiqqqhii",
                self.attributes,
                len(self.records) - 1 if self.last_delta is None else self.last_delta,
                self.first_timestamp,
                self.max_timestamp,
                self.producer_id,
                -1,
                -1,
                len(self.records) if self.count is None else self.count,
            )
            + encode(b"".join(self.records))
            + self.trailer
        )
        for at, change in self.damage.items():
            body[at % len(body)] ^= change
        rest = struct.pack(">ibI", self.leader_epoch, 2, crc32c.crc32c(bytes(body))) + body
        return struct.pack(">qi", self.base_offset, len(rest)) + rest


def marker(base_offset: int, producer_id: int, *, abort: bool) -> Batch:
    """The end of a transaction."""
    end = record(0, struct.pack(">hi", 0, 0), struct.pack(">hh", 0, 0 if abort else 1))
    return Batch([end], base_offset, attributes=CONTROL | TRANSACTIONAL, producer_id=producer_id)


def at(batch: Batch, base_offset: int) -> Batch:
    return replace(batch, base_offset=base_offset)


class Reference(Fetcher.PartitionRecords):  # type: ignore[misc]
    """kafka-python's own reading, mended where a client could make it stand still for ever."""

    def __init__(self, fetch_offset: int, partition: Any, records: Any, **options: Any) -> None:
        super().__init__(fetch_offset, partition, _Mended(records, self), **options)

    def _contains_abort_marker(self, batch: Any) -> bool:
        return batch.records_count > 0 and bool(super()._contains_abort_marker(batch))


class _Mended:
    def __init__(self, records: Any, reader: Any) -> None:
        self._records, self._reader = records, reader

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        return (
            batch if batch is None or batch.magic != 2 or batch.is_control_batch else _MendedBatch(batch, self._reader)
        )


class _MendedBatch:
    """A batch whose offsets rise; it is passed over, like a hidden one, if it can't be decompressed."""

    def __init__(self, batch: Any, reader: Any) -> None:
        self._batch, self._reader = batch, reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        batch = self._batch
        content = bytes(batch._buffer[batch._pos :])
        if batch.compression_type:
            try:
                content = decompress(batch.compression_type, content)
            except Undecompressable:
                self._reader.next_fetch_offset = batch.next_offset
                return
        batch._buffer, batch._pos, batch._decompressed = content, 0, True
        batch.__class__ = _TolerantBatch
        last, whole = (
            batch.base_offset + max(batch.last_offset_delta, 0),
            batch.records_count == batch.last_offset_delta + 1,
        )
        floor = batch.base_offset
        for index, read in enumerate(batch):
            floor = batch.base_offset + index if whole else max(floor, min(as_long(read.offset), last))
            parts = read.timestamp, read.timestamp_type, read.key, read.value, read.headers
            yield type(read)(read.size_in_bytes, floor, *parts)


class _TolerantBatch(DefaultRecordBatch):  # type: ignore[misc]
    """A batch that any header name can be read from, and whose attributes are a byte, whichever."""

    __slots__ = ()

    def _read_msg(self, *arguments: Any) -> Any:
        raw = bytearray(self._buffer)
        _, start = decode_varint(raw, self._pos)
        raw[start] = 0
        strict = self._buffer
        self._buffer: bytes = _EscapingBuffer(raw)  # type: ignore[misc]
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


@dataclass(frozen=True)
class Aborted:
    """A transaction as a fetch response tells of it."""

    producer_id: int
    first_offset: int


def open_records(
    kind: type[Any],
    content: bytes,
    fetch_offset: int = 0,
    *,
    aborted: Sequence[Aborted] = (),
    isolation_level: int = 0,
    **options: Any,
) -> Any:
    return kind(
        fetch_offset,
        SOURCE,
        MemoryRecords(content),
        isolation_level=isolation_level,
        aborted_transactions=list(aborted),
        **options,
    )


def one_by_one(taken: Iterable[Any]) -> list[Any]:
    """The records of what `take` gave, or a consumer's poll for a partition: kafka-python's own, or pieces of ours."""
    return [record for each in taken for record in (each if isinstance(each, Records) else [each])]


def plain(taken: Iterable[Any]) -> list[tuple[Any, ...]]:
    return [
        (as_long(each.offset), as_long(each.timestamp), each.key, each.value, list(each.headers))
        for each in one_by_one(taken)
    ]


def read(part: Any, takes: Sequence[int] = (4000,)) -> tuple[list[Any], str]:
    """Take so many again and again; return what each take returned, and what ended it: an error's name, or ''."""
    taken_in: list[Any] = []
    turn = 0
    while part:
        try:
            records = part.take(takes[turn % len(takes)])
        except Exception as error:
            return taken_in, type(error).__name__
        taken_in.append((plain(records), as_long(part.next_fetch_offset), part.leader_epoch))
        turn += 1
    return [*taken_in, part.bytes_read, part.records_read], ""
