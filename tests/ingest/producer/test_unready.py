from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError
from kafka.producer.sender import Sender

from ingest.producer.unready import keep_requests


@pytest.mark.parametrize("answer", [True, KafkaConnectionError("connection refused")])
def test_a_request_whose_coordinator_has_just_gone_away_is_kept_for_the_next_one(answer: Any) -> None:
    """kafka-python lost it: in a rolling restart, the transactions of all workers hung until their deadline."""
    sent, put_back, looked_for = list[Any](), list[Any](), list[Any]()
    request = SimpleNamespace(
        request="TxnOffsetCommit",
        needs_coordinator=lambda: True,
        coordinator_type="group",
        is_retry=False,
        on_complete=None,
    )

    def await_ready(node: str, timeout_ms: float) -> bool:
        if answer is not True:
            raise answer
        return True

    def send(node: str, what: str) -> Any:
        sent.append((node, what))
        return SimpleNamespace(add_both=lambda *_: None)

    client = SimpleNamespace(cluster=None, await_ready=await_ready, send=send, poll=lambda **_: None)
    manager = SimpleNamespace(
        is_completing=lambda: False,
        next_request_handler=lambda _: request,
        coordinator=lambda _: "coordinator-3",
        lookup_coordinator_for_request=looked_for.append,
        next_in_flight_request_correlation_id=lambda: 1,
        retry=put_back.append,
    )
    keep_requests(client)
    sender = Sender(client, None, SimpleNamespace(has_incomplete=False), transaction_manager=manager)
    assert sender._maybe_send_pending_request()
    if answer is True:
        assert (sent, put_back, looked_for) == ([("coordinator-3", "TxnOffsetCommit")], [], [])
    else:
        assert (sent, put_back, looked_for) == ([], [request], [request])
