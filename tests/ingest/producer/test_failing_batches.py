"""What is made of a batch's error before kafka-python deals with it."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
)
from kafka.structs import TopicPartition

from ingest.producer.failing_batches import judge_failing_batches

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
    judge_failing_batches(sender)
    batch = SimpleNamespace(topic_partition=TopicPartition("activities", 3))
    sender._dispatch_error(batch, error, partition_response=None)
    assert dispatched == [(batch, error, None)]
    words = "too few replicas of activities are in sync (min.insync.replicas); trying on"
    assert [record.getMessage() for record in caplog.records] == ([words] if told else [])


@pytest.mark.parametrize(
    ("records", "may_be_split", "ends_as"),
    [(3, True, MessageSizeTooLargeError), (3, False, KafkaTimeoutError), (1, False, MessageSizeTooLargeError)],
)
def test_a_batch_that_is_too_large_and_out_of_time_is_not_taken_for_records_that_are(
    records: int, may_be_split: bool, ends_as: type[KafkaError]
) -> None:
    """Small dead letters were given up, 38 at once, where a busy machine had not split their batch in time."""
    dispatched = list[Any]()
    sender: Any = SimpleNamespace(
        _dispatch_error=lambda batch, error, response: dispatched.append(type(error)),
        _can_split=lambda batch, error: may_be_split,
    )
    judge_failing_batches(sender)
    sender._dispatch_error(SimpleNamespace(record_count=records), MessageSizeTooLargeError(None), object())
    assert dispatched == [ends_as]


class Cut:
    """A sender whose connections are cut, and the errors that it deals with."""

    def __init__(self) -> None:
        self.config = {"max_request_size": 64 << 20}
        self.dealt_with = list[type[KafkaError]]()
        judge_failing_batches(self)

    def _dispatch_error(self, batch: Any, error: KafkaError, response: Any) -> None:
        self.dealt_with.append(type(error))

    def cut(self, batch: Any) -> type[KafkaError]:
        self._dispatch_error(batch, KafkaConnectionError("cut"), None)
        return self.dealt_with[-1]


def batch_of(size: int) -> Any:
    return SimpleNamespace(records=SimpleNamespace(size_in_bytes=lambda: size), record_count=1)


def test_a_large_record_whose_connection_is_cut_five_times_more_is_too_large_and_a_small_one_is_not() -> None:
    sender, large, small = Cut(), batch_of(2 << 20), batch_of(1000)
    assert {sender.cut(small) for _ in range(10)} == {KafkaConnectionError}
    assert sender.config["max_request_size"] == 64 << 20
    assert [sender.cut(large) for _ in range(6)] == [*[KafkaConnectionError] * 5, MessageSizeTooLargeError]


def test_a_large_record_goes_alone_once_a_connection_is_cut() -> None:
    """Two that fit were in one request that did not, again and again, and both were given up."""
    sender, one, other = Cut(), batch_of(2 << 20), batch_of(2 << 20)
    assert {sender.cut(batch) for batch in (one, other)} == {KafkaConnectionError}
    assert sender.config["max_request_size"] < 2 << 20
    assert getattr(one, "cut_off", 0) == 0
