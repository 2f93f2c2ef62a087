"""Connecting a client of kafka-python: what consumer and producers have in common."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient

from ingest.receiving import receive_in_place

BOOTSTRAP_TIMEOUT_MS = 10_000


class IngestError(Exception):
    """Kafka can't be reached, or not with this client; the text says why and what to do."""


def make_client(client: Callable[..., Any], **settings: Any) -> Any:
    """Make one of kafka-python's clients, which receives in place, and close what is half made where that fails.

    kafka-python (3.0.12) leaves the half's sockets, selector and IO thread behind: a thousand descriptors in an hour
    of trying. Raises what it raises.
    """
    halves: list[KafkaNetClient] = []

    def remembered(**half_settings: Any) -> KafkaNetClient:
        halves.append(KafkaNetClient(**half_settings))
        receive_in_place(halves[-1]._manager)
        return halves[-1]

    try:
        return client(kafka_client=remembered, **settings)
    except KafkaError:
        for half in halves:
            half.close()
            half._manager._net.stop()
        raise


def connect(client: Callable[..., Any], bootstrap_servers: str, **settings: Any) -> Any:
    """Make a client; ``bootstrap_servers`` are host:port, separated by commas.

    Raises IngestError when no broker answers. A signal's exception ends the wait at once.
    """
    made: Future[Any] = Future()

    def make() -> None:
        try:
            made.set_result(
                make_client(
                    client,
                    bootstrap_servers=[server.strip() for server in bootstrap_servers.split(",")],
                    bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
                    metrics_enabled=False,
                    **settings,
                )
            )
        except BaseException as error:
            made.set_exception(error)

    # In a thread of its own: kafka-python doesn't tidy up a client whose making is interrupted, and complains when it
    # is collected. Left alone, the thread ends with the process.
    threading.Thread(target=make, name="kafka-connect", daemon=True).start()
    try:
        return made.result()
    except KafkaTimeoutError:
        raise IngestError(f"no Kafka broker answers at {bootstrap_servers}: is it running?") from None
    except KafkaError as error:
        raise IngestError(f"can't reach Kafka at {bootstrap_servers}: {error}") from None
