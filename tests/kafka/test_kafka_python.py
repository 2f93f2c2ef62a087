"""What is said of the kafka-python that is installed."""

import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import kafka
import pytest

from ingest.client.connection import IngestError
from ingest.client.kafka_python import TESTED, refuse_other_versions
from service.broker.node import Broker


@pytest.fixture
def consumer(broker: Broker) -> Iterator[kafka.KafkaConsumer]:
    made = kafka.KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, group_id="nobody")
    yield made
    made.close()


def test_the_version_that_is_pinned_is_the_newest_that_was_tested() -> None:
    constraints = Path(__file__).parents[2] / "constraints.txt"
    assert version("kafka-python") == TESTED[-1]
    assert f"kafka-python=={TESTED[-1]} " in constraints.read_text()


def test_the_version_is_told_at_the_start(consumer: kafka.KafkaConsumer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ingest"):
        refuse_other_versions(consumer)
    assert caplog.messages == [f"reading by kafka-python {kafka.__version__}"]


def test_a_version_that_was_not_tested_is_warned_of(
    consumer: kafka.KafkaConsumer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "__version__", "3.9.9")
    refuse_other_versions(consumer)
    [(_, level, told)] = caplog.record_tuples
    assert level == logging.WARNING
    assert "3.9.9" in told


def test_a_version_that_lacks_a_part_is_refused(consumer: kafka.KafkaConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(type(consumer._fetcher), "fetched_records")
    with pytest.raises(
        IngestError, match=r"don't fit together \(fetched_records\): install the version in constraints\.txt"
    ):
        refuse_other_versions(consumer)
