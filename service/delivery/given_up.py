"""The records whose dead letters have been given up, until a committed position has passed them."""

import threading
from collections.abc import Collection, Iterable

from kafka.structs import TopicPartition

# Of a partition. Far more than can be on their way; beyond it, the oldest would be tried once more.
MOST = 100_000


class GivenUp:
    """Outlives a partition's recovery, which meets the same records again; any thread uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets: dict[TopicPartition, set[int]] = {}

    def note(self, source: TopicPartition, offsets: Iterable[int]) -> None:
        """Remember records of a partition."""
        with self._lock:
            known = self._offsets.setdefault(source, set())
            known.update(offsets)
            if len(known) > MOST:
                self._offsets[source] = set(sorted(known)[-MOST:])

    def of(self, source: TopicPartition) -> Collection[int]:
        """Return those of a partition that are remembered."""
        with self._lock:
            return frozenset(self._offsets.get(source, ()))

    def committed(self, source: TopicPartition, position: int) -> None:
        """Forget those that a committed position has passed."""
        with self._lock:
            left = {offset for offset in self._offsets.pop(source, ()) if offset >= position}
            if left:
                self._offsets[source] = left

    def forget(self, sources: Iterable[TopicPartition]) -> None:
        """Forget those of partitions that are gone."""
        with self._lock:
            for source in sources:
                self._offsets.pop(source, None)
