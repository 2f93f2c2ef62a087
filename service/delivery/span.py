"""Which records of its topic a worker is to label: all there will ever be, or those of a stretch of the log."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka.structs import TopicPartition

from service.delivery.partition import NO_END


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of each partition: from ``firsts`` on, and before ``ends``; without ``ends`` all there will ever be.

    What is open at the end of a partition in ``left_open`` isn't closed there, for another worker goes on with it.
    """

    firsts: Mapping[TopicPartition, int] = field(default_factory=dict)
    ends: Mapping[TopicPartition, int] | None = None
    left_open: frozenset[TopicPartition] = frozenset()

    def first(self, source: TopicPartition) -> int:
        """Return the offset before which nothing of a partition is wanted."""
        return self.firsts.get(source, 0)

    def end(self, source: TopicPartition) -> int:
        """Return the offset from which on nothing is wanted; of a partition that came later, that is all of it."""
        return NO_END if self.ends is None else self.ends.get(source, 0)


ALL = Span()
