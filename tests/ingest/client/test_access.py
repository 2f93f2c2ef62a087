"""What is told of Kafka's errors."""

import pytest
from kafka.errors import KafkaConnectionError

from ingest.client.access import remedy


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KafkaConnectionError("111 ECONNREFUSED"), "the connection to a broker failed (111 ECONNREFUSED)"),
        (KafkaConnectionError(), "the connection to a broker failed"),
    ],
)
def test_a_lost_connection_is_told_without_the_name_of_a_class(error: KafkaConnectionError, told: str) -> None:
    assert remedy(error) == told
