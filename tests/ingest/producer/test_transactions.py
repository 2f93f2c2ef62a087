"""What a transactional producer asks of brokers, without Kafka."""

import pytest

from ingest.client.errors import IngestError
from ingest.producer.transactions import Transactions
from tests.ingest.small_broker import SmallBroker


def test_brokers_that_would_take_the_commit_of_a_worker_that_was_put_out_are_refused() -> None:
    """kafka-python falls back to a request without the member: labels would come twice, and nothing would say so."""
    with SmallBroker() as broker, pytest.raises(IngestError, match=r"too old for delivery exactly_once.* 2\.5 \(KIP-"):
        Transactions(
            bootstrap_servers=broker.address,
            client_id="test",
            transactional_id="test",
            timeout_s=10.0,
            deadline_s=10.0,
        )
