"""The latest records of a topic, of Apache Kafka itself."""

from collections.abc import Callable
from typing import Any

import confluent_kafka
import pytest
from kafka.structs import TopicPartition

from ingest import latest
from ingest.latest import latest_records
from service.broker import Broker
from tests.kafka.outside_client import producer, send


def numbered(count: int) -> list[tuple[bytes | None, bytes | None, list[Any]]]:
    return [(None, str(number).encode(), []) for number in range(count)]


def read(broker: Broker, topic: str, count: int) -> dict[int, list[tuple[int, bytes | None]]]:
    found = latest_records(broker.bootstrap_servers, topic, count)
    return {source.partition: [(each.offset, each.value) for each in records] for source, records in found.items()}


def test_they_are_the_last_of_each_partition_that_holds_any(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(partitions=3)
    client = producer(broker.bootstrap_servers)
    send(client, name, numbered(50), partition=0)
    send(client, name, numbered(5), partition=2)
    assert read(broker, name, 20) == {
        0: [(number, str(number).encode()) for number in range(40, 50)],
        2: [(number, str(number).encode()) for number in range(5)],
    }


def test_of_an_empty_topic_there_are_none(broker: Broker, topic: Callable[..., str]) -> None:
    assert read(broker, topic(partitions=2), 10) == {}


def test_what_was_aborted_is_left_out_and_does_not_keep_anybody_waiting(
    broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic()
    client = producer(broker.bootstrap_servers, **{"transactional.id": name})
    client.init_transactions()
    for value, end in ((b"kept", client.commit_transaction), (b"dropped", client.abort_transaction)):
        client.begin_transaction()
        client.produce(name, value=value, partition=0)
        client.flush()
        end()
    assert read(broker, name, 100) == {0: [(0, b"kept")]}
    assert read(broker, name, 1) == {}  # a marker


def test_no_more_is_read_than_fits(broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    name = topic()
    client: confluent_kafka.Producer = producer(broker.bootstrap_servers)
    for _ in range(8):  # a batch each, of which a fetch takes two or so
        send(client, name, [(None, bytes(500_000), [])] * 2)
    monkeypatch.setattr(latest, "MAX_BYTES", 1_000_000)
    (records,) = latest_records(broker.bootstrap_servers, name, 16).values()
    assert 2 <= len(records) < 16
    assert records.offset[0] == 0
    monkeypatch.undo()
    assert len(latest_records(broker.bootstrap_servers, name, 16)[TopicPartition(name, 0)]) == 16
