import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from service.http import Health, HttpError, serve


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def url(health: Health) -> Iterator[str]:
    registry = CollectorRegistry()
    Counter("stridecast_things", "Things.", registry=registry).inc(3)
    server = serve("127.0.0.1", 0, registry, health)
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def get(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_metrics_are_in_the_text_format_of_prometheus(url: str) -> None:
    status, content_type, body = get(f"{url}/metrics")
    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    assert "stridecast_things_total 3.0" in body


def test_health_answers_what_the_worker_says_at_that_moment(url: str, health: Health) -> None:
    assert get(f"{url}/livez")[0] == 200
    assert get(f"{url}/readyz")[0] == 503
    health.ready = lambda: True
    assert get(f"{url}/readyz")[0] == 200
    health.live = lambda: False
    assert get(f"{url}/livez")[0] == 503


def test_the_live_view_asks_for_nothing_from_elsewhere(url: str) -> None:
    status, content_type, body = get(f"{url}/")
    assert (status, content_type) == (200, "text/html; charset=utf-8")
    assert "http://" not in body
    assert "https://" not in body


def test_an_unknown_path_says_what_there_is(url: str) -> None:
    assert get(f"{url}/admin")[0] == 404
    assert "/metrics" in get(f"{url}/admin")[2]


def test_a_client_that_leaves_early_harms_nobody(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    host, port = url.removeprefix("http://").split(":")
    for request in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
        with socket.create_connection((host, int(port))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves with a reset
            client.sendall(request)
    assert get(f"{url}/livez")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HttpError, match=rf"can't listen on 127\.0\.0\.1:{port}"):
            serve("127.0.0.1", port, CollectorRegistry(), Health())
