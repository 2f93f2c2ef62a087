"""A record as Kafka has it, whatever its message says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from ingest.contract import MAX_HEADERS

Headers = Sequence[tuple[str, bytes | None]]

MOST_HEADERS: Final = MAX_HEADERS + 5
"""The most headers of a dead letter, and the most that are read of any record: one with more is rejected anyway."""


class Record(Protocol):
    """The attributes of a Kafka record that decoding needs; kafka-python's `ConsumerRecord` has them."""

    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Headers: ...  # noqa: D102
    @property
    def timestamp(self) -> int:
        """Kafka's own, in epoch ms."""
        ...


class ConsumedRecord(Record, Protocol):
    """A record with its offset; kafka-python's `ConsumerRecord` is one."""

    @property
    def offset(self) -> int: ...  # noqa: D102
