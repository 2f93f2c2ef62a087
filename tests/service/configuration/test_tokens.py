"""Tokens from an HTTP endpoint that behaves well, and from some that don't."""

import base64
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from service.configuration.tokens import LARGEST_ANSWER, LONGEST_LIFE_S, ClientCredentials, Provider, Token, TokenError

Answer = tuple[int, dict[str, str], bytes]


class Endpoint:
    """Answers every request with `answer`; `requests` are the headers and forms that came."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], str]] = []
        self.answer: Answer = (200, {}, b"{}")
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                endpoint.requests.append((dict(self.headers), form))
                status, headers, body = endpoint.answer
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"

    def fetch(self, scope: str | None = None) -> Token:
        return ClientCredentials(self.url, "an id", lambda: "s:cret/ü", scope)()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_client_proves_itself_as_rfc_6749_says(endpoint: Endpoint) -> None:
    endpoint.answer = 200, {}, json.dumps({"access_token": "abc", "token_type": "Bearer", "expires_in": 3599}).encode()
    token = endpoint.fetch(scope="kafka read")
    assert (token.value, token.life_s) == ("abc", 3599)
    ((headers, form),) = endpoint.requests
    assert form == "grant_type=client_credentials&scope=kafka+read"
    proof = headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(proof) == b"an+id:s%3Acret%2F%C3%BC"
    assert "abc" not in repr(token)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401, {}, b'{"error": "invalid_client", "error_description": "s:cret"}'), "HTTP 401, invalid_client"),
        ((500, {}, b"<html>"), "HTTP 500"),
        ((500, {}, b"[" * 60_000), "HTTP 500"),
        ((500, {"Content-Length": "1000"}, b"{}"), "HTTP 500"),
        ((500, {"Transfer-Encoding": "chunked"}, b"no chunk"), "HTTP 500"),
        ((302, {"Location": "http://127.0.0.1:9/elsewhere"}, b""), "HTTP 302"),
        ((200, {}, b"no JSON"), "the answer is not JSON"),
        ((200, {}, b"[" * 60_000), "the answer is not JSON"),
        ((200, {}, b"[]"), "has no access_token"),
        ((200, {}, b'{"access_token": ""}'), "has no access_token"),
        ((200, {}, b'{"access_token": "a\\nb"}'), "has no access_token"),
        ((200, {}, b'{"access_token": "abc", "expires_in": -1}'), "expires_in is no number of seconds"),
        ((200, {}, b'{"access_token": "abc", "expires_in": "soon"}'), "expires_in is no number of seconds"),
        ((200, {}, b'{"access_token": "abc", "expires_in": "-1"}'), "expires_in is no number of seconds"),
        (
            (200, {}, b'{"access_token": "abc", "expires_in": "%s"}' % (b"9" * 5000)),
            "expires_in is no number of seconds",
        ),
        ((200, {}, b" " * (LARGEST_ANSWER + 1)), "larger than any token"),
        ((200, {"Content-Length": "1000"}, b"{}"), "no token from"),
    ],
)
def test_an_answer_that_is_no_token_is_refused_without_showing_it(
    answer: Answer, says: str, endpoint: Endpoint
) -> None:
    endpoint.answer = answer
    with pytest.raises(TokenError) as refusal:
        endpoint.fetch()
    assert says in str(refusal.value)
    assert endpoint.url in str(refusal.value)
    assert not [secret for secret in ("s:cret", "abc") if secret in str(refusal.value)]
    assert refusal.value.final == (answer[0] == 401)


@pytest.mark.parametrize(
    ("expires_in", "life_s"),
    [(b"3599", 3599.0), (b'"3599"', 3599.0), (b"1.5", 1.5), (b"9" * 400, LONGEST_LIFE_S), (b"1e300", LONGEST_LIFE_S)],
)
def test_a_life_may_be_a_string_and_longer_than_any_sleep(expires_in: bytes, life_s: float, endpoint: Endpoint) -> None:
    endpoint.answer = 200, {}, b'{"access_token": "abc", "expires_in": %s}' % expires_in
    assert endpoint.fetch().life_s == life_s


def test_an_endpoint_that_falls_silent_amid_an_error_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading of an error's body once raised past the handlers, and the renewal ended with it."""
    monkeypatch.setattr("service.configuration.tokens.TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        fetch = ClientCredentials(f"http://127.0.0.1:{server.getsockname()[1]}/", "me", lambda: "s:cret", None)
        ended = threading.Event()

        def fall_silent() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 1000\r\n\r\n{")
                ended.wait(10)

        threading.Thread(target=fall_silent, daemon=True).start()
        with pytest.raises(TokenError, match="HTTP 500"):
            fetch()
        ended.set()


def test_an_endpoint_that_does_not_answer_is_reported(endpoint: Endpoint) -> None:
    endpoint.server.shutdown()
    endpoint.server.server_close()
    with pytest.raises(TokenError, match=r"no token from .* refused"):
        endpoint.fetch()


class Issued:
    """Gives a token that differs each time, or fails; `again` is set when it was asked."""

    def __init__(self, life_s: float, clock: Callable[[], float]) -> None:
        self.count = 0
        self.failing: Exception | None = None
        self.called = threading.Condition()
        self._life_s = life_s
        self._clock = clock

    def __call__(self) -> Token:
        with self.called:
            self.count += 1
            self.called.notify_all()
        if self.failing:
            raise self.failing
        return Token(f"token {self.count}", self._clock(), self._life_s)

    def wait_for(self, count: int) -> None:
        with self.called:
            assert self.called.wait_for(lambda: self.count >= count, 10)


def test_a_token_is_used_again_while_it_is_good_and_one_that_has_expired_never() -> None:
    now = [1000.0]
    issued = Issued(100.0, lambda: now[0])
    provider = Provider(issued, lambda: now[0])
    assert [provider.token(), provider.token()] == ["token 1", "token 1"]
    now[0] += 100.0
    with pytest.raises(TokenError, match="the token has expired"):
        provider.token()


def test_a_token_is_renewed_before_it_expires_though_nobody_asks_for_it() -> None:
    issued = Issued(0.2, time.monotonic)
    provider = Provider(issued)
    provider.token()
    issued.wait_for(3)


@pytest.mark.parametrize(
    ("failing", "says"),
    [(TokenError("no token today"), "no token today"), (MemoryError("s:cret"), "can't be renewed: MemoryError")],
)
def test_a_token_that_cannot_be_renewed_is_tried_again_and_logged(failing: Exception, says: str) -> None:
    issued = Issued(0.2, time.monotonic)
    provider = Provider(issued)
    provider.token()
    issued.failing = failing
    issued.wait_for(4)
    with pytest.raises(TokenError, match=says):
        provider.token()
    issued.failing = None
    issued.wait_for(issued.count + 2)
    assert provider.token().startswith("token")
