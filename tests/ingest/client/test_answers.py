"""Which requests are given up before kafka-python would, and when."""

from types import SimpleNamespace
from typing import Any

import pytest
from kafka.protocol.consumer import FetchRequest, HeartbeatRequest, JoinGroupRequest, OffsetFetchRequest
from kafka.protocol.metadata import FindCoordinatorRequest, MetadataRequest
from kafka.protocol.producer import ProduceRequest

from ingest.client.answers import expect_answers


@pytest.mark.parametrize(
    ("request_class", "configured_ms", "asked_ms", "waited_ms"),
    [
        (HeartbeatRequest, 30_000, None, 10_000),
        (OffsetFetchRequest, 30_000, None, 10_000),
        (FindCoordinatorRequest, 30_000, None, 5_000),
        (HeartbeatRequest, 3_000, None, 3_000),
        (HeartbeatRequest, 30_000, 20_000, 20_000),
        (FetchRequest, 30_000, None, None),
        (MetadataRequest, 30_000, None, None),
        (ProduceRequest, 30_000, None, None),
        (JoinGroupRequest, 30_000, 65_000, 65_000),
    ],
)
def test_what_a_coordinator_answers_at_once_is_waited_for_ten_seconds_at_most(
    request_class: Any, configured_ms: int, asked_ms: int | None, waited_ms: int | None
) -> None:
    sent = list[Any]()
    manager: Any = SimpleNamespace(
        config={"request_timeout_ms": configured_ms},
        send=lambda request, node_id, request_timeout_ms: sent.append((node_id, request_timeout_ms)),
    )
    expect_answers(manager)
    manager.send(request_class(), node_id=3, request_timeout_ms=asked_ms)
    assert sent == [(3, waited_ms)]
