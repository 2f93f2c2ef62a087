"""How producers end, on Apache Kafka itself."""

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import pytest
from kafka.errors import KafkaError
from kafka.producer.producer_batch import ProducerBatch

from ingest.producer.producer import close_producer, has_failed, open_producer
from ingest.producer.transactions import FencedError, Transactions
from service.broker.node import Broker
from service.kafka_admin.topics import admin_client


def wait_until_gone(threads: set[threading.Thread]) -> None:
    deadline = time.monotonic() + 20
    while any(thread.is_alive() for thread in threads):
        assert time.monotonic() < deadline, threads
        time.sleep(0.01)


def test_a_transactional_producer_that_is_given_up_ends_though_it_has_not_sent_everything(
    broker: Broker, topic: Callable[..., str]
) -> None:
    """It went on for ever, with its threads and its connections, one more each time that a broker stood still."""
    before = set(threading.enumerate())
    transactions = Transactions(
        bootstrap_servers=broker.bootstrap_servers,
        client_id="test",
        transactional_id=uuid.uuid4().hex,
        timeout_s=10.0,
        deadline_s=10.0,
    )
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


def test_a_batch_that_expires_though_the_broker_may_have_it_has_its_producer_replaced(
    broker: Broker, topic: Callable[..., str]
) -> None:
    """The producer gave up its id, asked for no other, and sent nothing any more, though the topic was made anew."""
    name = topic()
    producer = open_producer(
        bootstrap_servers=broker.bootstrap_servers, client_id="test", delivery_timeout_ms=2000, request_timeout_ms=2000
    )
    try:
        producer.send(name, value=b"written").get(20)
        with admin_client(broker.bootstrap_servers) as admin:
            admin.delete_topics([name])
        sent, deadline = [], time.monotonic() + 60
        while not has_failed(producer):  # the first may be written yet
            assert time.monotonic() < deadline
            with suppress(KafkaError):
                sent.append(producer.send(name, value=b"refused again and again"))
            time.sleep(0.1)
        with pytest.raises(KafkaError):
            sent[-1].get(10)
    finally:
        close_producer(producer, 0.0)


def test_a_batch_that_expires_though_the_broker_may_have_it_ends_its_transaction_and_leaves_no_traceback(
    broker: Broker, topic: Callable[..., str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python's sender failed at what it allows no transactional producer to do, and left other batches behind.

    It happened where a broker refused a batch again and again for want of replicas, which takes a cluster.
    """
    monkeypatch.setattr(ProducerBatch, "in_retry", lambda _: True)
    transactions = Transactions(
        bootstrap_servers=broker.bootstrap_servers,
        client_id="test",
        transactional_id=uuid.uuid4().hex,
        timeout_s=1.0,
        deadline_s=10.0,
    )
    transactions.begin()
    transactions._producer._accumulator.drain = lambda *_, **__: {}
    future = transactions.send(topic(), value=b"refused again and again")
    with pytest.raises(FencedError, match="Expiring 1 record"):
        transactions.await_sends([future])
    with pytest.raises(FencedError):
        transactions.begin()
    transactions.close(0.0)
    assert "Uncaught error" not in caplog.text
