"""Who is in a consumer group, and what of a topic they hold."""

from collections.abc import Mapping
from typing import Any

from kafka.admin import KafkaAdminClient

from service.topics import ask_of_groups


def describe(admin: KafkaAdminClient, group_id: str) -> Mapping[str, Any]:
    """Return what Kafka says of a group, as kafka-python words it; raises KafkaError."""
    group: Mapping[str, Any] = ask_of_groups(lambda: admin.describe_groups([group_id])[group_id])
    return group


def held_by(member: Mapping[str, Any], topic: str) -> set[int]:
    """Return the partitions of a topic that a member holds."""
    assigned = (member["member_assignment"] or {}).get("assigned_partitions") or []
    return {number for each in assigned if each["topic"] == topic for number in each["partitions"]}
