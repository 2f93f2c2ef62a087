import contextlib
import itertools
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from service.monitoring import http
from service.monitoring.http import Health, HttpError, serve


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


def get(url: str, **headers: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_metrics_are_in_the_text_format_of_prometheus(url: str) -> None:
    status, content_type, body = get(f"{url}/metrics")
    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    assert "stridecast_things_total 3.0" in body


def test_a_format_asked_for_in_a_way_that_makes_no_sense_is_the_usual_one(url: str) -> None:
    """The connection was closed without an answer."""
    status, content_type, body = get(f"{url}/metrics", Accept="application/openmetrics-text;version=abc")
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


def test_clients_that_dawdle_take_no_more_than_so_many_threads_and_keep_nobody_out(url: str) -> None:
    """Each had a thread and a descriptor for as long as it sent a byte now and then; with enough none was left."""
    host, port = url.removeprefix("http://").split(":")
    before = threading.active_count()
    with contextlib.ExitStack() as open_ones:
        dawdlers = [
            open_ones.enter_context(socket.create_connection((host, int(port)), timeout=5))
            for _ in range(3 * http.MOST_CONNECTIONS)
        ]
        for dawdler in dawdlers:
            with contextlib.suppress(OSError):
                dawdler.sendall(b"G")
        assert get(f"{url}/livez")[0] == 200
        assert threading.active_count() - before <= http.MOST_CONNECTIONS + 2
        assert dawdlers[0].recv(1) == b""


def test_a_request_that_takes_too_long_is_cut_off(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte each few seconds kept a connection open for days."""
    monkeypatch.setattr(http, "LONGEST_S", 0.5)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client, contextlib.suppress(ConnectionError):
        began = time.monotonic()
        for byte in itertools.cycle(b"GET /"):
            client.sendall(bytes([byte]))
            assert time.monotonic() - began < 5
            time.sleep(0.05)


def test_a_head_is_answered_without_a_body(url: str) -> None:
    """Some probes ask for no more; they were told that it can't be done."""
    request = urllib.request.Request(f"{url}/livez", method="HEAD")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "3", b"")


def test_an_address_may_be_of_the_sixth_version(health: Health) -> None:
    """`::`, which clusters without IPv4 need, was "not supported"."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("IPv6 is off on this machine, and this takes ::1: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    server = serve("::1", 0, CollectorRegistry(), health)
    try:
        assert get(f"http://[::1]:{server.server_address[1]}/livez")[0] == 200
    finally:
        server.shutdown()
        server.server_close()
