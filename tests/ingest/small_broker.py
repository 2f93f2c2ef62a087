"""A broker that is small: it says what it can do and who it is, over real sockets, and refuses when it is told to."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any, Self

from kafka.protocol.admin import DescribeClusterRequest, DescribeClusterResponse
from kafka.protocol.metadata import ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse
from kafka.protocol.producer import TxnOffsetCommitRequest

API_VERSIONS, METADATA = ApiVersionsRequest.API_KEY, MetadataRequest.API_KEY
DESCRIBE_CLUSTER = DescribeClusterRequest.API_KEY
# Of Kafka 2.4, which takes the commit of a transaction without asking who commits.
_SPOKEN = {API_VERSIONS: 0, METADATA: 8, DESCRIBE_CLUSTER: 0, TxnOffsetCommitRequest.API_KEY: 2}
Serve = Callable[["SmallBroker", socket.socket], None]


class SmallBroker:
    """Accepts connections on loopback until it is left; `serve` is what each gets, in a thread of its own."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.serve: Serve = answer
        self.connections = 0
        self.answered: list[int] = []
        self.topics: list[Any] = []
        self.context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.opened: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port: int = self._listening.getsockname()[1]
        self.address = f"localhost:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Cut off whoever is connected."""
        while self.opened:
            with contextlib.suppress(OSError):
                self.opened.pop().shutdown(socket.SHUT_RDWR)

    def wait_until_left(self) -> None:
        """Wait until all that connected have gone."""
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.opened.append(connection)
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(self.serve, connection), daemon=True)
                thread.start()
                self._threads.append(thread)  # whoever waits for it may look at any time

    def _serve(self, serve: Serve, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            serve(self, connection)


def be_silent(_: SmallBroker, connection: socket.socket) -> None:
    """Take what comes, and never answer."""
    while connection.recv(4096):
        pass


def refuse(_: SmallBroker, connection: socket.socket) -> None:
    """Take a request, and hang up."""
    connection.recv(4096)


def answer(broker: SmallBroker, connection: socket.socket) -> None:
    """Answer what is asked."""
    if broker.context is None:
        return _answer(broker, connection)
    with broker.context.wrap_socket(connection, server_side=True) as wrapped:
        broker.opened.append(wrapped)
        return _answer(broker, wrapped)


def _answer(broker: SmallBroker, connection: socket.socket) -> None:
    while True:
        request = _take(connection, struct.unpack(">i", _take(connection, 4))[0])
        key, version, number = struct.unpack(">hhi", request[:8])
        response = _ANSWERS[key](broker, version)
        response.with_header(correlation_id=number)
        connection.sendall(response.encode(framed=True, header=True))
        broker.answered.append(key)


def _take(connection: socket.socket, size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        more = connection.recv(size - len(taken))
        if not more:
            raise EOFError
        taken += more
    return taken


def _versions(_: SmallBroker, version: int) -> ApiVersionsResponse:
    keys = [
        ApiVersionsResponse.ApiVersion(api_key=key, min_version=0, max_version=newest)
        for key, newest in _SPOKEN.items()
    ]
    # UNSUPPORTED_VERSION comes in the oldest form (KIP-511).
    return ApiVersionsResponse(version=0, error_code=35 if version else 0, api_keys=keys)


def _metadata(broker: SmallBroker, _: int) -> MetadataResponse:
    here = MetadataResponse.MetadataResponseBroker(node_id=0, host="localhost", port=broker.port, rack=None)
    return MetadataResponse(
        version=_SPOKEN[METADATA],
        throttle_time_ms=0,
        brokers=[here],
        cluster_id="small",
        controller_id=0,
        topics=broker.topics,
    )


def _cluster(broker: SmallBroker, _: int) -> DescribeClusterResponse:
    here = DescribeClusterResponse.DescribeClusterBroker(broker_id=0, host="localhost", port=broker.port, rack=None)
    return DescribeClusterResponse(
        version=_SPOKEN[DESCRIBE_CLUSTER],
        throttle_time_ms=0,
        error_code=0,
        error_message=None,
        cluster_id="small",
        controller_id=0,
        brokers=[here],
    )


_ANSWERS: dict[int, Callable[[SmallBroker, int], Any]] = {
    API_VERSIONS: _versions,
    METADATA: _metadata,
    DESCRIBE_CLUSTER: _cluster,
}
