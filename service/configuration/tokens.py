"""Tokens for OAUTHBEARER: fetched from a token endpoint with the client's id and secret, and renewed in time.

The grant is RFC 6749's client credentials (4.4), with HTTP Basic authentication of the client (2.3.1). Kafka takes the
token as RFC 7628 says. A broker may limit a connection to the life of its token (KIP-368), and kafka-python asks for a
new token at 85 to 95 % of that. Tokens are renewed earlier, in a separate thread, because a client's IO thread that
waits for an HTTP answer sends no heartbeats.

    TokenError    a CredentialError: no token can be had; the text says why, and holds neither secret nor token
"""

import base64
import http.client
import json
import logging
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from kafka.net.sasl.oauth import AbstractTokenProvider

from ingest.client.access import CredentialError
from service.configuration.settings import SettingsError

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
LARGEST_ANSWER = 64 * 1024
RENEW_AT = 0.75
"""The share of a token's life after which another one is fetched."""
RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
# The life of a token if its endpoint doesn't say (RFC 6749, 5.1, only recommends it).
LIFE_S = 60.0
# The longest life, whatever an endpoint says: no sleep takes more than some centuries.
LONGEST_LIFE_S = 30 * 86400.0


class TokenError(CredentialError):
    """No token can be had; for good if the endpoint refuses the client."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, when it was requested (on the clock of ``time.monotonic``), and for how many seconds it is valid."""

    value: str
    asked_at: float
    life_s: float

    def __repr__(self) -> str:
        return f"Token(life_s={self.life_s:g})"


class Provider(AbstractTokenProvider):  # type: ignore[misc]
    """Provides the current token; ``fetch`` gets a new one, or raises TokenError. All methods are for any thread."""

    def __init__(self, fetch: Callable[[], Token], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._problem = "the token has expired, and there is no other one yet"

    def token(self) -> str:
        """Return a valid token; raises TokenError if there is none. Only the first one is waited for."""
        with self._lock:
            if self._token is None:
                self._token = self._fetch()
                threading.Thread(target=self._renew_for_ever, name="token-renewal", daemon=True).start()
            token = self._token
        if self._age_s(token) >= token.life_s:
            raise TokenError(self._problem)
        return token.value

    def _age_s(self, token: Token) -> float:
        return self._clock() - token.asked_at

    def _renew_for_ever(self) -> NoReturn:
        retry_s = RETRY_S
        while True:
            try:
                self._renew_when_due()
                retry_s = RETRY_S
            except Exception as error:  # any error: without this thread, the client works until its token expires
                expected = isinstance(error, TokenError)
                self._problem = str(error) if expected else f"the token can't be renewed: {type(error).__name__}"
                log.warning("%s; trying on", self._problem, exc_info=not expected)
                time.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    def _renew_when_due(self) -> None:
        token = self._token
        assert token is not None
        while (due_s := RENEW_AT * token.life_s - self._age_s(token)) > 0:
            time.sleep(due_s)
        self._token = self._fetch()


class ClientCredentials:
    """Fetches tokens; ``secret`` is called for each."""

    def __init__(self, url: str, client_id: str, secret: Callable[[], str], scope: str | None) -> None:
        """Raise SettingsError for an endpoint that would get the secret unencrypted."""
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:
            raise SettingsError("kafka.sasl_oauth_token_url is no address") from None
        if "@" in parts.netloc:
            raise SettingsError(
                "kafka.sasl_oauth_token_url holds a user: kafka.sasl_username and kafka.sasl_password_file are for that"
            )
        on_this_machine = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and on_this_machine)):
            raise SettingsError(
                "kafka.sasl_oauth_token_url must begin with https:// and a host, for the secret is sent there"
            )
        self._url = url
        self._client_id = client_id
        self._secret = secret
        self._scope = scope
        self._opener = urllib.request.build_opener(_NoRedirects)

    def __call__(self) -> Token:
        """Fetch a token; raises TokenError."""
        asked_at = time.monotonic()
        try:
            with self._opener.open(self._request(), timeout=TIMEOUT_S) as answer:
                return _as_token(answer.read(LARGEST_ANSWER + 1), asked_at)
        except urllib.error.HTTPError as error:
            code = _error_code(error)
            refused = error.code in (400, 401, 403)
            raise TokenError(f"no token from {self._url}: HTTP {error.code}{code}", final=refused) from None
        except (OSError, http.client.HTTPException) as error:
            raise TokenError(f"no token from {self._url}: {getattr(error, 'reason', error)}") from None
        except ValueError as error:
            raise TokenError(f"no token from {self._url}: {error}") from None

    def _request(self) -> urllib.request.Request:
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        proof = ":".join(urllib.parse.quote_plus(part) for part in (self._client_id, self._secret()))
        headers = {
            "Authorization": "Basic " + base64.b64encode(proof.encode()).decode(),
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return urllib.request.Request(self._url, urllib.parse.urlencode(form).encode(), headers, method="POST")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would send the secret elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _as_token(body: bytes, asked_at: float) -> Token:
    """Parse an endpoint's answer; the ValueError says what is wrong with it, and nothing of its content."""
    if len(body) > LARGEST_ANSWER:
        raise ValueError("the answer is larger than any token")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the answer is not JSON") from None
    value = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise ValueError("the answer has no access_token")
    return Token(value, asked_at, _life_s(answer.get("expires_in", LIFE_S)))


def _life_s(expires_in: object) -> float:
    """Parse ``expires_in``, which some endpoints write as a string; raises ValueError."""
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit():
        expires_in = float(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or not 0 < expires_in < float("inf"):
        raise ValueError("the answer's expires_in is no number of seconds")
    return float(min(expires_in, LONGEST_LIFE_S))


def _error_code(answer: urllib.error.HTTPError) -> str:
    """Return the error code in an endpoint's answer (RFC 6749, 5.2), if it has one and arrives."""
    try:
        with answer:
            code = json.loads(answer.read(LARGEST_ANSWER))["error"]
    except (OSError, http.client.HTTPException, ValueError, RecursionError, KeyError, TypeError):
        return ""
    return f", {code}" if isinstance(code, str) and code.isascii() and code.isprintable() and len(code) < 100 else ""
