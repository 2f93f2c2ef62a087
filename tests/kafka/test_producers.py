"""How producers end, on Apache Kafka itself."""

import threading
import time
import uuid
from collections.abc import Callable

import pytest
from kafka.errors import KafkaTimeoutError
from kafka.producer.producer_batch import ProducerBatch
from kafka.structs import TopicPartition

from ingest.producer.producer import close_producer, has_failed, open_producer
from ingest.producer.transactions import FencedError, Transactions
from ingest.record_batches.bodies import pack
from service.broker.node import Broker
from service.kafka_admin.topics import admin_client


def wait_until_gone(threads: set[threading.Thread]) -> None:
    deadline = time.monotonic() + 20
    while any(thread.is_alive() for thread in threads):
        assert time.monotonic() < deadline, threads
        time.sleep(0.01)


def open_transactions(broker: Broker, timeout_s: float = 10.0) -> Transactions:
    return Transactions(
        bootstrap_servers=broker.bootstrap_servers,
        client_id="test",
        transactional_id=uuid.uuid4().hex,
        timeout_s=timeout_s,
        deadline_s=10.0,
    )


def test_a_transactional_producer_that_is_given_up_ends_though_it_has_not_sent_everything(
    broker: Broker, topic: Callable[..., str]
) -> None:
    """It went on for ever, with its threads and its connections, one more each time that a broker stood still."""
    before = set(threading.enumerate())
    transactions = open_transactions(broker)
    transactions.begin()
    transactions._producer._accumulator.drain = lambda *_, **__: {}  # nothing leaves it any more
    future = transactions.send(topic(), value=b"never sent")
    transactions.close(0.0)
    wait_until_gone(set(threading.enumerate()) - before)
    assert future.failed()


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_producer_that_is_replaced_ends_and_its_sends_fail(
    broker: Broker, topic: Callable[..., str], idempotent: bool
) -> None:
    before = set(threading.enumerate())
    producer = open_producer(bootstrap_servers=broker.bootstrap_servers, client_id="test", idempotent=idempotent)
    name = topic()
    producer._accumulator.drain = lambda *_, **__: {}
    future = producer.send(name, value=b"never sent")
    close_producer(producer, 0.0)
    wait_until_gone(set(threading.enumerate()) - before)
    assert future.failed()


def test_a_batch_that_expires_though_the_broker_may_have_it_ends_its_transaction_and_leaves_no_traceback(
    broker: Broker, topic: Callable[..., str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python's sender failed at what it allows no transactional producer to do, and left other batches behind.

    It happened where a broker refused a batch again and again for want of replicas, which takes a cluster.
    """
    monkeypatch.setattr(ProducerBatch, "in_retry", lambda _: True)
    transactions = open_transactions(broker, timeout_s=1.0)
    transactions.begin()
    transactions._producer._accumulator.drain = lambda *_, **__: {}
    future = transactions.send(topic(), value=b"refused again and again")
    with pytest.raises(FencedError, match="no broker took it in time"):
        transactions.await_sends([future])
    with pytest.raises(FencedError):
        transactions.begin()
    transactions.close(0.0)
    assert "Uncaught error" not in caplog.text


def test_a_batch_that_expires_though_the_broker_may_have_it_ends_its_producer_and_nothing_waits_for_ever(
    broker: Broker, topic: Callable[..., str]
) -> None:
    """kafka-python gave up the producer's id, and never asked for another one.

    So where the output topic was gone for a minute, or a broker stood still, or too few replicas were in sync for so
    long, a worker published nothing any more, at least once, and nothing failed.
    """
    label = pack([(b"key", b"value", [])])
    gone, well = TopicPartition(topic(), 0), TopicPartition(topic(), 0)
    producer = open_producer(
        bootstrap_servers=broker.bootstrap_servers, client_id="test", request_timeout_ms=1000, delivery_timeout_ms=1500
    )
    try:
        producer.send_bodies(gone, label, 1000).get(20)
        with admin_client(broker.bootstrap_servers) as admin:
            admin.delete_topics([gone.topic])
        with pytest.raises(KafkaTimeoutError, match="no broker took it in time"):
            producer.send_bodies(gone, label, 1000).get(20)
        with pytest.raises(KafkaTimeoutError, match="a batch expired that may have been written"):
            producer.send_bodies(well, label, 1000).get(20)
        assert has_failed(producer)
    finally:
        close_producer(producer, 0.0)


def test_of_a_batch_that_is_too_large_and_out_of_time_to_be_split_no_record_is_refused(
    broker: Broker, topic: Callable[..., str]
) -> None:
    """Small dead letters were given up with the large one that they shared a batch with, or without any."""
    name = topic(max_message_bytes="2000")
    transactions = open_transactions(broker, timeout_s=2.0)
    transactions._producer._sender._can_split = lambda *_: False
    transactions.begin()
    sent = [transactions.send(name, value=b"small" * 100, partition=0) for _ in range(50)]
    with pytest.raises(FencedError, match="no broker took it in time"):
        transactions.await_sends(sent)
    transactions.close(0.0)
