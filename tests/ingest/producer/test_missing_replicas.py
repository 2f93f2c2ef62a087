import logging
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import (
    KafkaError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
)
from kafka.structs import TopicPartition

from ingest.producer.producer import _tell_of_missing_replicas

MOVING = "Unable to verify the partition has been added to the transaction. Underlying error: NOT_COORDINATOR"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NotEnoughReplicasError(None), True),
        (NotEnoughReplicasAfterAppendError(None), True),
        (NotEnoughReplicasError(MOVING), False),
        (NotLeaderForPartitionError(None), False),
    ],
)
def test_a_topic_that_lacks_replicas_is_told_of_and_a_coordinator_that_moves_is_not(
    error: KafkaError, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    dispatched = list[Any]()
    sender: Any = SimpleNamespace(_dispatch_error=lambda *what: dispatched.append(what))
    _tell_of_missing_replicas(sender)
    batch = SimpleNamespace(topic_partition=TopicPartition("activities", 3))
    sender._dispatch_error(batch, error, partition_response=None)
    assert dispatched == [(batch, error, None)]
    words = "too few replicas of activities are in sync (min.insync.replicas); trying on"
    assert [record.getMessage() for record in caplog.records] == ([words] if told else [])
