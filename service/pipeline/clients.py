"""A worker's clients of Kafka: its consumer, its producers, and its reader of published labels."""

import logging
import uuid
from collections.abc import Sequence

import kafka
from kafka.errors import KafkaError

from ingest.consumer.consumer import open_consumer
from ingest.consumer.fetch_progress import FetchProgress
from ingest.consumer.labels_reader import LabelsReader
from ingest.consumer.rebalance_listener import RebalanceListener
from ingest.producer.bulk import BulkProducer
from ingest.producer.producer import open_producer
from ingest.producer.transactions import Transactions
from service.configuration.security import access_to
from service.configuration.settings import KafkaSettings
from service.pipeline.rights import READ, READ_AND_WRITE, refuse_missing_rights

log = logging.getLogger(__name__)

# Timeout for closing each client of a worker that has not started: it holds nothing that could be lost.
GIVE_UP_S = 0.5
# How long to wait for the end of a transaction before another producer takes over.
TRANSACTION_DEADLINE_S = 15.0


class Clients:
    """Opens the clients of one worker, named after its kind.

    Its methods raise IngestError when Kafka can't be reached.
    """

    def __init__(self, kind: str, settings: KafkaSettings) -> None:
        self._access = access_to(settings)
        self._settings = settings
        self._name = f"stridecast-{kind}"
        # The same for the life of the process: a producer that replaces a failed one thereby ends its transaction.
        self._transactional_id = f"{settings.group_id}-{kind}-{uuid.uuid4().hex}"

    def open_consumer(
        self, topic: str, listener: RebalanceListener, fetch_progress: FetchProgress
    ) -> kafka.KafkaConsumer:
        """Join the group that reads a topic."""
        return open_consumer(
            topic,
            listener,
            fetch_progress,
            bootstrap_servers=self._access,
            group_id=self._settings.group_id,
            client_id=self._name,
            session_timeout_s=self._settings.session_timeout_s,
        )

    def open_reader(self) -> LabelsReader:
        """Open the reader of published labels and dead letters."""
        return LabelsReader(bootstrap_servers=self._access, group_id=self._settings.group_id, client_id=self._name)

    def open_labels(self) -> BulkProducer:
        """Open the idempotent producer."""
        return open_producer(bootstrap_servers=self._access, client_id=self._name)

    def open_letters(self) -> BulkProducer:
        """Open the producer of dead letters outside transactions."""
        return open_producer(bootstrap_servers=self._access, client_id=f"{self._name}-dead-letters", idempotent=False)

    def open_transactions(self) -> Transactions:
        """Open the transactional producer, after ending what an earlier one of this process left open."""
        return Transactions(
            bootstrap_servers=self._access,
            client_id=self._name,
            transactional_id=self._transactional_id,
            timeout_s=self._settings.transaction_timeout_s,
            deadline_s=TRANSACTION_DEADLINE_S,
        )

    def refuse_missing_topics(self, consumer: kafka.KafkaConsumer, wanted: Sequence[str]) -> None:
        """Raise WorkerError unless these topics exist and may be used: an input, and topics that are written."""
        source, *written = wanted
        rights = {source: READ, **dict.fromkeys(written, READ_AND_WRITE)}
        refuse_missing_rights(consumer, self._access, rights)


def leave(consumer: kafka.KafkaConsumer, timeout_s: float) -> None:
    """Leave the group, which revokes the partitions and so commits them: see RebalanceListener."""
    try:
        consumer.close(autocommit=False, timeout_ms=int(1000 * timeout_s))
    except KafkaError as error:
        log.warning("leaving the group was not clean: %s", error)
