"""Dead letters: rejected records as they came, with the reason in headers.

A dead letter keeps the record's key, value, headers and timestamp; of more headers than a record may have, it keeps the
first `MAX_HEADERS`. Its own headers come after the original ones. So a record that is replayed from a dead-letter topic
and rejected again has both sets: the last header of a name counts, as in Kafka's own `lastHeader`, and the earlier ones
are its history.

Any producer can write two things that Kafka allows, but kafka-python's `send` (3.0.12) refuses with an exception. A
null header value is sent as an empty one. A record without key and value is sent as the value `NULL`, by a producer
with a `NullableValues` as its `value_serializer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kafka.serializer import Serializer

from ingest.contract import (
    ERROR_DETAIL_HEADER,
    ERROR_REASON_HEADER,
    MAX_HEADERS,
    SOURCE_OFFSET_HEADER,
    SOURCE_PARTITION_HEADER,
    SOURCE_TOPIC_HEADER,
)
from ingest.record import ConsumedRecord
from ingest.rejections import Rejection


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected record with its reason: all that is to be written, without the topic.

    `timestamp` is the record's own, in epoch ms.
    """

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp: int


def dead_letter(record: ConsumedRecord, rejection: Rejection, topic: str, partition: int) -> DeadLetter:
    """Return the dead letter of a rejected record of this topic and partition."""
    return DeadLetter(
        key=record.key,
        value=record.value,
        headers=[
            *((name, value or b"") for name, value in record.headers[:MAX_HEADERS]),
            (ERROR_REASON_HEADER, rejection.reason.encode()),
            (ERROR_DETAIL_HEADER, rejection.detail.encode()),
            (SOURCE_TOPIC_HEADER, topic.encode()),
            (SOURCE_PARTITION_HEADER, b"%d" % partition),
            (SOURCE_OFFSET_HEADER, b"%d" % record.offset),
        ],
        timestamp=record.timestamp,
    )


class _Null:
    """Stands for a null value, because `send` refuses None."""

    def __repr__(self) -> str:
        return "NULL"


NULL: Final = _Null()


class NullableValues(Serializer):  # type: ignore[misc]  # kafka-python has no types
    """A `value_serializer` for kafka-python that passes bytes through, and turns `NULL` into a null value."""

    def serialize(self, topic: str, headers: object, data: Any) -> bytes | None:
        """Return the bytes of a value, None for `NULL`."""
        value: bytes | None = None if data is NULL else data
        return value
