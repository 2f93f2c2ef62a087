"""Our reading of what Apache Kafka stores, record for record beside the stock consumer's."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import confluent_kafka
import kafka
import pytest
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.structs import TopicPartition

from ingest.record_batches.fetched import PartitionRecords
from service.broker.node import Broker
from tests.ingest.batches import Batch, plain, record
from tests.kafka.outside_client import producer, send
from tests.kafka.raw_client import produce_raw

Message = tuple[bytes | None, bytes | None, list[tuple[str, str | bytes | None]]]

MESSAGES: list[Message] = [
    (b"key", b"value", []),
    (None, b"no key", [("content-type", b"application/json")]),
    (b"no value", None, [("content-type", b"application/json"), ("größe", None), ("", b"")]),
    (b"", b"", []),
    (b"long", b"x" * 5000, [("long", b"y" * 300)]),
] * 3


@contextmanager
def assigned(broker: Broker, topic: str, kind: type[Any], start: int, **settings: Any) -> Iterator[Any]:
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, group_id=None, enable_auto_commit=False, **settings
    )
    try:
        consumer._fetcher.PartitionRecords = kind
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek(TopicPartition(topic, 0), start)
        yield consumer
    finally:
        consumer.close()


def read(
    broker: Broker, topic: str, kind: type[Any], start: int = 0, **settings: Any
) -> tuple[list[tuple[Any, ...]], Any]:
    """Read to the end, at most so far as is committed; return the records, and the position with its leader epoch."""
    found: list[tuple[Any, ...]] = []
    with assigned(broker, topic, kind, start, **settings) as consumer:
        (source,) = consumer.assignment()
        end = consumer.end_offsets([source])[source]
        deadline = time.monotonic() + 20
        while consumer.position(source) < end and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=200).values():
                assert len(records) <= settings.get("max_poll_records", 500)
                found += plain(records)
        return found, consumer._subscription.assignment[source].position


def assert_read_alike(broker: Broker, topic: str, start: int = 0, **settings: Any) -> list[tuple[Any, ...]]:
    ours, position = read(broker, topic, PartitionRecords, start, **settings)
    assert (ours, position) == read(broker, topic, Fetcher.PartitionRecords, start, **settings)
    return ours


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_records_are_those_that_the_stock_consumer_gives_whatever_the_codec(
    broker: Broker, topic: Callable[..., str], codec: str
) -> None:
    name = topic()
    send(producer(broker.bootstrap_servers, **{"compression.type": codec}), name, MESSAGES)
    ours = assert_read_alike(broker, name)
    assert [(key, value) for _, _, key, value, _ in ours] == [(key, value) for key, value, _ in MESSAGES]


def test_records_stamped_by_the_broker_have_its_timestamp(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(message_timestamp_type="LogAppendTime")
    send(producer(broker.bootstrap_servers), name, MESSAGES, timestamp=1000)
    ours = assert_read_alike(broker, name)
    assert len(ours) == len(MESSAGES)
    assert min(timestamp for _, timestamp, *_ in ours) > 1000


def test_a_batch_is_begun_at_any_of_its_records(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic()
    send(producer(broker.bootstrap_servers, **{"linger.ms": 200, "compression.type": "lz4"}), name, MESSAGES)
    for start in (0, 1, 7, len(MESSAGES) - 1):
        assert [offset for offset, *_ in assert_read_alike(broker, name, start)] == list(range(start, len(MESSAGES)))


def test_few_records_a_poll_and_few_bytes_a_fetch_give_every_record_once(
    broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic()
    send(producer(broker.bootstrap_servers, **{"batch.size": 600}), name, MESSAGES * 5)
    ours = assert_read_alike(broker, name, max_poll_records=7, max_partition_fetch_bytes=1000)
    assert [offset for offset, *_ in ours] == list(range(5 * len(MESSAGES)))


@pytest.fixture
def with_transactions(broker: Broker, topic: Callable[..., str]) -> Iterator[str]:
    """A topic with a record of no transaction, two committed, two aborted, one of either at once, and an open one."""
    name = topic()
    clients = [transactional(broker, f"{name}-{number}") for number in range(2)]
    send(producer(broker.bootstrap_servers), name, [(None, b"plain", [])])
    for commit in (True, False):
        clients[0].begin_transaction()
        send(clients[0], name, [(None, b"committed" if commit else b"aborted", [])] * 2)
        (clients[0].commit_transaction if commit else clients[0].abort_transaction)()
    for client, value in zip(clients, (b"aborted", b"committed"), strict=True):
        client.begin_transaction()
        send(client, name, [(None, value, [])])
    clients[0].abort_transaction()
    clients[1].commit_transaction()
    clients[0].begin_transaction()
    send(clients[0], name, [(None, b"open", [])])
    send(producer(broker.bootstrap_servers), name, [(None, b"after", [])])
    yield name
    clients[0].abort_transaction()


def transactional(broker: Broker, name: str) -> confluent_kafka.Producer:
    client = producer(broker.bootstrap_servers, **{"transactional.id": name})
    client.init_transactions()
    return client


def test_a_committed_reader_is_given_what_is_committed(broker: Broker, with_transactions: str) -> None:
    ours = assert_read_alike(broker, with_transactions, isolation_level="read_committed")
    assert [value for _, _, _, value, _ in ours] == [b"plain", b"committed", b"committed", b"committed"]


def test_an_uncommitted_reader_is_given_all_but_markers(broker: Broker, with_transactions: str) -> None:
    ours = assert_read_alike(broker, with_transactions, isolation_level="read_uncommitted")
    assert len(ours) == 9


def test_the_gaps_that_compaction_leaves_are_passed(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(
        cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.01", max_compaction_lag_ms="1"
    )
    client = producer(broker.bootstrap_servers, **{"linger.ms": 100})
    send(client, name, [(b"key-%d" % (number % 3), b"%d" % number, []) for number in range(30)])
    deadline, left = time.monotonic() + 60, 31
    while left > 20 and time.monotonic() < deadline:  # the cleaner looks every 15 s, at all but the last segment
        time.sleep(0.5)
        send(client, name, [(b"roll", b"", [])])
        left = len([each for each in read(broker, name, Fetcher.PartitionRecords)[0] if each[2] != b"roll"])
    ours = assert_read_alike(broker, name)
    assert [value for _, _, key, value, _ in ours if key != b"roll"] == [b"27", b"28", b"29"]
    assert assert_read_alike(broker, name, start=3) == ours


def values_and_headers(records: list[tuple[Any, ...]]) -> list[tuple[bytes, list[tuple[str, bytes]]]]:
    return [(value, headers) for _, _, _, value, headers in records]


def test_a_header_name_that_is_not_utf8_is_escaped_and_its_neighbours_are_read(
    broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic()
    odd = [(b"\xff\xfe", b"kept"), (b"content-type", b"application/json")]
    produce_raw(
        broker.bootstrap_servers,
        name,
        Batch(
            [record(0, b"before", headers=[(b"fine", b"1")]), record(1, b"odd", headers=odd), record(2, b"after")]
        ).written,
    )
    with pytest.raises(
        CorruptRecordError, match="UnicodeDecodeError"
    ):  # as long as this raises, we need what this file tests
        read(broker, name, Fetcher.PartitionRecords)
    assert values_and_headers(read(broker, name, PartitionRecords)[0]) == [
        (b"before", [("fine", b"1")]),
        (b"odd", [("\\xff\\xfe", b"kept"), ("content-type", b"application/json")]),
        (b"after", []),
    ]
