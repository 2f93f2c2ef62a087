"""Responses off a socket, however they come in pieces: the same as kafka-python's own transport makes of them."""

import concurrent.futures
import itertools
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.errors import KafkaConnectionError
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.consumer import FetchRequest, FetchResponse
from kafka.protocol.parser import KafkaProtocol

from ingest.client.receiving import _IN_PLACE, READ_BYTES, Frame, _heeds_marks, receive_in_place
from ingest.client.tls import Tls
from tests.certificates import Authority

VERSION = 12
_Topic = FetchResponse.FetchableTopicResponse
_Partition = _Topic.PartitionData


class Manager:
    """Builds transports over one half of a pair of sockets, as a client's manager does over connections."""

    def __init__(self, tls: Tls | None, sockets: tuple[socket.socket, socket.socket] | None) -> None:
        self.here, self._there = sockets or socket.socketpair()
        self._there.setblocking(False)
        self._tls = tls

    async def _build_transport(self, _node: str, timeout_at: float | None = None) -> KafkaTCPTransport:
        if self._tls is not None:
            return KafkaSSLTransport(None, self._there, host="localhost", ssl_context=self._tls)
        return KafkaTCPTransport(None, self._there, host="host")


class Receiver:
    """A transport with the parser of its connection; `received` are the responses so far."""

    def __init__(
        self,
        *,
        in_place: bool,
        requests: int,
        tls: Tls | None = None,
        sockets: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        manager = Manager(tls, sockets)
        if in_place:
            receive_in_place(manager)
        building = manager._build_transport("node", timeout_at=1.0)
        with pytest.raises(StopIteration) as built:
            building.send(None)
        self.transport: Any = built.value.value
        self.here = manager.here
        self.parser = KafkaProtocol(client_id="test", receive_message_max_bytes=1 << 24)
        self.transport._protocol = self
        self.received: list[Any] = []
        for _ in range(requests):
            self.parser.send_request(FetchRequest(version=VERSION, max_wait_ms=0, min_bytes=0, topics=[]))

    def take(self) -> KafkaConnectionError | None:
        """Take in what is there, as the transport's loop does."""
        data, error = self.transport._sock_recv()
        if error is None:
            self.received += self.parser.receive_bytes(data)
        return error

    def close(self) -> None:
        self.here.close()
        self.transport._sock.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(in_place=True, requests=2)
    yield made
    made.close()


def response(number: int, records: bytes) -> bytes:
    partition = _Partition(
        partition_index=3, error_code=0, high_watermark=9, last_stable_offset=9, log_start_offset=0, records=records
    )
    topics = [("topic", [partition])]
    made = FetchResponse(version=VERSION, throttle_time_ms=0, error_code=0, session_id=7, responses=topics)
    made.with_header(correlation_id=number)
    return bytes(made.encode(framed=True, header=True))


def contents(receiver: Receiver) -> list[tuple[int, bytes]]:
    return [(number, one.responses[0].partitions[0].records) for number, one in receiver.received]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 100, READ_BYTES - 100, READ_BYTES + 1, 300_000]), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 700_000), max_size=12),
    by_the_end=st.lists(st.sampled_from([-2, -1, 0, 1, 2, 3, 4, 5]), max_size=4),
)
def test_responses_are_the_same_however_they_come(sizes: list[int], cuts: list[int], by_the_end: list[int]) -> None:
    sent = [response(number, bytes([number]) * size) for number, size in enumerate(sizes, 1)]
    ends = [sum(map(len, sent[: number + 1])) for number in range(len(sent))]
    stream = b"".join(sent)
    cuts = sorted({cut for cut in [*cuts, *(end + by for end in ends for by in by_the_end)] if 0 < cut < len(stream)})
    ways = [Receiver(in_place=in_place, requests=len(sizes)) for in_place in (True, False)]
    for way in ways:
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            for at in range(begin, end, 50_000):  # what a pair of sockets surely holds
                way.here.sendall(stream[at : min(end, at + 50_000)])
                assert way.take() is None
        for _ in range(len(sizes)):
            assert way.take() is None
        way.close()
    assert contents(ways[0]) == contents(ways[1]) == [(n, bytes([n]) * size) for n, size in enumerate(sizes, 1)]


def test_a_large_response_goes_from_the_socket_into_its_frame(receiver: Receiver) -> None:
    sent = response(1, b"x" * 100_000)
    receiver.here.sendall(sent[:20])
    receiver.take()
    receiver.here.sendall(sent[20:-1])
    assert receiver.transport._sock_recv() == (b"", None)
    frame = receiver.parser._rbuffer
    assert isinstance(frame, Frame)
    assert bytes(frame[:-1]) == sent[4:-1]
    receiver.here.sendall(sent[-1:])
    assert receiver.transport._sock_recv() == (sent[-1:], None)


