"""A dead letter to send."""

from dataclasses import dataclass
from typing import Any

from ingest.messages.dead_letters import NULL
from ingest.producer.producer import record_bytes

OBJECTS = 500
"""Approximate bytes of a letter's Python objects, without their content."""
FAR_OFF_MS = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Letter:
    """One record to produce. Its key determines the partition; without a timestamp, the broker sets one."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int | None = None
    offset: int = -1  # of the rejected record, in its input partition

    @property
    def size(self) -> int:
        """Approximate bytes in memory."""
        headers = sum(len(name) + len(content) for name, content in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + OBJECTS

    @property
    def record_bytes(self) -> int:
        """Bytes in its topic, apart from what is the same for each record."""
        return record_bytes(self.key, self.value, self.headers)

    @property
    def _is_far_off(self) -> bool:
        """Whether its timestamp is too far from others' for one batch, which stores differences of timestamps."""
        return self.timestamp_ms is not None and not -FAR_OFF_MS <= self.timestamp_ms < FAR_OFF_MS

    def fields(self, *, stamped_anew: bool) -> dict[str, Any]:
        """Return the arguments of a producer's ``send`` but the topic; without a timestamp if ``stamped_anew``."""
        return {
            "key": self.key,
            "value": NULL if self.value is None else self.value,
            "headers": self.headers,
            "timestamp_ms": None if stamped_anew or self._is_far_off else self.timestamp_ms,
        }
