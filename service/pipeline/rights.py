"""Checks the worker's rights to its topics at the start; otherwise a missing one would show only with a record.

Kafka tells each user what it may do (KIP-430). Without an authorizer, that is everything.
"""

import time
from collections.abc import Mapping
from typing import Any

import kafka
from kafka.admin import ACLOperation
from kafka.errors import KafkaError, NoError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError, for_code
from kafka.protocol.metadata import MetadataRequest

from service.kind import WorkerError

TIMEOUT_MS = 10_000
RETRY_S = 0.2

Rights = frozenset[ACLOperation]
READ: Rights = frozenset({ACLOperation.READ})
READ_AND_WRITE = READ | {ACLOperation.WRITE}


def refuse_missing_rights(consumer: kafka.KafkaConsumer, servers: object, wanted: Mapping[str, Rights]) -> None:
    """Raise WorkerError unless these topics exist and this user has the wanted rights to them."""
    try:
        topics = _ask(consumer, list(wanted))
    except KafkaError as error:
        raise WorkerError(f"can't ask Kafka at {servers} for its topics: {error}") from error
    missing = sorted(topic.name for topic in topics if for_code(topic.error_code) is UnknownTopicOrPartitionError)
    if missing:
        raise WorkerError(
            f"Kafka at {servers} has no topic {', '.join(missing)}: `stridecast topics`, with the same flags for "
            "Kafka and topics, creates what is missing"
        )
    lacking = [acls for topic in topics if (acls := _lacking(topic, wanted[topic.name]))]
    if lacking:
        raise WorkerError(
            f"Kafka at {servers} does not let this user do what a worker does; it lacks the ACLs {', '.join(lacking)}"
        )


def _ask(consumer: kafka.KafkaConsumer, names: list[str]) -> list[Any]:
    """Ask until there is an answer, because a broker may be restarting; raises KafkaError."""
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while True:
        try:
            return _ask_once(consumer, names, deadline)
        except KafkaError as error:
            if not error.retriable or time.monotonic() + RETRY_S >= deadline:
                raise
        time.sleep(RETRY_S)


def _ask_once(consumer: kafka.KafkaConsumer, names: list[str], deadline: float) -> list[Any]:
    manager = consumer._manager
    request = MetadataRequest(
        topics=[MetadataRequest.MetadataRequestTopic(name=name) for name in names],
        allow_auto_topic_creation=False,
        include_cluster_authorized_operations=False,
        include_topic_authorized_operations=True,
    )

    async def ask() -> Any:
        return await manager.wait_for(manager.send(request), 1000 * (deadline - time.monotonic()))

    topics: list[Any] = manager.run(ask).topics
    return topics


def _lacking(topic: Any, wanted: Rights) -> str | None:
    """Return the rights to a topic that are missing; None if none is, or an old broker doesn't tell."""
    error = for_code(topic.error_code)
    if error is TopicAuthorizationFailedError:  # may not even describe it
        given: set[int] = set()
    elif error is not NoError or topic.authorized_operations is None:
        return None
    else:
        given = set(topic.authorized_operations)
    names = sorted(right.name for right in wanted if right not in given)
    return f"{' and '.join(names)} on topic {topic.name}" if names else None
