"""Tells the group what a member really holds.

kafka-python's (3.0.12) cooperative assignor (KIP-429) claims to own what its last assignment was, also where the member
has been put out of the group and lost all of it since. A leader that hears two members claim a partition may take the
wrong one for its owner, and give it away while the true one still has it: for a moment, both are members of one
generation, so that Kafka takes the commits and transactions of either.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import TopicPartition


class HonestAssignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """kafka-python's, under its name, claiming what ``held`` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Callable[[], Collection[TopicPartition]] = tuple

    def metadata(self, topics: Iterable[str]) -> Any:
        """Return what the member tells the group when it joins."""
        self.member_assignment = list(self.held())
        return super().metadata(topics)
