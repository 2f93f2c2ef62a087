"""Consumer groups: their members, assigned partitions and commits."""

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
    """Call a question about a group until it is answered; raises KafkaError.

    A broker that has never had a group creates the topic of their offsets when it is first asked, which takes a while.
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
    """Return Kafka's description of a group, in kafka-python's form; raises KafkaError."""
    group: Mapping[str, Any] = ask_of_groups(lambda: admin.describe_groups([group_id])[group_id])
    return group


def held_by(member: Mapping[str, Any], topic: str) -> set[int]:
    """Return the partitions of a topic that are assigned to a member."""
    assigned = (member["member_assignment"] or {}).get("assigned_partitions") or []
    return {number for each in assigned if each["topic"] == topic for number in each["partitions"]}


def commits_of(admin: KafkaAdminClient, group: str, sources: Collection[TopicPartition]) -> Commits:
    """Return a group's commits of partitions, with an offset below 0 where there is none; raises KafkaError."""
    found: Commits = ask_of_groups(lambda: admin.list_group_offsets({group: list(sources)})[group])
    return found
