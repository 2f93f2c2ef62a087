"""What is asked of Kafka before a partition is read on, of Apache Kafka itself."""

from collections.abc import Callable, Iterator, Sequence

import pytest
from kafka.structs import TopicPartition

from ingest.consumer.labels_reader import LabelsReader
from service.broker.node import Broker
from service.kafka_admin.topics import admin_client
from tests.ingest.batches import Batch, record
from tests.kafka.raw_client import produce_raw


def batch(timestamp_ms: int, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    record_of_it = record(0, b"v", headers=headers)
    return Batch([record_of_it], first_timestamp=timestamp_ms, max_timestamp=timestamp_ms).written


@pytest.fixture
def reader(broker: Broker) -> Iterator[LabelsReader]:
    reader = LabelsReader(bootstrap_servers=broker.bootstrap_servers, group_id="nobody", client_id="test")
    yield reader
    reader.close()


def test_the_time_of_a_record_is_told_whatever_its_headers_are_called(
    broker: Broker, topic: Callable[..., str], reader: LabelsReader
) -> None:
    """One such record where a worker was to begin ended it, at each start again."""
    name = topic()
    produce_raw(broker.bootstrap_servers, name, batch(7000, [(b"\xff", b"")]))
    source = TopicPartition(name, 0)
    assert reader.time_of(source, 0) == 7000
    assert reader.time_of(source, 1) is None
    assert reader.offsets_at([source], 7000) == {source: 0}
    assert reader.offsets_at([source], 7001) == {source: None}


def test_all_that_has_a_timestamp_is_as_late_as_a_record_without_one(
    broker: Broker, topic: Callable[..., str], reader: LabelsReader
) -> None:
    name = topic()
    produce_raw(broker.bootstrap_servers, name, batch(-1))
    produce_raw(broker.bootstrap_servers, name, batch(7000))
    source = TopicPartition(name, 0)
    assert reader.time_of(source, 0) == -1
    assert reader.offsets_at([source], -1) == {source: 1}


def test_partitions_that_have_been_added_are_counted_at_once(
    broker: Broker, topic: Callable[..., str], reader: LabelsReader
) -> None:
    """What kafka-python knew was up to five minutes old: labels in the new partitions were not read back."""
    name = topic(partitions=1)
    reader.look_at_topics()
    assert reader.partitions_of(name) == 1
    with admin_client(broker.bootstrap_servers) as admin:
        admin.create_partitions({name: 3})
    reader.look_at_topics()
    assert reader.partitions_of(name) == 3
    added = TopicPartition(name, 2)
    assert reader.bounds([added], committed=False) == {added: (0, 0)}
    assert reader.partitions_of(f"{name}-gone") == 0
