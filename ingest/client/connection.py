"""Connects a client of kafka-python, consumer or producer, and explains why that fails."""

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient

from ingest.client.access import Access, Servers, access, is_final, reason, unreachable
from ingest.client.answers import expect_answers
from ingest.client.errors import IngestError, NoAnswerError, NotLetInError
from ingest.client.kafka_python import MANAGER, refuse_lacking, refuse_unfit
from ingest.client.receiving import receive_in_place
from ingest.client.tls import shake_hands_in_time

log = logging.getLogger(__name__)

BOOTSTRAP_TIMEOUT_MS = 10_000
# What each of several bootstrap servers gets of it is at least so much.
LEAST_SHARE_MS = 2_000
# As Java's clients do (KIP-144). kafka-python waits for up to half a minute between two tries: a broker that came back
# was found so much later, and the group had put its members out by then.
RECONNECT_WITHIN_MS = 1_000


class _Attempts:
    """Watches a client's attempts to connect: gives each the current password, and records why it failed.

    While a client is being made, it gives up once all bootstrap servers have refused it for good. kafka-python (3.0.12)
    would retry until its timeout, and then only say that there was no answer.
    """

    def __init__(self, to: Access) -> None:
        self.why: str | None = None
        self.unreachable: str | None = None
        self._to = to
        self._making = True
        self._refused_for_good: dict[Any, BaseException] = {}
        self._starts: Callable[[], list[Any]] = list  # the bootstrap servers
        self._unanswering: set[Any] = set()  # those of them that have failed since all had

    def watch(self, manager: Any) -> None:
        """Watch the connections that a client's manager makes from now on."""
        connect = manager._connect
        self._share_out(manager)

        async def connect_and_note(
            node: Any, connection: Any, reset_backoff_on_connect: bool = True, **settings: Any
        ) -> None:
            if self._to.password is not None:
                connection.config["sasl_plain_password"] = self._to.password()
            connection.close_future.add_errback(self._note)
            lose = connection.connection_lost
            connection.connection_lost = lambda error: lose(self._for_now(error))
            # kafka-python takes a refused connection for an established one, and would reset its count of failures.
            # (A bootstrap connection isn't to be reset here, because the bootstrap has its own count.)
            await connect(node, connection, reset_backoff_on_connect=False, **settings)
            if connection.init_future.failed():
                error = connection.init_future.exception
                if manager.cluster.is_bootstrap(node.node_id):
                    self._unanswering.add(node.node_id)
                self._note_unreachable(unreachable(error, node.host, node.port))
                self._refused(manager, node.node_id, error, back_off=reset_backoff_on_connect)
            elif reset_backoff_on_connect and connection.init_future.succeeded():
                manager.reset_backoff(node.node_id)

        manager._connect = connect_and_note

    def _share_out(self, manager: Any) -> None:
        """Give each bootstrap server its share of the timeout, and don't try one again before the others.

        kafka-python picks them at random, and gives the first its whole timeout: one that stands still kept clients
        from the others.
        """
        cluster, get_connection = manager.cluster, manager.get_connection
        self._starts = cluster.bootstrap_brokers
        others = len(self._starts()) - 1
        most_ms = max(LEAST_SHARE_MS, BOOTSTRAP_TIMEOUT_MS / (others + 1)) if others else math.inf

        def get_in_time(node_id: Any, timeout_ms: float | None = None, **settings: Any) -> Any:
            if timeout_ms is not None and cluster.is_bootstrap(node_id):
                timeout_ms = min(timeout_ms, most_ms)
            return get_connection(node_id, timeout_ms=timeout_ms, **settings)

        manager.get_connection = get_in_time
        cluster.bootstrap_brokers = self._worth_trying

    def _worth_trying(self) -> list[Any]:
        """Return the bootstrap servers that haven't failed since all had."""
        starts: list[Any] = self._starts()
        if {start.node_id for start in starts} <= self._unanswering:
            self._unanswering.clear()
        return [start for start in starts if start.node_id not in self._unanswering]

    def made(self, manager: Any) -> None:
        """Record that the client is made: from now on no refusal is final, because secrets and brokers change."""

        def forget() -> None:
            self._making = False
            manager._auth_failures.clear()

        # On the IO thread, as for `_refused`: otherwise one that is being checked right now would stay.
        manager.call_soon(forget)  # a producer's loop runs in its sender, so it can't be waited for here

    def _for_now(self, error: BaseException | None) -> BaseException | None:
        """Make a refusal temporary once the client is made: with a final one, kafka-python would fail all that wait.

        An error that is no KafkaError, as for a missing file, would even end its threads.
        """
        if error is None or self._making or isinstance(error, KafkaConnectionError):
            return error
        why = reason(error, self._to)
        known = isinstance(error, KafkaError)
        passing: BaseException = KafkaConnectionError(why or str(error))
        return error if why is None and known else passing

    def _note(self, error: BaseException) -> None:
        """Keep a known reason: the last attempt may be cut short by the timeout, and have none."""
        self.why = reason(error, self._to) or self.why

    def _note_unreachable(self, why: str | None) -> None:
        """Keep what the network says while the client is made; afterwards tell it, at each attempt."""
        if why is None:
            return
        self.unreachable = why
        if not self._making:
            log.warning("can't connect to a Kafka broker (%s); trying on", why)

    def _refused(self, manager: Any, node_id: Any, error: BaseException, *, back_off: bool) -> None:
        if self._making and is_final(error):
            self._refused_for_good[node_id] = error
            starts = {broker.node_id for broker in self._starts()}
            if node_id not in starts or starts <= self._refused_for_good.keys():
                manager._auth_failures.update(self._refused_for_good)
        elif back_off and manager.connection_delay(node_id) <= 0:
            # kafka-python hasn't counted it yet, unlike a failure before the connection is made.
            manager.update_backoff(node_id)


