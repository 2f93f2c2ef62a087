"""What the broker refuses before any Kafka runs."""

from pathlib import Path

import pytest

from service.broker.node import Broker
from service.broker.properties import server_properties


def test_kafka_listens_on_loopback_only() -> None:
    settings = server_properties(9092, 9093)
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(ValueError, match=f"port must be 0 to 65535, not {port}"):
        Broker(tmp_path, port=port)


@pytest.mark.parametrize("heap", ["512", "512mb", "-1m", "0m", "512m -version", ""])
def test_a_heap_that_the_jvm_would_not_take_is_refused(tmp_path: Path, heap: str) -> None:
    with pytest.raises(ValueError, match="heap must be a number with k, m or g, such as 512m"):
        Broker(tmp_path, heap=heap)