@pytest.mark.skipif(
    not _heeds_marks(), reason="this kernel doesn't heed a socket's low-water mark: Linux since 5.8 does"
)
def test_of_a_large_response_no_small_piece_wakes_the_loop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = socket.create_connection(server.getsockname())
        here, _ = server.accept()
    there.setblocking(False)
    receiver = Receiver(in_place=True, requests=2, sockets=(here, there))
    sent = response(1, b"x" * 50_000)

    def woken_by(piece: bytes, within_s: float) -> bool:
        here.sendall(piece)
        return bool(select.select([there], [], [], within_s)[0])

    assert woken_by(sent[:20], 10)
    for _ in range(2):  # the first begins the frame
        assert receiver.take() is None
    assert not woken_by(sent[20:20_000], 0.1)
    assert woken_by(sent[20_000:-1], 10)
    assert receiver.take() is None
    for piece, received in ((sent[-1:], 1), (response(2, b""), 2)):
        assert woken_by(piece, 10)
        assert receiver.take() is None
        assert len(receiver.received) == received
    receiver.close()


def test_what_is_decoded_outlives_its_frame(receiver: Receiver) -> None:
    for number in (1, 2):
        receiver.here.sendall(response(number, bytes([number]) * 90_000))
        receiver.take()
        receiver.take()
    assert [type(records) for _, records in contents(receiver)] == [bytes, bytes]
    assert contents(receiver) == [(1, b"\1" * 90_000), (2, b"\2" * 90_000)]


@pytest.mark.parametrize("came", [0, 3, 20, 5_000])
def test_a_connection_that_the_other_end_closes_is_an_error(receiver: Receiver, came: int) -> None:
    receiver.here.sendall(response(1, b"x" * 9_000)[:came])
    if came:
        assert receiver.take() is None
    receiver.here.close()
    error = receiver.take()
    assert isinstance(error, KafkaConnectionError)
    assert "disconnected" in str(error)


def test_a_connection_that_breaks_is_an_error(receiver: Receiver) -> None:
    receiver.transport._sock.close()
    assert isinstance(receiver.take(), KafkaConnectionError)


def test_nothing_to_read_is_no_error(receiver: Receiver) -> None:
    assert receiver.take() is None
    assert receiver.received == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "authority")


@pytest.fixture(scope="module")
def broker_context(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.sign("broker", "DNS:localhost").both)
    return context


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 100, 16_300, 16_384, READ_BYTES + 1, 300_000]), min_size=1, max_size=4),
    records=st.lists(st.sampled_from([100, 5_000, 16_383, 16_384, 40_000]), min_size=1, max_size=6),
)
def test_through_tls_nothing_stays_behind_where_no_selector_would_see_it(
    authority: Authority, broker_context: ssl.SSLContext, sizes: list[int], records: list[int]
) -> None:
    """OpenSSL takes whole records off a socket: what of one isn't asked for waits in it, and the socket looks empty."""
    sent = [response(number, bytes([number]) * size) for number, size in enumerate(sizes, 1)]
    stream, lengths = b"".join(sent), itertools.cycle(records)
    way = Receiver(in_place=True, requests=len(sizes), tls=Tls(authority.certificate))
    client = way.transport._sock
    with broker_context.wrap_socket(way.here, server_side=True, do_handshake_on_connect=False) as broker:
        shake_hands(broker, client)
        at = 0
        while at < len(stream):
            at += broker.send(stream[at : at + next(lengths)])
            while select.select([client], [], [], 0)[0]:  # as an event loop asks
                assert way.take() is None
        assert contents(way) == [(number, bytes([number]) * size) for number, size in enumerate(sizes, 1)]
    way.close()


def shake_hands(broker: ssl.SSLSocket, client: ssl.SSLSocket) -> None:
    client.setblocking(True)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        shaken = thread.submit(broker.do_handshake)
        client.do_handshake()
        shaken.result(10)
    client.setblocking(False)


def test_a_handshake_that_fails_closes_its_connection(broker_context: ssl.SSLContext, tmp_path: Path) -> None:
    """kafka-python let go of it without closing it, and a cycle of objects held it until the collector came."""
    other = Authority(tmp_path / "stranger")
    way = Receiver(in_place=True, requests=0, tls=Tls(other.certificate))
    client = way.transport._sock
    with broker_context.wrap_socket(way.here, server_side=True, do_handshake_on_connect=False) as broker:
        with pytest.raises(ssl.SSLError):
            shake_hands(broker, client)
        assert client.fileno() == -1


def test_a_connection_whose_files_are_gone_is_closed(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    with here, pytest.raises(FileNotFoundError):
        Tls(tmp_path / "gone").wrap_socket(there, server_hostname="localhost", do_handshake_on_connect=False)
    assert there.fileno() == -1


@pytest.mark.parametrize("in_place", [True, False])
def test_a_connection_that_is_closed_while_it_begins_to_wait_ends_without_a_traceback(
    in_place: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As another thread may close it, which is half done then. Kafka-python's own transport leaves one."""
    net = NetworkSelector()
    here, there = socket.socketpair()
    here.setblocking(False)
    transport = KafkaTCPTransport(net, here)
    if in_place:
        transport.__class__ = _IN_PLACE[KafkaTCPTransport]
    closed = threading.Event()
    register = net.register_event

    def close_first(sock: socket.socket, *event: Any) -> None:
        if sock is here and not closed.is_set():
            transport._closed = True
            here.close()
            closed.set()
        register(sock, *event)

    monkeypatch.setattr(net, "register_event", close_first)
    transport.resume_reading()
    net.start()
    try:
        assert closed.wait(10)
    finally:
        net.stop()
        net.close()
        there.close()
    assert any(record.exc_info for record in caplog.records) is not in_place