def make_client(client: Callable[..., Any], bootstrap_servers: Servers, **settings: Any) -> Any:
    """Make one of kafka-python's clients, with `ingest.client.receiving`; if that fails, close what is half made.

    kafka-python (3.0.12) leaves sockets, selector and IO thread of a half-made client behind: a thousand descriptors in
    an hour of retries. Raises what kafka-python raises, NotLetInError if it is known why brokers refuse the client, and
    IngestError for a kafka-python that lacks parts.
    """
    halves: list[KafkaNetClient] = []
    to = access(bootstrap_servers)
    attempts = _Attempts(to)

    def remembered(**half_settings: Any) -> KafkaNetClient:
        halves.append(KafkaNetClient(**half_settings))
        manager = halves[-1]._manager
        refuse_lacking((manager, part) for part in MANAGER)
        shake_hands_in_time(manager)
        receive_in_place(manager)
        expect_answers(manager)
        attempts.watch(manager)
        return halves[-1]

    try:
        made = client(
            kafka_client=remembered,
            bootstrap_servers=to.servers,
            reconnect_backoff_max_ms=RECONNECT_WITHIN_MS,
            **to.options,
            **settings,
        )
    except KafkaError as error:
        for half in halves:
            half.close()
            half._manager._net.stop()
        if attempts.why is not None:
            raise NotLetInError(attempts.why) from error
        if attempts.unreachable is not None and isinstance(error, KafkaTimeoutError):
            raise NoAnswerError(attempts.unreachable) from error
        raise
    for half in halves:
        attempts.made(half._manager)
    try:
        refuse_unfit(made)
    except IngestError:
        made.close()
        raise
    return made


def connect(client: Callable[..., Any], bootstrap_servers: Servers, **settings: Any) -> Any:
    """Make a client that is connected to the brokers.

    Raises IngestError if none answers, or all refuse it. A signal's exception ends the wait at once.
    """
    made: Future[Any] = Future()

    def make() -> None:
        try:
            made.set_result(
                make_client(
                    client,
                    bootstrap_servers,
                    bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
                    metrics_enabled=False,
                    **settings,
                )
            )
        except BaseException as error:
            made.set_exception(error)

    # In a separate thread: kafka-python doesn't clean up a client whose making is interrupted, and complains when that
    # is garbage-collected. Left alone, the thread ends with the process.
    threading.Thread(target=make, name="kafka-connect", daemon=True).start()
    try:
        return made.result()
    except NoAnswerError as error:
        raise IngestError(
            f"no Kafka broker answers at {bootstrap_servers} ({error}): is the address right, and is it running?"
        ) from None
    except KafkaTimeoutError:
        raise IngestError(f"no Kafka broker answers at {bootstrap_servers}: is it running?") from None
    except KafkaError as error:
        raise IngestError(f"can't reach Kafka at {bootstrap_servers}: {error}") from None
