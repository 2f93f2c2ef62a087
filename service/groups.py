"""Consumer groups: who is in one, what of a topic they hold, and how far they are."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

GROUPS_WAIT_S = 10.0
Answer = TypeVar("Answer")

Commits = Mapping[TopicPartition, OffsetAndMetadata]


def ask_of_groups(ask: Callable[[], Answer]) -> Answer:
    """Return what a question about a group is answered with; raises KafkaError.

    A broker that has never had one makes the topic of their offsets when it is first asked, which takes a while.
    """
    deadline = time.monotonic() + GROUPS_WAIT_S
    while True:
        try:
            return ask()
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def describe(admin: KafkaAdminClient, group_id: str) -> Mapping[str, Any]:
    """Return what Kafka says of a group, as kafka-python words it; raises KafkaError."""
    group: Mapping[str, Any] = ask_of_groups(lambda: admin.describe_groups([group_id])[group_id])
    return group


def held_by(member: Mapping[str, Any], topic: str) -> set[int]:
    """Return the partitions of a topic that a member holds."""
    assigned = (member["member_assignment"] or {}).get("assigned_partitions") or []
    return {number for each in assigned if each["topic"] == topic for number in each["partitions"]}


def commits_of(admin: KafkaAdminClient, group: str, sources: Collection[TopicPartition]) -> Commits:
    """Return a group's commits of partitions; those it has not have an offset below 0. Raises KafkaError."""
    found: Commits = ask_of_groups(lambda: admin.list_group_offsets({group: list(sources)})[group])
    return found
