"""How producers end, on Apache Kafka itself."""

import threading
import time
import uuid
from collections.abc import Callable

import pytest

from ingest.producer import close_producer, open_producer
from ingest.transactions import Transactions
from service.broker.node import Broker


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
