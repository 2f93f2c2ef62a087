"""The worker's HTTP port: /metrics for Prometheus, /livez and /readyz for an orchestrator, / for people."""

import functools
import http.server
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import resources
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

log = logging.getLogger(__name__)

# Each connection has a thread and a descriptor. Beyond so many, the oldest is cut off, not the newest, so that slow
# clients keep no probe out.
MOST_CONNECTIONS = 64
LONGEST_S = 30.0  # for which a connection may last


class HttpError(Exception):
    """The server can't listen on the port; the text says why."""


class Health:
    """The checks behind /livez and /readyz; each returns whether all is well."""

    def __init__(self) -> None:
        self.live: Callable[[], bool] = lambda: True
        self.ready: Callable[[], bool] = lambda: False


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self._connections: dict[Any, float] = {}  # the start of each, the oldest first
        self._lock = threading.Lock()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # HTTPServer would look up the host's name, which can take seconds without a name server.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections[request] = time.monotonic()
        self._cut_off()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off connections that are due; called each tenth of a second, or more often."""
        self._cut_off()

    def _cut_off(self) -> None:
        """Shut down connections that last too long, and the oldest of too many; their threads then end."""
        with self._lock:
            surplus, too_old = len(self._connections) - MOST_CONNECTIONS, time.monotonic() - LONGEST_S
            for number, (request, since) in enumerate(list(self._connections.items())):
                if number >= surplus and since > too_old:
                    break
                del self._connections[request]
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a request of %s failed", client_address, exc_info=True)  # mostly a client that left early


def shown(host: str) -> str:
    """Return an address as it is written in a URL."""
    return f"[{host}]" if ":" in host else host


def _metrics(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return the metrics and their content type: the format that a client asks for, or else the usual one."""
    try:
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type
    except TypeError:  # it asks for a version that is no number, which prometheus-client (0.26) compares with one
        return _metrics(registry, "")


def serve(host: str, port: int, registry: CollectorRegistry, health: Health) -> http.server.ThreadingHTTPServer:
    """Listen on ``host:port`` (port 0 takes a free one) in a thread of its own; ``shutdown()`` ends it.

    Raises HttpError if the address can't be bound.
    """
    page = resources.files("service.monitoring").joinpath("live.html").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                body, content_type = _metrics(registry, self.headers.get("Accept", ""))
                self._answer(200, content_type, body)
            elif path == "/livez":
                self._answer_check(health.live())
            elif path == "/readyz":
                self._answer_check(health.ready())
            elif path == "/":
                self._answer(200, "text/html; charset=utf-8", page)
            else:
                self._answer(404, "text/plain", b"there are /, /metrics, /livez and /readyz\n")

        do_HEAD = do_GET  # noqa: N815, for it is called by this name

        def _answer_check(self, well: bool) -> None:
            self._answer(200 if well else 503, "text/plain", b"ok\n" if well else b"not yet\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            log.debug(format, *args)

    try:
        server = _Server((host, port), Handler)
    except OSError as error:
        raise HttpError(
            f"can't listen on {shown(host)}:{port} (http.host and http.port): {error.strerror or error}; http.port 0 "
            "takes a free port"
        ) from None
    # How often it checks whether it is to end: the process waits for that.
    serve = functools.partial(server.serve_forever, poll_interval=0.1)
    threading.Thread(target=serve, name="http", daemon=True).start()
    return server
