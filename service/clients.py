"""A worker's connections to Kafka: one to read with, one for labels, one for dead letters."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import kafka
from kafka.errors import KafkaError

from ingest.consumer import Handover, Hearing, open_consumer
from ingest.producer import open_producer
from service.kind import Kind, WorkerError
from service.settings import KafkaSettings

log = logging.getLogger(__name__)

# For closing each client of a worker that has not begun: it holds nothing that could be lost.
GIVE_UP_S = 0.5


class Clients:
    """Opens the three, and refuses to begin where a topic is missing.

    Raises IngestError when Kafka can't be reached, WorkerError for topics.
    """

    def __init__(self, kind: Kind, kafka_settings: KafkaSettings, handover: Handover, hearing: Hearing) -> None:
        servers, name = kafka_settings.bootstrap_servers, f"stridecast-{kind.name}"
        with contextlib.ExitStack() as opened:  # whatever ends the start, a signal too, closes what is open by then
            self.producer = open_producer(bootstrap_servers=servers, client_id=name)
            opened.callback(_close, self.producer.close, timeout=GIVE_UP_S)
            self.dead_letter_producer = open_producer(
                bootstrap_servers=servers, client_id=f"{name}-dead-letters", idempotent=False
            )
            opened.callback(_close, self.dead_letter_producer.close, timeout=GIVE_UP_S)
            self.consumer: kafka.KafkaConsumer = open_consumer(
                kind.settings.input_topic,
                handover,
                hearing,
                bootstrap_servers=servers,
                group_id=kafka_settings.group_id,
                client_id=name,
            )
            opened.callback(_close, self.consumer.close, autocommit=False, timeout_ms=int(1000 * GIVE_UP_S))
            self._refuse_missing_topics(kind, servers)
            opened.pop_all()

    def leave(self, timeout_s: float) -> None:
        """Leave the group, which hands the partitions back and so commits them: see Handover."""
        _close(self.consumer.close, autocommit=False, timeout_ms=int(1000 * timeout_s))

    def close(self, timeout_s: float) -> None:
        """Send what is still to be sent, and close what writes."""
        _close(self.producer.close, timeout=timeout_s)
        _close(self.dead_letter_producer.close, timeout=timeout_s)

    def _refuse_missing_topics(self, kind: Kind, servers: str) -> None:
        settings = kind.settings
        wanted = {settings.input_topic, settings.output_topic, settings.dead_letter_topic}
        try:
            missing = wanted - self.consumer.topics()
            if not missing:
                self.dead_letter_producer.partitions_for(settings.dead_letter_topic)  # or the first one waits for it
        except KafkaError as error:
            raise WorkerError(f"can't ask Kafka at {servers} for its topics: {error}") from error
        if missing:
            raise WorkerError(
                f"Kafka at {servers} has no topic {', '.join(sorted(missing))}: "
                "`stridecast topics` creates what is missing"
            )


def _close(close: Callable[..., None], *args: Any, **settings: Any) -> None:
    try:
        close(*args, **settings)
    except KafkaError as error:
        log.warning("closing was not clean: %s", error)
