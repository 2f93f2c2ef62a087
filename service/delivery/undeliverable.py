"""Records whose dead letters can't be delivered, remembered until a committed position has passed them."""

import threading
from collections.abc import Collection, Iterable

from kafka.structs import TopicPartition

# Offsets for each partition, far more than can be in flight. Beyond it, the oldest would be tried once more.
MOST = 100_000


class Undeliverable:
    """The offsets of such records. It outlives a recovery, which reads the same records again; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets: dict[TopicPartition, set[int]] = {}

    def note(self, source: TopicPartition, offsets: Iterable[int]) -> None:
        """Remember records of a partition, by offset."""
        with self._lock:
            known = self._offsets.setdefault(source, set())
            known.update(offsets)
            if len(known) > MOST:
                self._offsets[source] = set(sorted(known)[-MOST:])

    def of(self, source: TopicPartition) -> Collection[int]:
        """Return the offsets that are remembered of a partition."""
        with self._lock:
            return frozenset(self._offsets.get(source, ()))

    def committed(self, source: TopicPartition, position: int) -> None:
        """Forget records that a committed position has passed."""
        with self._lock:
            left = {offset for offset in self._offsets.pop(source, ()) if offset >= position}
            if left:
                self._offsets[source] = left

    def forget(self, sources: Iterable[TopicPartition]) -> None:
        """Forget the records of partitions that were revoked."""
        with self._lock:
            for source in sources:
                self._offsets.pop(source, None)
