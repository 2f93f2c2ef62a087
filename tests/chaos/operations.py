"""What operators do to topics and groups, with another client library's admin."""

import json
import time
from collections.abc import Mapping

import confluent_kafka
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, says its manual
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from tests.chaos.load import QUIET
from tests.chaos.stage import Stage

TIMEOUT_S = 20.0


def delete_topic(stage: Stage, topic: str) -> None:
    """Delete a topic, and wait until it is gone."""
    admin = _admin(stage)
    admin.delete_topics([topic])[topic].result(TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    while topic in admin.list_topics(timeout=TIMEOUT_S).topics:
        assert time.monotonic() < deadline, f"{topic} is still there"
        time.sleep(0.1)


def make_topic(stage: Stage, topic: str, partitions: int) -> None:
    """Make a topic."""
    _admin(stage).create_topics([NewTopic(topic, partitions, 1)])[topic].result(TIMEOUT_S)


def add_partitions(stage: Stage, topic: str, total: int) -> None:
    """Add partitions until there are so many."""
    _admin(stage).create_partitions([NewPartitions(topic, total)])[topic].result(TIMEOUT_S)


def set_up_topic(stage: Stage, topic: str, **settings: str) -> None:
    """Change settings of a topic; ``_`` stands for a dot."""
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    _admin(stage).incremental_alter_configs([resource])[resource].result(TIMEOUT_S)


def delete_records(stage: Stage, topic: str, before: Mapping[int, int]) -> None:
    """Delete a topic's records before an offset, in each partition."""
    asked = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
    for answer in _admin(stage).delete_records(asked).values():
        answer.result(TIMEOUT_S)


def committed(stage: Stage) -> dict[int, tuple[int, str]]:
    """Return each input partition's committed position and metadata."""
    client = _member(stage)
    try:
        asked = [TopicPartition(stage.input, number) for number in range(stage.partitions)]
        return {each.partition: (each.offset, each.metadata or "") for each in client.committed(asked, timeout=20)}
    finally:
        client.close()


def commit(stage: Stage, positions: Mapping[int, tuple[int, str]]) -> None:
    """Commit positions and metadata for a group without members."""
    client = _member(stage)
    try:
        offsets = [TopicPartition(stage.input, number, *at) for number, at in positions.items()]
        client.commit(offsets=offsets, asynchronous=False)
    finally:
        client.close()


def rewind_points(stage: Stage) -> dict[int, int]:
    """Return where a successor would begin to read, by the commits' metadata."""
    return {partition: json.loads(metadata)["rewind_to"] for partition, (_, metadata) in committed(stage).items()}


def _admin(stage: Stage) -> AdminClient:
    return AdminClient({"bootstrap.servers": stage.broker.bootstrap_servers, **QUIET})


def _member(stage: Stage) -> confluent_kafka.Consumer:
    settings = {"bootstrap.servers": stage.broker.bootstrap_servers, "group.id": stage.flags["--kafka.group-id"]}
    return confluent_kafka.Consumer({**settings, **QUIET})
