"""Records whose header names are not UTF-8, as raw clients can write them."""

from collections.abc import Callable

import kafka
import pytest
from kafka.errors import CorruptRecordError
from kafka.structs import TopicPartition

from ingest.fetched import PartitionRecords
from service.broker import Broker
from tests.kafka.raw_client import batch, produce_raw, record


def read(
    broker: Broker, topic: str, count: int, records_class: type | None
) -> list[tuple[bytes, list[tuple[str, bytes]]]]:
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        if records_class is not None:
            consumer._fetcher.PartitionRecords = records_class
        consumer.assign([TopicPartition(topic, 0)])
        found: list[tuple[bytes, list[tuple[str, bytes]]]] = []
        for _ in range(100):
            for records in consumer.poll(timeout_ms=200).values():
                found += [(each.value, list(each.headers)) for each in records]
            if len(found) >= count:
                break
        return found
    finally:
        consumer.close()


def test_a_header_name_that_is_not_utf8_is_escaped_and_its_neighbours_are_read(
    broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic()
    odd = [(b"\xff\xfe", b"kept"), (b"content-type", b"application/json")]
    produce_raw(
        broker.bootstrap_servers,
        name,
        batch([record(0, b"before", [(b"fine", b"1")]), record(1, b"odd", odd), record(2, b"after", [])]),
    )
    with pytest.raises(
        CorruptRecordError, match="UnicodeDecodeError"
    ):  # as long as this raises, we need what this file tests
        read(broker, name, 3, None)
    assert read(broker, name, 3, PartitionRecords) == [
        (b"before", [("fine", b"1")]),
        (b"odd", [("\\xff\\xfe", b"kept"), ("content-type", b"application/json")]),
        (b"after", []),
    ]
