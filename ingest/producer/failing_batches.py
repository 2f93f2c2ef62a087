"""What is made of a batch's error before kafka-python deals with it.

kafka-python (3.0.12) only tries on where a topic lacks replicas, sends for ever what brokers cut the connection for,
and fails small records as too large with others.
"""

import logging
from typing import Any

from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
)

log = logging.getLogger(__name__)

# A record larger than this is alone in its batch, and no label.
LARGE_BYTES = 1024 * 1024
# So many connections that are cut while one large record is on its way are not cut by chance.
CUT_OFF_TIMES = 5


def judge_failing_batches(sender: Any) -> None:
    """Have a producer's sender tell of errors, or take them for others, before it deals with them."""
    dispatch = sender._dispatch_error

    def judge_and_dispatch(batch: Any, error: KafkaError, partition_response: Any) -> None:
        _tell_of_missing_replicas(batch, error)
        if _is_cut_off_again_and_again(sender, batch, error):
            why = "the broker cuts the connection when it comes; is it beyond socket.request.max.bytes?"
            error = MessageSizeTooLargeError(why)
        if _has_no_time_to_be_split(sender, batch, error):
            error, partition_response = KafkaTimeoutError(), None
        dispatch(batch, error, partition_response)

    sender._dispatch_error = judge_and_dispatch


def _tell_of_missing_replicas(batch: Any, error: KafkaError) -> None:
    lacking = isinstance(error, (NotEnoughReplicasError, NotEnoughReplicasAfterAppendError))
    # Brokers say the same while the coordinator of a transaction moves.
    if lacking and "transaction" not in str(error):
        log.warning("too few replicas of %s are in sync (min.insync.replicas); trying on", batch.topic_partition[0])


def _is_cut_off_again_and_again(sender: Any, batch: Any, error: KafkaError) -> bool:
    """Count the connections that were cut while a large record was on its way; return whether they are too many.

    Brokers answer so to a request beyond their ``socket.request.max.bytes``. The record would be sent until it expires,
    and again by whoever recovers its partition, for ever. Since the first cut a large record goes in a request of its
    own, so that none is given up for others.
    """
    if not isinstance(error, KafkaConnectionError) or batch.records.size_in_bytes() <= LARGE_BYTES:
        return False
    if sender.config["max_request_size"] > LARGE_BYTES:
        sender.config["max_request_size"] = LARGE_BYTES  # of several batches; a larger one goes alone
        return False
    batch.cut_off = getattr(batch, "cut_off", 0) + 1
    return bool(batch.cut_off == CUT_OFF_TIMES)


def _has_no_time_to_be_split(sender: Any, batch: Any, error: KafkaError) -> bool:
    """Return whether a batch of several records is too large and about to expire: most of them may be small."""
    too_large = isinstance(error, MessageSizeTooLargeError) and batch.record_count > 1
    return too_large and not sender._can_split(batch, type(error))
