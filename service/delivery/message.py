"""A record on its way to Kafka."""

from dataclasses import dataclass
from typing import Any

from ingest.dead_letters import NULL


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One record to produce; without a partition its key chooses."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int | None = None

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")

    def fields(self) -> dict[str, Any]:
        """Return all but the topic as a producer's ``send`` takes it."""
        return {
            "key": self.key,
            "value": NULL if self.value is None else self.value,
            "headers": self.headers,
            "partition": self.partition,
            "timestamp_ms": self.timestamp_ms,
        }
