"""Transactions (KIP-98, KIP-447): kafka-python's, with a deadline for every wait and three outcomes.

kafka-python (3.0.12) waits for the end of a transaction without a limit. It commits a transaction with an expired
batch, because it records only errors that can't be retried (hence ``await_sends``). It goes on from sequence numbers
that a refused batch has used (hence RefusedError). And it keeps refused offsets for the next transaction (hence
``begin``).

Errors:

    TransactionError
    ├── AbortableError     the transaction must be aborted; another may succeed, with the group's metadata taken anew
    │   ├── UnwritableError  likewise, and by another producer: a topic is gone, or may not be written
    │   └── RefusedError   likewise, and by another producer: a topic takes no such record
    │       ├── StaleError    of a timestamp so far from its own clock
    │       ├── TooLargeError of its size
    │       └── SpoiltError   of another one, sent before or along with it: this one may be sent again
    └── FencedError        nobody knows how it ended, or another has taken over: this producer is of no use any more
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kafka.errors import (
    CommitFailedError,
    IncompatibleBrokerVersion,
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)
from kafka.protocol.producer import TxnOffsetCommitRequest
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition

from ingest.client.access import Servers, remedy
from ingest.client.errors import IngestError
from ingest.producer.bulk import Sending
from ingest.producer.producer import REFUSED_FOR_GOOD, UnharmedError, close_producer, open_producer, was_refused
from ingest.record_batches.bodies import Bodies

# Delay before a request is retried because a transaction is still ending; kafka-python's default is 100.
RETRY_BACKOFF_MS = 5
# After so long without an answer to a send, check whether its topic still exists.
LOOK_S = 0.5
# The version of TxnOffsetCommit from which on it says which member of the group commits, in which generation.
FENCED_COMMIT = 3

_KEEP_OTHERS_OUT = (*REFUSED_FOR_GOOD, InvalidTimestampError, TopicAuthorizationFailedError)


class TransactionError(Exception):
    """A transaction was not committed, as far as is known."""


class AbortableError(TransactionError):
    """The transaction must be aborted, and all of it can be sent again."""


class UnwritableError(AbortableError):
    """A topic is gone, or may not be written.

    The producer is to be closed without an abort, which would wait for what it can't send. The start of the next
    producer aborts the transaction as well.
    """


class RefusedError(AbortableError):
    """A topic refuses a record, mostly for its size.

    Afterwards kafka-python goes on with sequence numbers that the broker has never seen, and everything is refused.
    """


class StaleError(RefusedError):
    """A topic refuses a timestamp too far from the broker's clock (``message.timestamp.before.max.ms``)."""


class TooLargeError(RefusedError):
    """A topic refuses a record of this size, and larger ones."""


class SpoiltError(RefusedError):
    """A topic has refused another record of this transaction, so this one wasn't written."""


class FencedError(TransactionError):
    """The transaction may have ended either way, or was fenced; another producer is needed."""


