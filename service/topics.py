"""Topics: what exists, what is missing, and whether it can hold what the service promises.

Errors:
    TopicError
    ├── BrokerUnreachable     nothing that speaks Kafka answered at the address in time
    └── TopicRefused          the broker would not create a topic
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient


class TopicError(Exception):
    """Topics can't be read or made; the text is one sentence that says what to do."""


class BrokerUnreachable(TopicError):
    """Nothing that speaks Kafka answered in time."""


@contextmanager
def admin_client(bootstrap_servers: str, *, timeout_s: float = 10.0) -> Iterator[KafkaAdminClient]:
    """Yield an admin client that has reached a broker; close it afterwards.

    Raises BrokerUnreachable if none answers within `timeout_s` seconds.
    """
    clients: list[KafkaNetClient] = []

    def remembered(**settings: Any) -> KafkaNetClient:
        clients.append(KafkaNetClient(**settings))
        return clients[-1]

    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap_servers,
            bootstrap_timeout_ms=int(timeout_s * 1000),
            request_timeout_ms=int(timeout_s * 1000),
            kafka_client=remembered,
        )
    except KafkaError as error:
        # The client that failed to start can't be closed, for there is none; its IO thread would live on.
        for client in clients:
            client.close()
            client._manager._net.stop()
        raise BrokerUnreachable(
            f"no Kafka broker answered at {bootstrap_servers} within {timeout_s:g} s: "
            "is it running, and is the address right?"
        ) from error
    try:
        yield admin
    finally:
        admin.close()
