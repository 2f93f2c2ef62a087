"""What operators do to topics and groups, with admin clients."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import kafka
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, says its manual
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from kafka.structs import OffsetAndMetadata

from service.kafka_admin.topics import admin_client
from tests.chaos.load import QUIET
from tests.chaos.stage import Stage

TIMEOUT_S = 20.0


def delete_topic(stage: Stage, topic: str) -> None:
    """Delete a topic, and wait until it is gone."""
    with _asking(stage) as admin:
        admin.delete_topics([topic])[topic].result(TIMEOUT_S)
        deadline = time.monotonic() + TIMEOUT_S
        while topic in admin.list_topics(timeout=TIMEOUT_S).topics:
            assert time.monotonic() < deadline, f"{topic} is still there"
            time.sleep(0.1)


def make_topic(stage: Stage, topic: str, partitions: int) -> None:
    """Make a topic."""
    with _asking(stage) as admin:
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(TIMEOUT_S)


def add_partitions(stage: Stage, topic: str, total: int) -> None:
    """Add partitions until there are so many."""
    with _asking(stage) as admin:
        admin.create_partitions([NewPartitions(topic, total)])[topic].result(TIMEOUT_S)


def set_up_topic(stage: Stage, topic: str, **settings: str) -> None:
    """Change settings of a topic; ``_`` stands for a dot."""
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    with _asking(stage) as admin:
        admin.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)


def forbid_writing(stage: Stage, topic: str) -> None:
    """Take the right to write a topic away from everybody, and no other right."""
    with _asking(stage) as admin:
        for answer in admin.create_acls(_no_writing(AclBinding, topic)).values():
            answer.result(TIMEOUT_S)


def allow_writing(stage: Stage, topic: str) -> None:
    """Give it back."""
    with _asking(stage) as admin:
        for answer in admin.delete_acls(_no_writing(AclBindingFilter, topic)).values():
            answer.result(TIMEOUT_S)


def _no_writing(kind: Any, topic: str) -> list[Any]:
    what = ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:*", "*"
    return [
        kind(*what, AclOperation.ALL, AclPermissionType.ALLOW),
        kind(*what, AclOperation.WRITE, AclPermissionType.DENY),
    ]


def delete_records(stage: Stage, topic: str, before: Mapping[int, int]) -> None:
    """Delete a topic's records before an offset, in each partition."""
    asked = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
    with _asking(stage) as admin:
        for answer in admin.delete_records(asked).values():
            answer.result(TIMEOUT_S)


def committed(stage: Stage) -> dict[int, tuple[int, str]]:
    """Return each input partition's committed position and metadata.

    By kafka-python, for confluent-kafka (2.13) reads metadata beyond its end.
    """
    group = stage.flags["--kafka.group-id"]
    with admin_client(stage.broker.bootstrap_servers) as admin:
        offsets = admin.list_group_offsets({group: None})[group]
    return {source.partition: (at.offset, at.metadata) for source, at in offsets.items() if source.topic == stage.input}


def commit(stage: Stage, positions: Mapping[int, tuple[int, str]]) -> None:
    """Commit positions and metadata for a group without members."""
    with admin_client(stage.broker.bootstrap_servers) as admin:
        admin.alter_group_offsets(
            stage.flags["--kafka.group-id"],
            {kafka.TopicPartition(stage.input, number): OffsetAndMetadata(*at, -1) for number, at in positions.items()},
        )


def forget_commits(stage: Stage) -> None:
    """Delete a group without members, and so its commits, as brokers do when nobody came for a week."""
    group = stage.flags["--kafka.group-id"]
    with _asking(stage) as admin:
        admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)


def rewind_points(stage: Stage) -> dict[int, int]:
    """Return where a successor would begin to read, by the commits' metadata."""
    return {partition: json.loads(metadata)["rewind_to"] for partition, (_, metadata) in committed(stage).items()}


@contextmanager
def _asking(stage: Stage) -> Iterator[AdminClient]:
    """Yield a client that lives until its questions have been answered."""
    yield AdminClient({"bootstrap.servers": stage.broker.bootstrap_servers, **QUIET})
