"""Kafka as the service's users see it: another client library, and what is on the topics."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import confluent_kafka


@dataclass(frozen=True)
class Label:
    """One record of the output topic, read committed."""

    partition: int
    key: bytes
    value: dict[str, Any]
    headers: dict[str, bytes]
    timestamp_ms: int

    @property
    def identity(self) -> tuple[bytes, int]:
        return self.key, self.value["window_start"]


def producer(bootstrap_servers: str, **settings: Any) -> confluent_kafka.Producer:
    return confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap_servers, "linger.ms": 5, "acks": "all", "partitioner": "murmur2", **settings}
    )


def send(
    client: confluent_kafka.Producer,
    topic: str,
    messages: Iterable[tuple[bytes | None, bytes | None, list[tuple[str, str | bytes | None]]]],
    **placing: Any,
) -> None:
    """Send (key, value, headers) each, and wait until Kafka has acknowledged all."""
    failures: list[str] = []
    for key, value, headers in messages:
        while True:
            try:
                client.produce(
                    topic,
                    key=key,
                    value=value,
                    headers=headers,
                    on_delivery=lambda error, _: failures.append(str(error)) if error else None,
                    **placing,
                )
                break
            except BufferError:
                client.poll(0.1)
    assert client.flush(30) == 0
    assert not failures, failures[:3]


def read_topic(
    bootstrap_servers: str, topic: str, *, until: Callable[[list[confluent_kafka.Message]], bool], timeout_s: float = 30
) -> list[confluent_kafka.Message]:
    """Read a topic from its start until `until` says so or the time is up; return what was there."""
    client = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    try:
        partitions = client.list_topics(topic, timeout=10).topics[topic].partitions
        client.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in partitions])
        messages: list[confluent_kafka.Message] = []
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not until(messages):
            for message in client.consume(1000, timeout=0.2):
                assert message.error() is None, message.error()
                messages.append(message)
        return messages
    finally:
        client.close()


def read_labels(bootstrap_servers: str, topic: str, count: int, *, settle_s: float = 1.0) -> list[Label]:
    """Read labels until `count` have come and nothing more for `settle_s`, or half a minute is over."""
    last = [0, time.monotonic()]

    def settled(messages: list[confluent_kafka.Message]) -> bool:
        if len(messages) != last[0]:
            last[:] = [len(messages), time.monotonic()]
        return len(messages) >= count and time.monotonic() - last[1] > settle_s

    return [as_label(message) for message in read_topic(bootstrap_servers, topic, until=settled)]


def as_label(message: confluent_kafka.Message) -> Label:
    partition, key, value, headers = message.partition(), message.key(), message.value(), message.headers()
    assert partition is not None
    assert key is not None
    assert value is not None
    assert isinstance(headers, list)
    return Label(
        partition=partition,
        key=key,
        value=json.loads(value),
        headers={name: content for name, content in headers if isinstance(content, bytes)},
        timestamp_ms=message.timestamp()[1],
    )
