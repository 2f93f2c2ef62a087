import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NoReturn

import kafka
import pytest
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, NodeNotReadyError, RetriableError
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.metadata import MetadataRequest

from ingest.client import connection
from ingest.client.access import Access, CredentialError, unreachable
from ingest.client.connection import RECONNECT_WITHIN_MS, _Attempts, make_client
from ingest.client.errors import IngestError, NotLetInError
from ingest.client.tls import Tls
from ingest.consumer.labels_reader import LabelsReader
from tests.certificates import Authority
from tests.ingest.small_broker import METADATA, SmallBroker, answer, be_silent, refuse

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
            if not error.retriable:
                raise
            threading.Event().wait(0.03)
        else:
            return
    pytest.fail("never answered")


def ask_until_refused(client: Any, why: str) -> KafkaError:
    """Return how a connection failed in this way; that there is none yet, as a back-off isn't over, says nothing."""
    for _ in range(1_000):
        try:
            ask(client)
        except NodeNotReadyError:
            threading.Event().wait(0.03)
        except KafkaError as error:
            if why in str(error):
                return error
    pytest.fail("never refused")


def close(client: Any) -> None:
    """Close a client, first on its IO thread.

    On another one, kafka-python (3.0.12) may overlook a connection that is just being made. Its socket is found open by
    whichever test runs when it is collected.
    """
    manager = client._manager
    in_time(lambda: manager.run(manager.close))
    client.close()


def descriptors_and_threads() -> tuple[int, int]:
    open_files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    return open_files, threading.active_count()


def leaves_no_more_than(before: tuple[int, int]) -> bool:
    """Tell whether it comes to that: a connection that waited to be accepted is still the small broker's to close."""
    for _ in range(300):
        if all(now <= then for now, then in zip(descriptors_and_threads(), before, strict=True)):
            return True
        threading.Event().wait(0.01)
    return False


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
        assert leaves_no_more_than(before)


@pytest.fixture
def untrusted(tmp_path: Path) -> Iterator[SmallBroker]:
    """A broker whose certificate is of another authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Authority(tmp_path / "another").sign("broker", "DNS:localhost").both)
    with SmallBroker(context) as broker:
        yield broker


def test_one_broker_that_refuses_does_not_keep_a_client_from_starting_with_another(
    secured: SmallBroker, untrusted: SmallBroker, authority: Authority
) -> None:
    options = by_tls(secured, authority.certificate).options
    for _ in range(8):  # kafka-python begins with any of them
        client = make_consumer(Access(f"{untrusted.address},{secured.address}", options))
        try:
            ask_until_answered(client)
        finally:
            close(client)
        if untrusted.connections:
            return
    pytest.fail("the untrusted broker was never asked")


def test_a_client_that_all_brokers_refuse_says_so(secured: SmallBroker, untrusted: SmallBroker, tmp_path: Path) -> None:
    options = by_tls(secured, Authority(tmp_path / "third").certificate).options
    with pytest.raises(NotLetInError, match="ssl_ca_file must hold the authority"):
        make_consumer(Access(f"{untrusted.address},{secured.address}", options))
    assert untrusted.connections
    assert secured.connections


def test_a_client_reaches_another_bootstrap_server_where_one_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python waited for the frozen one until its timeout, if that came first: most workers could not start."""
    monkeypatch.setattr(connection, "LEAST_SHARE_MS", 50)
    monkeypatch.setattr(connection, "BOOTSTRAP_TIMEOUT_MS", 300)
    monkeypatch.setattr("random.shuffle", lambda _: None)
    monkeypatch.setattr("random.choice", lambda found: found[0])
    with SmallBroker() as silent, SmallBroker() as broker:
        silent.serve = be_silent
        make_consumer(f"{silent.address},{silent.address},{broker.address}").close(timeout_ms=0)
        assert silent.connections == 2


def test_what_the_last_attempt_is_cut_short_of_saying_an_earlier_one_has_said(authority: Authority) -> None:
    with SmallBroker() as broker:

        def refuse_the_first(broker: SmallBroker, connection: socket.socket) -> None:
            (refuse if broker.connections == 1 else be_silent)(broker, connection)

        broker.serve = refuse_the_first
        address = by_tls(broker, authority.certificate)
        with pytest.raises(NotLetInError, match="what this port wants"):
            in_time(lambda: make_client(kafka.KafkaConsumer, address, bootstrap_timeout_ms=2_000))
        assert broker.connections > 1


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
        assert isinstance(ask_until_refused(client, "no answer in time"), KafkaConnectionError)
        secured.serve = answer
        ask_until_answered(client)
    finally:
        close(client)


def test_a_running_client_survives_files_of_tls_that_never_come_right_again(
    secured: SmallBroker, authority: Authority, tmp_path: Path
) -> None:
    """A raw OSError at a reconnect ended kafka-python's refreshing of metadata for good."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.certificate.read_bytes())
    client = make_consumer(by_tls(secured, ca_file))
    try:
        ask_until_answered(client)
        ca_file.unlink()
        secured.cut()
        ask_until_answered(client)
        assert not client._manager.cluster._refresh_loop_future.is_done
    finally:
        close(client)


class Gone(Tls):
    """Files that can't even be had as they were."""

    gone = False

    def context(self) -> ssl.SSLContext:
        if self.gone:
            raise PermissionError("no such rights")
        return super().context()


