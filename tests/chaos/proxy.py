"""A TCP proxy between Kafka and its clients that knows just enough of the protocol to cut where it hurts."""

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Literal, Self

PRODUCE, FETCH = 0, 1
"""Kinds of request, by the numbers that the protocol guide gives them."""

Side = Literal["request", "response"]
SLICE_S = 0.05


@dataclass(eq=False)
class _Link:
    """One client's connection and ours to the broker; ``asked`` holds the kinds of requests that wait for an answer."""

    client: socket.socket
    broker: socket.socket
    asked: dict[int, int] = field(default_factory=dict)

    def cut(self) -> None:
        for end in (self.client, self.broker):
            with contextlib.suppress(OSError):
                # Closing with this set says so at once: a reset, and nothing more is delivered.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Listens on ``port`` of loopback and passes on to ``target`` there, a whole request or response at a time.

    ``bytes_per_s`` slows each connection down. ``torn`` counts what was cut in its middle.
    """

    def __init__(self, target: int) -> None:
        self.bytes_per_s: float | None = None
        self.torn = 0
        self._target = target
        self._to_tear: list[tuple[int, Side]] = []
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self.cut_all()

    def tear(self, kind: int, side: Side) -> None:
        """Cut the connection in the middle of the next request of this kind, or in the middle of its answer.

        A request torn never reaches the broker; an answer torn leaves its client not knowing what became of it.
        """
        with self._lock:
            self._to_tear.append((kind, side))

    def cut_all(self) -> None:
        """Cut all connections, wherever they are."""
        with self._lock:
            links = set(self._links)
        for link in links:
            link.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    broker = socket.create_connection(("127.0.0.1", self._target), timeout=5)
                except OSError:
                    client.close()
                    continue
                broker.settimeout(None)
                self._join(_Link(client, broker))

    def _join(self, link: _Link) -> None:
        with self._lock:
            self._links.add(link)
        for side in ("request", "response"):
            threading.Thread(target=self._pass_on, args=(link, side), name=f"proxy-{side}", daemon=True).start()

    def _pass_on(self, link: _Link, side: Side) -> None:
        source, sink = (link.client, link.broker) if side == "request" else (link.broker, link.client)
        try:
            while (frame := _read_frame(source)) is not None:
                if self._is_to_tear(_kind_of(frame, link, side), side):
                    self._send(sink, frame[: len(frame) // 2])
                    break
                self._send(sink, frame)
        except OSError:
            pass
        finally:
            link.cut()
            with self._lock:
                self._links.discard(link)

    def _is_to_tear(self, kind: int, side: Side) -> bool:
        with self._lock:
            if (kind, side) not in self._to_tear:
                return False
            self._to_tear.remove((kind, side))
            self.torn += 1
            return True

    def _send(self, sink: socket.socket, frame: bytes) -> None:
        sent = 0
        while sent < len(frame):
            rate = self.bytes_per_s
            if rate is None:
                sink.sendall(frame[sent:])
                return
            size = max(1, int(rate * SLICE_S))
            sink.sendall(frame[sent : sent + size])
            sent += size
            time.sleep(SLICE_S)


def _kind_of(frame: bytes, link: _Link, side: Side) -> int:
    """Return the kind of a request, or of the request that a response answers, by the correlation id."""
    if side == "request":
        kind, _, correlation = struct.unpack_from(">hhi", frame, 4)
        link.asked[correlation] = kind
        return int(kind)
    (correlation,) = struct.unpack_from(">i", frame, 4)
    return link.asked.pop(correlation, -1)


def _read_frame(source: socket.socket) -> bytes | None:
    """Return one request or response, its length in front; None where the connection ends."""
    head = _read(source, 4)
    if head is None:
        return None
    body = _read(source, int.from_bytes(head, "big"))
    return None if body is None else head + body


def _read(source: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = source.recv(min(size - len(parts), 1 << 16))
        if not part:
            return None
        parts += part
    return bytes(parts)
