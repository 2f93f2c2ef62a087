"""A kafka-python that lacks a part is refused before it is used."""

import threading
import time
from collections.abc import Callable
from typing import Any

import kafka
import pytest
from kafka.consumer.fetcher import Fetcher
from kafka.producer.sender import Sender

from ingest.client.connection import connect
from ingest.client.errors import IngestError
from ingest.producer.bulk import BulkProducer
from service.broker.node import Broker


@pytest.mark.parametrize(
    ("client", "owner", "part", "named"),
    [
        (kafka.KafkaConsumer, Fetcher, "fetched_records", r"KafkaConsumer\._fetcher\.fetched_records"),
        (BulkProducer, Sender, "_dispatch_error", r"BulkProducer\._sender\._dispatch_error"),
    ],
)
def test_a_client_that_lacks_a_part_is_refused_and_closed(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, client: Callable[..., Any], owner: type, part: str, named: str
) -> None:
    monkeypatch.delattr(owner, part)
    before = set(threading.enumerate())
    with pytest.raises(IngestError, match=rf"don't fit together \({named}\): install the version in constraints\.txt"):
        connect(client, broker.bootstrap_servers)
    deadline = time.monotonic() + 20
    while any(thread.is_alive() for thread in set(threading.enumerate()) - before):
        assert time.monotonic() < deadline
        time.sleep(0.01)
