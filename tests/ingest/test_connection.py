import os
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import kafka
import pytest
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, NodeNotReadyError
from kafka.protocol.metadata import MetadataRequest

from ingest.access import Access
from ingest.connection import make_client
from ingest.tls import Tls
from tests.certificates import Authority
from tests.ingest.small_broker import SmallBroker, answer, be_silent

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "authority")


@pytest.fixture
def secured(authority: Authority) -> Iterator[SmallBroker]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.sign("broker", "DNS:localhost").both)
    with SmallBroker(context) as broker:
        yield broker


def by_tls(broker: SmallBroker, ca_file: Path) -> Access:
    return Access(broker.address, {"security_protocol": "SSL", "ssl_context": Tls(ca_file)})


def make_consumer(servers: str | Access) -> Any:
    return in_time(
        lambda: make_client(kafka.KafkaConsumer, servers, bootstrap_timeout_ms=10_000, metrics_enabled=False)
    )


def in_time(do: Callable[[], Any]) -> Any:
    """Return what it returns, or raise; fail, rather than wait for ever, where it doesn't end."""
    done: Future[Any] = Future()

    def work() -> None:
        try:
            done.set_result(do())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return done.result(DEADLINE_S)


def ask(client: Any) -> Any:
    """Ask the broker something over the client's own connections."""
    manager = client._manager
    return in_time(lambda: manager.run(lambda: manager.send(MetadataRequest(topics=[]), node_id=0)))


def ask_until_answered(client: Any) -> None:
    for _ in range(1_000):
        try:
            ask(client)
        except KafkaError as error:
            assert error.retriable, error
            threading.Event().wait(0.03)
        else:
            return
    pytest.fail("never answered")


def ask_until_refused(client: Any) -> KafkaError:
    """Return how a connection failed; that there is none yet, as a back-off isn't over, says nothing."""
    for _ in range(1_000):
        try:
            ask(client)
        except NodeNotReadyError:
            threading.Event().wait(0.03)
        except KafkaError as error:
            if "no answer in time" in str(error):
                return error
    pytest.fail("never refused")


def descriptors_and_threads() -> tuple[int, int]:
    open_files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    return open_files, threading.active_count()


@pytest.mark.parametrize("tls", [False, True])
def test_a_client_that_could_not_be_made_leaves_no_descriptor_and_no_thread_behind(
    tls: bool, authority: Authority
) -> None:
    """A worker that tried on while its broker stood still lost three descriptors each time: a thousand in an hour."""
    with SmallBroker() as silent:
        silent.serve = be_silent  # it accepts connections, and never answers
        address = by_tls(silent, authority.certificate) if tls else silent.address
        settings = {"bootstrap_timeout_ms": 200, "metrics_enabled": False}

        def fail() -> None:
            for client in (kafka.KafkaProducer, kafka.KafkaConsumer):
                with pytest.raises(KafkaTimeoutError):
                    in_time(lambda client=client: make_client(client, address, **settings))  # type: ignore[misc]
            silent.wait_until_left()

        fail()
        before = descriptors_and_threads()
        fail()
        assert descriptors_and_threads() <= before


def test_a_running_client_gives_up_a_handshake_that_nobody_answers_and_tries_again(
    secured: SmallBroker, authority: Authority
) -> None:
    """kafka-python waited for ever, and so did each request on that connection."""
    client = make_consumer(by_tls(secured, authority.certificate))
    try:
        ask_until_answered(client)
        client._manager.config["socket_connection_setup_timeout_ms"] = 300
        secured.serve = be_silent
        secured.cut()
        assert isinstance(ask_until_refused(client), KafkaConnectionError)
        secured.serve = answer
        ask_until_answered(client)
    finally:
        client.close()
