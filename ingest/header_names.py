"""Survives record headers whose names are not UTF-8, which Kafka stores and kafka-python refuses to read.

kafka-python (3.0.12) decodes a header's name while it walks through a batch: one byte that isn't UTF-8 raises in the
middle of ``poll``, at the same record for ever. The protocol calls the name a string and no broker checks it, so any
client can write one. Here such a name is read with its odd bytes escaped (``\\xff``); nothing else changes.
"""

from typing import Any

from kafka.consumer.fetcher import Fetcher
from kafka.record.default_records import DefaultRecordBatch


class _EscapedText(bytes):
    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, "backslashreplace")


class _EscapingBuffer(bytes):
    """A batch's bytes, whose slices can be decoded whatever they hold."""

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return _EscapedText(part) if isinstance(key, slice) else part


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
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


class _Batches:
    """The batches of a fetch, as `kafka.record.MemoryRecords` gives them."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if type(batch) is DefaultRecordBatch:
            batch.__class__ = _Batch
        return batch


class PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What a consumer's fetcher makes of one partition's part of a response: ``fetcher.PartitionRecords``."""

    def __init__(self, fetch_offset: int, partition: Any, records: Any, **options: Any) -> None:
        super().__init__(fetch_offset, partition, _Batches(records), **options)