class Transactions:
    """A transactional producer, for one thread. A wait that exceeds its deadline counts as fenced.

    Raises IngestError if it can't be opened by its deadline.
    """

    def __init__(
        self, *, bootstrap_servers: Servers, client_id: str, transactional_id: str, timeout_s: float, deadline_s: float
    ) -> None:
        self._deadline_s = deadline_s
        self._producer = open_producer(
            bootstrap_servers=bootstrap_servers,
            client_id=client_id,
            transactional_id=transactional_id,
            transaction_timeout_ms=int(1000 * timeout_s),
            # A batch that has waited for so long belongs to a transaction that the broker has aborted.
            delivery_timeout_ms=int(1000 * timeout_s),
            request_timeout_ms=int(1000 * timeout_s),
            retry_backoff_ms=RETRY_BACKOFF_MS,
        )
        if not _fences_commits(self._producer._sender._client):
            self.close(0.0)
            raise IngestError(
                f"Kafka at {bootstrap_servers} is too old for delivery exactly_once, which needs version 2.5 (KIP-447)"
            )
        try:
            self._producer.init_transactions()
        except KafkaError as error:
            self.close(0.0)
            raise IngestError(f"can't begin transactions as {transactional_id}: {remedy(error)}") from error

    def begin(self) -> None:
        """Begin a transaction."""
        # Left over from a transaction whose offsets were refused. They would be sent with this one, though their
        # partitions belong to other members by now.
        self._producer._transaction_manager._pending_txn_offset_commits.clear()
        self._fence(self._producer.begin_transaction)

    def send(self, topic: str, **message: Any) -> Any:
        """Send one record in the transaction; return its future.

        Raises RefusedError for a record too large for any broker, SpoiltError if a send before was refused,
        UnwritableError if topics may not be written, FencedError for all else.
        """
        with _translated(topic):
            try:
                return self._producer.send(topic, **message)
            except KafkaError as error:
                if isinstance(self._refusal, TopicAuthorizationFailedError):
                    raise UnwritableError(str(self._refusal)) from error
                if self._refusal is None or isinstance(error, REFUSED_FOR_GOOD):
                    raise
                raise SpoiltError(f"{topic}: {self._refusal}") from error

    def send_bodies(self, partition: TopicPartition, bodies: Bodies, timestamp_ms: int) -> Sending:
        """Send records to a partition in the transaction, in order; return one future for all. Raises as `send`."""
        with _translated(partition.topic):
            return self._producer.send_bodies(partition, bodies, timestamp_ms)

    def await_sends(self, futures: Sequence[Any]) -> None:
        """Wait until all of these sends are acknowledged.

        Raises RefusedError if a topic refuses a record, UnwritableError if it may not be written, FencedError for all
        else: then the fate of a send is unknown.
        """
        for future in futures:
            try:
                future.get(timeout=self._deadline_s)
            except KafkaError as error:
                raise _ended_badly(error) from error

    def await_send(self, future: Any, topic: str) -> None:
        """Wait until a send is acknowledged; raises as `await_sends`, and UnwritableError if its topic is gone."""
        for _ in range(math.ceil(self._deadline_s / LOOK_S)):
            with contextlib.suppress(KafkaError):  # its error is raised below
                future.get(timeout=LOOK_S)
            if future.is_done:
                break
            if not self.knows(topic):
                raise UnwritableError(f"there is no topic {topic} any more")
            self._producer.look_for(topic)
        self.await_sends([future])

    def knows(self, topic: str) -> bool:
        """Return whether a topic exists, by known metadata; if not, request its metadata, without waiting."""
        return bool(self._producer.knows(topic))

    @property
    def _refusal(self) -> Exception | None:
        """Return the error of a refused record or transaction, after which kafka-python sends nothing more."""
        error = self._producer._transaction_manager.last_error
        return error if isinstance(error, _KEEP_OTHERS_OUT) else None

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: ConsumerGroupMetadata) -> None:
        """Commit the transaction with these offsets, if the group still has this member in this generation.

        Raises AbortableError if it hasn't, FencedError if that is unknown.
        """
        manager = self._producer._transaction_manager
        try:
            self._wait(lambda: manager.send_offsets_to_transaction(dict(offsets), group))
        except CommitFailedError as error:
            raise AbortableError(str(error)) from error
        except KafkaError as error:
            raise FencedError(f"the offsets were not taken: {error}") from error
        self._fence(self._wait, manager.begin_commit)

    def abort(self) -> None:
        """Abort the transaction."""
        self._fence(self._wait, self._producer._transaction_manager.begin_abort)

    def close(self, timeout_s: float) -> None:
        """Close the producer; an open transaction is left to its timeout."""
        close_producer(self._producer, timeout_s)

    def _wait(self, begin: Callable[[], Any]) -> None:
        result = begin()
        self._producer._sender.wakeup()
        if not result.wait(timeout_ms=1000 * self._deadline_s):
            raise KafkaTimeoutError(f"no answer for {self._deadline_s:g} s")

    def _fence(self, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            call(*arguments)
        except KafkaError as error:
            raise FencedError(str(error)) from error


def _fences_commits(client: Any) -> bool:
    """Return whether brokers refuse the commit of a transaction by whoever is no member of the group any more."""
    try:
        version = client.api_version(TxnOffsetCommitRequest, max_version=FENCED_COMMIT)
    except IncompatibleBrokerVersion:
        return False
    return bool(version == FENCED_COMMIT)


@contextlib.contextmanager
def _translated(topic: str) -> Iterator[None]:
    try:
        yield
    except REFUSED_FOR_GOOD as error:
        raise RefusedError(f"{topic}: {error}") from error
    except (KafkaError, ValueError) as error:  # ValueError: a partition that the topic no longer has
        raise FencedError(f"can't send to {topic}: {error}") from error


def _ended_badly(error: KafkaError) -> TransactionError:
    refused = isinstance(error, (*REFUSED_FOR_GOOD, InvalidTimestampError))
    if isinstance(error, UnharmedError) or (refused and not was_refused(error)):
        return SpoiltError(str(error))
    if isinstance(error, TopicAuthorizationFailedError):
        return UnwritableError(str(error))
    if isinstance(error, InvalidTimestampError):
        return StaleError(str(error))
    if isinstance(error, MessageSizeTooLargeError):
        return TooLargeError(str(error))
    if isinstance(error, REFUSED_FOR_GOOD):
        return RefusedError(str(error))
    return FencedError(f"a send failed: {error}")
