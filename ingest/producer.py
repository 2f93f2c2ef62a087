"""The producers: kafka-python's, acknowledged by all in-sync replicas.

Labels go out idempotently (KIP-98). Dead letters don't: after one record that the broker refuses for good, such as one
too large for its topic, an idempotent producer of kafka-python refuses everything (3.0.12), and what is in dead
letters is in nobody's hands. They may repeat where a connection breaks; their source headers tell.
"""

import kafka
from kafka.errors import KafkaError, KafkaTimeoutError

from ingest.consumer import BOOTSTRAP_TIMEOUT_MS, IngestError
from ingest.dead_letters import NullableValues

DELIVERY_TIMEOUT_MS = 60_000


def has_failed(producer: kafka.KafkaProducer) -> bool:
    """Return whether an idempotent producer will refuse every record from now on."""
    return bool(producer._transaction_manager.has_fatal_error())


def open_producer(*, bootstrap_servers: str, client_id: str, idempotent: bool = True) -> kafka.KafkaProducer:
    """Connect a producer that sends at once what it is given, in order and, if idempotent, without repeats.

    Raises IngestError when no broker answers.
    """
    try:
        return kafka.KafkaProducer(
            bootstrap_servers=[server.strip() for server in bootstrap_servers.split(",")],
            client_id=client_id,
            acks="all",
            enable_idempotence=idempotent,
            max_in_flight_requests_per_connection=5 if idempotent else 1,  # more would mix up the order
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
