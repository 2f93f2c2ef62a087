"""The producer: kafka-python's, idempotent (KIP-98), acknowledged by all in-sync replicas."""

import kafka
from kafka.errors import KafkaError, KafkaTimeoutError

from ingest.consumer import BOOTSTRAP_TIMEOUT_MS, IngestError
from ingest.dead_letters import NullableValues

DELIVERY_TIMEOUT_MS = 60_000


def open_producer(*, bootstrap_servers: str, client_id: str) -> kafka.KafkaProducer:
    """Connect a producer that sends at once what it is given, in order and without repeats.

    Raises IngestError when no broker answers.
    """
    try:
        return kafka.KafkaProducer(
            bootstrap_servers=[server.strip() for server in bootstrap_servers.split(",")],
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            value_serializer=NullableValues(),
            delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            allow_auto_create_topics=False,
            bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
            metrics_enabled=False,
        )
    except KafkaTimeoutError:
        raise IngestError(f"no Kafka broker answers at {bootstrap_servers}: is it running?") from None
    except KafkaError as error:
        raise IngestError(f"can't reach Kafka at {bootstrap_servers}: {error}") from None