def test_what_is_no_error_of_kafkas_becomes_one_once_a_client_is_made(
    secured: SmallBroker, authority: Authority
) -> None:
    tls = Gone(authority.certificate)
    client = make_consumer(Access(secured.address, {"security_protocol": "SSL", "ssl_context": tls}))
    try:
        ask_until_answered(client)
        tls.gone = True
        secured.cut()
        assert isinstance(ask_until_refused(client, "no such rights"), KafkaConnectionError)
        tls.gone = False
        ask_until_answered(client)
        assert not client._manager.cluster._refresh_loop_future.is_done
    finally:
        close(client)


def test_a_running_client_that_is_refused_backs_off_further_each_time_until_it_is_let_in() -> None:
    with SmallBroker() as broker:
        client = make_consumer(broker.address)
        try:
            ask_until_answered(client)
            broker.serve = refuse
            broker.cut()
            failures = 0
            for _ in range(1_000):
                with contextlib.suppress(KafkaError):
                    ask(client)
                failures = failures_of(client)
                if failures >= 3:
                    break
                threading.Event().wait(0.03)
            assert failures >= 3
            broker.serve = answer
            ask_until_answered(client)
            assert failures_of(client) == 0
        finally:
            close(client)


def test_a_broker_that_has_been_away_for_long_is_tried_again_within_about_a_second() -> None:
    """It was within 30 s: each outage lasted so much longer, and the group had put the worker out by then."""
    with SmallBroker() as broker:
        client = make_consumer(broker.address)
        try:
            delays_ms = [client._manager.update_backoff(0) for _ in range(20)]
            assert max(delays_ms) <= 1.2 * RECONNECT_WITHIN_MS  # a jitter of a fifth
        finally:
            close(client)


def failures_of(client: Any) -> int:
    """Return what kafka-python reckons its back-off from."""
    return int(client._manager._backoff.get(0, (0, 0.0, 0.0))[0])


class Pondered(CredentialError):
    """A final refusal that takes its time to be looked at."""

    def __init__(self) -> None:
        self.looked_at, self.go_on = threading.Event(), threading.Event()
        super().__init__("no token")

    @property
    def final(self) -> bool:
        self.looked_at.set()
        self.go_on.wait(DEADLINE_S)
        return True

    @final.setter
    def final(self, _: bool) -> None:
        pass


def test_a_refusal_that_is_looked_at_while_a_client_becomes_ready_does_not_stick() -> None:
    net = NetworkSelector()
    manager = KafkaConnectionManager(net)
    net.start()
    attempts, error = _Attempts(Access("localhost:1")), Pondered()
    try:
        manager.call_soon(lambda: attempts._refused(manager, 0, error, back_off=True))
        assert error.looked_at.wait(DEADLINE_S)
        ready = threading.Thread(target=attempts.made, args=(manager,), daemon=True)
        ready.start()
        ready.join(0.3)
        error.go_on.set()
        ready.join(DEADLINE_S)
        manager.run(lambda: None)
        assert manager._auth_failures == {}
    finally:
        manager.close()
        net.stop()
        net.close()


def test_a_reader_whose_second_consumer_can_not_be_made_leaves_nothing_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingest.client.connection.BOOTSTRAP_TIMEOUT_MS", 1_000)
    with SmallBroker() as broker:

        def answer_the_first(broker: SmallBroker, connection: socket.socket) -> None:
            """Let the first consumer be made, which is when it has been told of the brokers."""
            (refuse if METADATA in broker.answered else answer)(broker, connection)

        def fail() -> None:
            broker.answered.clear()
            with pytest.raises(IngestError):
                LabelsReader(bootstrap_servers=broker.address, group_id="group", client_id="test")
            broker.wait_until_left()

        broker.serve = answer_the_first
        fail()
        before = descriptors_and_threads()
        fail()
        assert leaves_no_more_than(before)


def test_kafka_python_tries_again_where_a_credential_may_come() -> None:
    """It asks for the class alone."""
    assert isinstance(CredentialError("no token"), RetriableError)
    assert str(CredentialError("no token")) == "no token"


# -- brokers that can't be reached


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (KafkaConnectionError("DNS Resolution failure"), "the name far.example can't be resolved"),
        (KafkaConnectionError("111 ECONNREFUSED"), "far.example:9092: connection refused"),
        (KafkaTimeoutError("Connection timed out"), "far.example:9092: connection timed out"),
        (KafkaConnectionError("socket disconnected"), None),
        (KafkaConnectionError(), None),
        (ValueError("111 ECONNREFUSED"), None),
    ],
)
def test_what_the_network_says_is_reported_with_the_address(error: Exception, why: str | None) -> None:
    assert unreachable(error, "far.example", 9092) == why


def test_who_is_not_there_is_reported_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only kafka-python's own remarks, six lines of them, told a wrong name from a broker that is down."""

    def fail(*_: object) -> NoReturn:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(connection, "BOOTSTRAP_TIMEOUT_MS", 300)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(IngestError) as caught:
        connection.connect(kafka.KafkaConsumer, "far.example:9092")
    assert str(caught.value) == (
        "no Kafka broker answers at far.example:9092 (the name far.example can't be resolved): "
        "is the address right, and is it running?"
    )


def test_a_broker_that_goes_away_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    attempts = _Attempts(Access("far.example:9092"))
    why = "far.example:9092: connection refused"
    attempts._note_unreachable(why)
    assert (caplog.messages, attempts.unreachable) == ([], why)  # the end of the start tells
    attempts._making = False
    attempts._note_unreachable(None)
    attempts._note_unreachable(why)
    assert caplog.messages == [f"can't connect to a Kafka broker ({why}); trying on"]
