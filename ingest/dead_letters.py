"""Rejected records, ready to be sent to the dead-letter topic as they came, with the reason in headers.

A dead letter keeps the record's key, value, headers and timestamp. Its own headers come after the original ones,
so where a record is rejected for a second time, having been replayed from a dead-letter topic, it carries both
sets: the last header of a name counts, as in Kafka's own `lastHeader`, and the earlier ones tell its history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

from ingest.contract import (
    ERROR_DETAIL_HEADER,
    ERROR_REASON_HEADER,
    SOURCE_OFFSET_HEADER,
    SOURCE_PARTITION_HEADER,
    SOURCE_TOPIC_HEADER,
)
from ingest.decode import Record
from ingest.rejections import Rejection


class ConsumedRecord(Record, Protocol):
    """A record that knows where it was read; kafka-python's `ConsumerRecord` does."""

    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected record with its reason: everything that is to be written, but for the topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of kafka-python's `producer.send`.

        Two things that Kafka allows `send` refuses (3.0.12). A null header value is sent as an empty one. A
        record without key and value is sent through `NullableValues`, which the producer must have been given
        as its `value_serializer`.
        """
        return {
            "key": self.key,
            "value": NULL if self.key is None and self.value is None else self.value,
            "headers": [(name, value or b"") for name, value in self.headers],
            "timestamp_ms": self.timestamp_ms,
        }


def dead_letter(record: ConsumedRecord, rejection: Rejection) -> DeadLetter:
    """Return the dead letter of the record that the rejection is about."""
    return DeadLetter(
        key=record.key,
        value=record.value,
        headers=[
            *record.headers,
            (ERROR_REASON_HEADER, rejection.reason.encode()),
            (ERROR_DETAIL_HEADER, rejection.detail.encode()),
            (SOURCE_TOPIC_HEADER, record.topic.encode()),
            (SOURCE_PARTITION_HEADER, b"%d" % record.partition),
            (SOURCE_OFFSET_HEADER, b"%d" % record.offset),
        ],
        timestamp_ms=record.timestamp,
    )


class _Null:
    """Stands for a null value where `send` would refuse None."""

    def __repr__(self) -> str:
        return "NULL"


NULL: Final = _Null()


class NullableValues:
    """A `value_serializer` for kafka-python that passes bytes through and turns `NULL` into a null value."""

    def serialize(self, topic: str, headers: object, data: Any) -> bytes | None:
        """Return what is written."""
        value: bytes | None = None if data is NULL else data
        return value
