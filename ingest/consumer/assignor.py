"""An assignor that tells the group which partitions a member really holds.

kafka-python's (3.0.12) cooperative assignor (KIP-429) claims to own the last assignment, even if the member has been
removed from the group and lost all of it since. If two members claim a partition, the leader may take the wrong one for
its owner, and assign it while the true owner still has it. For a moment both are members of one generation, so Kafka
takes the commits and transactions of either.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import TopicPartition


class HonestAssignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """kafka-python's assignor under its own name, which claims the partitions that ``held`` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Callable[[], Collection[TopicPartition]] = tuple

    def metadata(self, topics: Iterable[str]) -> Any:
        """Return the member's metadata for joining the group."""
        self.member_assignment = list(self.held())
        return super().metadata(topics)
