"""The producers: kafka-python's, acknowledged by all in-sync replicas.

Labels are sent idempotently (KIP-98), or in transactions (``ingest/producer/transactions.py``). Dead letters outside
transactions are not: after one record that the broker refuses for good, such as one too large for its topic, an
idempotent producer of kafka-python (3.0.12) refuses everything. They may repeat if a connection breaks; their source
headers show that.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import kafka
from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
)
from kafka.record.default_records import DefaultRecordBatchBuilder

from ingest.client.access import Servers
from ingest.client.connection import connect
from ingest.messages.dead_letters import NullableValues
from ingest.messages.label_kernel import warm_up
from ingest.producer.bulk import BulkProducer, refuse_without_parts
from ingest.producer.failing_batches import judge_failing_batches
from ingest.producer.unready import keep_requests

log = logging.getLogger(__name__)

REFUSED_FOR_GOOD = (MessageSizeTooLargeError, InvalidRecordError)
"""Errors for a record that its topic will never take: too large, or without a key for a compacted topic."""


class UnharmedError(KafkaError):  # type: ignore[misc]
    """Kafka refused a batch because of other records in it: this one was not written, and may be sent again."""


DELIVERY_TIMEOUT_MS = 60_000
# The topic decides what is too large. A dead letter is its record, which may have been compressed, and some headers.
MAX_REQUEST_BYTES = 64 * 1024 * 1024
# How long a send may wait for the metadata of a topic that isn't known, or is gone.
MAX_BLOCK_MS = 10_000


def has_failed(producer: kafka.KafkaProducer) -> bool:
    """Return whether an idempotent producer will refuse every record from now on."""
    return bool(producer._transaction_manager.has_fatal_error())


def close_producer(producer: kafka.KafkaProducer, timeout_s: float) -> None:
    """Close a producer; unfinished sends fail.

    kafka-python (3.0.12) raises if there are any, and goes on sending.
    """
    try:
        producer.close(timeout=timeout_s)
    except KafkaError as error:
        log.info("a producer is closed before it has sent everything: %s", error)
        producer._sender.force_close()
        producer._closed = True  # else it raises again when it is garbage-collected


def open_producer(
    *, bootstrap_servers: Servers, client_id: str, idempotent: bool = True, **settings: Any
) -> BulkProducer:
    """Connect a producer that sends records at once, in order and, if idempotent, without repeats.

    Raises IngestError if no broker answers, and for a kafka-python without the parts that it needs.
    """
    refuse_without_parts()
    warm_up()  # a second without a cache, which the first labels would wait for
    producer: BulkProducer = connect(
        BulkProducer,
        bootstrap_servers,
        client_id=client_id,
        acks="all",
        enable_idempotence=idempotent,
        max_in_flight_requests_per_connection=5 if idempotent else 1,  # more would change the order
        max_request_size=MAX_REQUEST_BYTES,
        linger_ms=0,
        value_serializer=NullableValues(),
        allow_auto_create_topics=False,
        max_block_ms=MAX_BLOCK_MS,
        **{"delivery_timeout_ms": DELIVERY_TIMEOUT_MS, **settings},
    )
    producer._sender._record_exceptions_fn = error_of_each
    if idempotent:
        _fail_rather_than_reset(producer._transaction_manager)
    judge_failing_batches(producer._sender)
    keep_requests(producer._sender._client)
    return producer


def _fail_rather_than_reset(manager: Any) -> None:
    """Have a producer fail for good when a batch expires that the broker may have.

    kafka-python (3.0.12) gives up the producer's id then. An idempotent producer never asks for another: it sends
    nothing any more, fails nothing, and takes more and more. For a transactional one it raises, and the sender leaves
    batches behind unsent.
    """
    expired = KafkaTimeoutError("a batch expired that may have been written")
    manager.reset_producer_id = lambda: manager.transition_to_fatal_error(expired)


def error_of_each(
    error: KafkaError, refused: Iterable[tuple[int, str | None]] | None, message: str | None
) -> Callable[[int], KafkaError]:
    """Return the error of each record of a refused batch, by its index in the batch.

    It replaces kafka-python's (3.0.12), which reports several records with refused timestamps as invalid, as if new
    timestamps didn't help, and gives the rest of the batch an error that can't be told apart. Records that were
    refused themselves are marked (see ``was_refused``), because kafka-python gives the same error to records that it
    hasn't sent since. Batches that expire have one text, so that one line can tell of them all.
    """
    if isinstance(error, KafkaTimeoutError):
        error = KafkaTimeoutError("no broker took it in time")
    if not isinstance(error, (*REFUSED_FOR_GOOD, InvalidTimestampError)):
        return lambda _: error
    why = dict(refused or ())

    def error_of(record: int) -> KafkaError:
        if why and record not in why:
            return UnharmedError(f"it was in a batch with others that were refused: {error}")
        refusal = type(error)(why.get(record) or message or error.description)
        refusal.was_refused = True
        return refusal

    return error_of


def was_refused(error: KafkaError) -> bool:
    """Return whether a send failed because of the record itself, not because of one that was sent before it."""
    return bool(getattr(error, "was_refused", False))


def record_bytes(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    """Return the size of a record in a batch of its own, without what is the same for all."""
    return int(DefaultRecordBatchBuilder.size_of(key, value, headers))
