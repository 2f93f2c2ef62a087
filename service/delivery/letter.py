"""A dead letter on its way to its topic."""

from dataclasses import dataclass
from typing import Any

from ingest.dead_letters import NULL
from ingest.producer import record_bytes

OBJECTS = 500
"""Bytes of the objects that a letter is made of, about."""
FAR_OFF_MS = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Letter:
    """One record to produce: its key chooses the partition; without a timestamp the broker stamps it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int | None = None
    offset: int = -1  # of its record, in the partition that it was read from

    @property
    def size(self) -> int:
        """Bytes of it in memory, about."""
        headers = sum(len(name) + len(content) for name, content in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + OBJECTS

    @property
    def record_bytes(self) -> int:
        """Bytes of it in its topic, but for what is the same for each."""
        return record_bytes(self.key, self.value, self.headers)

    @property
    def _is_far_off(self) -> bool:
        """Whether its timestamp is so far from others' that a batch, which holds differences, can't hold both."""
        return self.timestamp_ms is not None and not -FAR_OFF_MS <= self.timestamp_ms < FAR_OFF_MS

    def fields(self, *, stamped_anew: bool) -> dict[str, Any]:
        """Return all but the topic as a producer's ``send`` takes it; without a timestamp of its own if so asked."""
        return {
            "key": self.key,
            "value": NULL if self.value is None else self.value,
            "headers": self.headers,
            "timestamp_ms": None if stamped_anew or self._is_far_off else self.timestamp_ms,
        }
