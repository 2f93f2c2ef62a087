"""The latest records of a topic, of Apache Kafka itself."""

import time
from collections.abc import Callable
from typing import Any

import confluent_kafka
import pytest
from kafka.structs import TopicPartition

from ingest.consumer import latest
from ingest.consumer.latest import Latest, latest_records, shared_out
from ingest.record_batches import decompression
from service.broker.node import Broker
from tests.kafka.outside_client import producer, send


def numbered(count: int) -> list[tuple[bytes | None, bytes | None, list[Any]]]:
    return [(None, str(number).encode(), []) for number in range(count)]


def read(broker: Broker, topic: str, count: int) -> dict[int, list[tuple[int, bytes | None]]]:
    found = looked_at(broker, topic, count)
    assert (found.unanswered, found.undecodable) == ([], 0)
    return {source.partition: [(each.offset, each.value) for each in some] for source, some in found.records.items()}


def looked_at(broker: Broker, topic: str, count: int) -> Latest:
    return latest_records(broker.bootstrap_servers, topic, count, time.monotonic)


def test_they_are_the_last_of_each_partition_that_holds_any(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(partitions=3)
    client = producer(broker.bootstrap_servers)
    send(client, name, numbered(50), partition=0)
    send(client, name, numbered(5), partition=2)
    assert read(broker, name, 20) == {  # what one doesn't fill the other does
        0: [(number, str(number).encode()) for number in range(35, 50)],
        2: [(number, str(number).encode()) for number in range(5)],
    }


def test_what_comes_while_it_reads_is_left_for_the_next_time(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic()
    client = producer(broker.bootstrap_servers)
    send(client, name, numbered(10), partition=0)
    begin = latest._begin

    def begin_and_send(consumer: Any, *arguments: Any) -> tuple[dict[TopicPartition, int], bool]:
        begun = begin(consumer, *arguments)
        send(client, name, numbered(10), partition=0)
        return begun

    monkeypatch.setattr(latest, "_begin", begin_and_send)
    found = looked_at(broker, name, 10)
    assert found.records[TopicPartition(name, 0)].offset.tolist() == list(range(10))
    assert found.whole
    monkeypatch.undo()
    assert not looked_at(broker, name, 10).whole


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
    assert looked_at(broker, name, 1).barren == [TopicPartition(name, 0)]  # its last offset is a marker


def test_what_is_kept_of_more_than_fits_is_the_newest_of_each_partition(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic(partitions=2)
    client: confluent_kafka.Producer = producer(broker.bootstrap_servers)
    for number in range(8):  # a batch each, which is a piece
        send(client, name, [(None, b"%d" % number + bytes(500_000), [])], partition=0)
    send(client, name, numbered(5), partition=1)
    monkeypatch.setattr(latest, "MAX_BYTES", 2_200_000)
    found = looked_at(broker, name, 16).records
    assert [record.value[:1] for record in found[TopicPartition(name, 0)] if record.value] == [b"6", b"7"]
    assert len(found[TopicPartition(name, 1)]) == 5
    assert found[TopicPartition(name, 0)].offset.tolist() == [6, 7]
    assert not looked_at(broker, name, 16).whole


def test_a_partition_that_gives_nothing_is_told_of(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one whose leader can't be reached nothing comes; here it is paused."""
    name = topic(partitions=2)
    send(producer(broker.bootstrap_servers), name, numbered(10), partition=0)
    send(producer(broker.bootstrap_servers), name, numbered(10), partition=1)
    begin = latest._begin

    def begin_and_pause(consumer: Any, *arguments: Any) -> tuple[dict[TopicPartition, int], bool]:
        ends = begin(consumer, *arguments)
        consumer.pause(TopicPartition(name, 1))
        return ends

    add, time_s = latest._Newest.add, [0.0]

    def add_and_be_late(newest: Any, piece: Any) -> None:
        add(newest, piece)
        time_s[0] = 1000.0

    monkeypatch.setattr(latest, "_begin", begin_and_pause)
    monkeypatch.setattr(latest._Newest, "add", add_and_be_late)
    found = latest_records(broker.bootstrap_servers, name, 20, lambda: time_s[0])
    assert list(found.records) == [TopicPartition(name, 0)]
    assert found.unanswered == [TopicPartition(name, 1)]
    assert found.barren == []


def test_what_cant_be_decompressed_is_counted(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic()
    client = producer(broker.bootstrap_servers, **{"compression.type": "gzip"})
    send(client, name, [(None, bytes(100_000), [])] * 2, partition=0)
    send(client, name, numbered(3), partition=0)
    monkeypatch.setattr(decompression, "LARGEST", 50_000)
    found = looked_at(broker, name, 20)
    assert found.undecodable == 2
    assert len(found.records[TopicPartition(name, 0)]) == 3


@pytest.mark.parametrize(
    ("count", "held", "shares"),
    [
        (10, {0: 100, 1: 100}, {0: 5, 1: 5}),
        (10, {0: 2, 1: 100, 2: 0}, {0: 2, 1: 8}),
        (11, {0: 100, 1: 100, 2: 1}, {0: 5, 1: 5, 2: 1}),
        (1000, {0: 3, 1: 4}, {0: 3, 1: 4}),
        (1, {0: 3, 1: 4}, {0: 1, 1: 1}),
        (5, {}, {}),
    ],
)
def test_what_small_partitions_dont_fill_goes_to_the_large_ones(
    count: int, held: dict[int, int], shares: dict[int, int]
) -> None:
    named = {TopicPartition("t", number): records for number, records in held.items()}
    assert {source.partition: share for source, share in shared_out(count, named).items()} == shares
