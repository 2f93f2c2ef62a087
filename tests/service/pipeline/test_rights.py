"""What a worker may do with its topics, asked of a small broker."""

import threading
from collections.abc import Iterator
from typing import Any

import kafka
import pytest
from kafka.admin import ACLOperation
from kafka.errors import NoError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from kafka.protocol.metadata import MetadataResponse

from ingest.client.connection import connect
from service.kind import WorkerError
from service.pipeline.rights import READ, READ_AND_WRITE, refuse_missing_rights
from tests.ingest.small_broker import SmallBroker, answer, refuse

WANTED = {"readings": READ, "labels": READ_AND_WRITE}


@pytest.fixture
def broker() -> Iterator[SmallBroker]:
    with SmallBroker() as broker:
        yield broker


@pytest.fixture
def consumer(broker: SmallBroker) -> Iterator[kafka.KafkaConsumer]:
    consumer = connect(kafka.KafkaConsumer, broker.address)
    yield consumer
    consumer.close()


def topic(name: str, *rights: ACLOperation, error: Any = NoError) -> MetadataResponse.MetadataResponseTopic:
    operations = {int(right) for right in rights}
    return MetadataResponse.MetadataResponseTopic(
        error_code=error.errno, name=name, is_internal=False, partitions=[], authorized_operations=operations
    )


ALL = [topic("readings", ACLOperation.READ), topic("labels", ACLOperation.READ, ACLOperation.WRITE)]


def test_a_worker_with_all_rights_begins(broker: SmallBroker, consumer: kafka.KafkaConsumer) -> None:
    broker.topics = ALL
    refuse_missing_rights(consumer, broker.address, WANTED)


def test_topics_that_are_missing_are_named(broker: SmallBroker, consumer: kafka.KafkaConsumer) -> None:
    broker.topics = [ALL[0], topic("labels", error=UnknownTopicOrPartitionError)]
    with pytest.raises(
        WorkerError, match="has no topic labels: `stridecast topics`, with the same flags for Kafka and topics, creates"
    ):
        refuse_missing_rights(consumer, broker.address, WANTED)


def test_rights_that_are_missing_are_named(broker: SmallBroker, consumer: kafka.KafkaConsumer) -> None:
    broker.topics = [topic("readings", error=TopicAuthorizationFailedError), topic("labels", ACLOperation.READ)]
    with pytest.raises(WorkerError, match="ACLs READ on topic readings, WRITE on topic labels"):
        refuse_missing_rights(consumer, broker.address, WANTED)


def test_a_broker_that_is_being_restarted_is_asked_again(broker: SmallBroker, consumer: kafka.KafkaConsumer) -> None:
    broker.topics = ALL
    broker.serve = refuse
    broker.cut()
    before = broker.connections

    def come_back() -> None:
        while broker.connections == before:
            threading.Event().wait(0.01)
        broker.serve = answer

    threading.Thread(target=come_back, daemon=True).start()
    refuse_missing_rights(consumer, broker.address, WANTED)
    assert broker.connections > before + 1
