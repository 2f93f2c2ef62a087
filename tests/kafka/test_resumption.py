"""A consumer whose partitions are paused and resumed, as back-pressure does, on Apache Kafka itself."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import kafka
import pytest
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.consumer.consumer import PARTITION_RECORDS, open_consumer
from ingest.consumer.fetch_progress import FetchProgress
from ingest.consumer.rebalance_listener import RebalanceListener
from service.broker.node import Broker
from tests.ingest.batches import one_by_one
from tests.kafka.outside_client import producer, send

Message = tuple[bytes | None, bytes | None, list[tuple[str, str | bytes | None]]]

RECORDS = PARTITION_RECORDS + 500  # one fetch brings all of a partition, and one poll leaves some of it


@pytest.fixture
def open_one(broker: Broker) -> Iterator[Callable[[str], kafka.KafkaConsumer]]:
    opened = []

    def make(topic: str) -> kafka.KafkaConsumer:
        nothing: dict[TopicPartition, OffsetAndMetadata] = {}
        listener = RebalanceListener(
            assigned=lambda _: None,
            settled=lambda _: True,
            snapshots=lambda _: nothing,
            committed=lambda *_: None,
            released=lambda _: None,
            nothing_in_flight=lambda _: True,
            clock=time.monotonic,
            deadline_s=0.0,
        )
        names: dict[str, Any] = {"group_id": f"group-{topic}", "client_id": "test"}
        consumer = open_consumer(topic, listener, FetchProgress(), bootstrap_servers=broker.bootstrap_servers, **names)
        opened.append(consumer)
        while not consumer.assignment():
            consumer.poll(timeout_ms=100)
        for partition in consumer.assignment():
            consumer.seek(partition, 0)
            consumer.resume(partition)
        return consumer

    yield make
    for consumer in opened:
        consumer.close(autocommit=False)


def fill(broker: Broker, topic: str, partitions: int) -> None:
    for partition in range(partitions):
        messages: list[Message] = [(None, b"%d" % number, []) for number in range(RECORDS)]
        send(producer(broker.bootstrap_servers), topic, messages, partition=partition)


def poll_until(consumer: kafka.KafkaConsumer, enough: Callable[[], bool], take: Callable[[Any], None]) -> None:
    deadline = time.monotonic() + 20
    while not enough() and time.monotonic() < deadline:
        take(consumer.poll(timeout_ms=100))


def test_a_partition_paused_while_others_are_read_to_their_ends_goes_on_when_it_is_resumed(
    broker: Broker, topic: Callable[..., str], open_one: Callable[[str], kafka.KafkaConsumer]
) -> None:
    """Of two partitions full of texts one was paused for want of room, and stood still for ever after."""
    name = topic(2)
    fill(broker, name, 2)
    consumer = open_one(name)
    seen: Counter[TopicPartition] = Counter()

    def take(polled: dict[TopicPartition, list[Any]]) -> None:
        seen.update({partition: len(one_by_one(records)) for partition, records in polled.items()})

    poll_until(consumer, lambda: bool(seen), take)
    (paused,) = seen
    assert seen[paused] == PARTITION_RECORDS
    assert consumer._fetcher._next_partition_records  # the others are there, and will be parked
    consumer.pause(paused)
    poll_until(consumer, lambda: any(seen[other] == RECORDS for other in seen if other != paused), take)
    consumer.resume(paused)
    poll_until(consumer, lambda: seen[paused] == RECORDS, take)
    assert seen == {TopicPartition(name, 0): RECORDS, TopicPartition(name, 1): RECORDS}


def test_partitions_paused_and_resumed_at_every_turn_give_every_record_once_in_order(
    broker: Broker, topic: Callable[..., str], open_one: Callable[[str], kafka.KafkaConsumer]
) -> None:
    name = topic(4)
    fill(broker, name, 4)
    consumer = open_one(name)
    seen: dict[TopicPartition, list[int]] = {TopicPartition(name, number): [] for number in range(4)}
    turns = 0

    def take(polled: dict[TopicPartition, list[Any]]) -> None:
        nonlocal turns
        for partition, records in polled.items():
            offsets = [record.offset for record in one_by_one(records)]
            assert len(offsets) <= PARTITION_RECORDS
            seen[partition] += offsets
            consumer.pause(partition)
        turns += 1
        if turns % 3 == 0:
            consumer.resume(*seen)

    poll_until(consumer, lambda: sum(map(len, seen.values())) >= 4 * RECORDS, take)
    assert all(offsets == list(range(RECORDS)) for offsets in seen.values())
