"""Turns settings into the credentials of a Kafka client: checks files, reads passwords."""

import functools
import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ingest.client.access import Access
from ingest.client.tls import Tls
from service.configuration.settings import KafkaSettings, SettingsError
from service.configuration.tokens import ClientCredentials, Provider

log = logging.getLogger(__name__)

LONGEST_SECRET = 64 * 1024


class SecretFile:
    """A secret mounted as a file, without the line end; each call reads it again.

    Raises SettingsError, with the setting's name, if it can't be read at first. Later, the last one read is used.
    """

    def __init__(self, setting: str, path: Path) -> None:
        self._setting = setting
        self._path = path
        self._last = self._read()

    def __call__(self) -> str:
        """Return the secret as it is now, or else as it was last read."""
        try:
            self._last = self._read()
        except SettingsError as error:
            log.warning("%s; going on with what it was", error)
        return self._last

    def _read(self) -> str:
        try:
            with self._path.open(encoding="utf-8") as file:
                secret = file.read(LONGEST_SECRET + 1)
        except OSError as error:
            raise SettingsError(f"{self._setting} = {str(self._path)!r}: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{self._setting} = {str(self._path)!r}: that is not UTF-8") from None
        secret = secret.rstrip("\r\n")
        if not 0 < len(secret) <= LONGEST_SECRET:
            what = "longer than any secret" if secret else "empty"
            raise SettingsError(f"{self._setting} = {str(self._path)!r}: the file is {what}")
        return secret


def access_to(kafka: KafkaSettings) -> Access:
    """Return how clients reach Kafka by these settings.

    Raises SettingsError if a file can't be read or isn't what it should be. Certificates, too, are read again for each
    connection, so that they may be replaced.
    """
    options: dict[str, Any] = {"security_protocol": kafka.security_protocol}
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = _tls(kafka)
    if not kafka.security_protocol.startswith("SASL_"):
        return Access(kafka.bootstrap_servers, options)
    options["sasl_mechanism"] = kafka.sasl_mechanism
    if kafka.sasl_mechanism == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = _token_provider(kafka)
        return Access(kafka.bootstrap_servers, options)
    password = _password(kafka)
    options |= {"sasl_plain_username": kafka.sasl_username, "sasl_plain_password": password()}
    return Access(kafka.bootstrap_servers, options, password)


@functools.cache
def _token_provider(kafka: KafkaSettings) -> Provider:
    """Return the token provider, shared by all clients of this process with these settings."""
    assert kafka.sasl_username is not None
    assert kafka.sasl_oauth_token_url is not None
    return Provider(
        ClientCredentials(kafka.sasl_oauth_token_url, kafka.sasl_username, _password(kafka), kafka.sasl_oauth_scope)
    )


def _password(kafka: KafkaSettings) -> Callable[[], str]:
    if kafka.sasl_password_file is not None:
        return SecretFile("kafka.sasl_password_file", kafka.sasl_password_file)
    assert kafka.sasl_password is not None
    return kafka.sasl_password.get_secret_value


def _tls(kafka: KafkaSettings) -> Tls:
    key_password = None if kafka.ssl_key_password is None else kafka.ssl_key_password.get_secret_value()
    if kafka.ssl_key_password_file is not None:
        key_password = SecretFile("kafka.ssl_key_password_file", kafka.ssl_key_password_file)()
    with _refusing("ssl_ca_file", kafka.ssl_ca_file, "it holds no certificate in PEM"):
        Tls(kafka.ssl_ca_file).context()
    if kafka.ssl_key_file is not None:
        with _refusing("ssl_key_file", kafka.ssl_key_file, ""):
            kafka.ssl_key_file.open("rb").close()
    tls = Tls(kafka.ssl_ca_file, kafka.ssl_certificate_file, kafka.ssl_key_file, key_password, kafka.ssl_check_hostname)
    what = "it holds no certificate in PEM, or its key is missing, of another, or has another password"
    with _refusing("ssl_certificate_file", kafka.ssl_certificate_file, what):
        tls.context()
    return tls


@contextmanager
def _refusing(setting: str, path: Path | None, what: str) -> Iterator[None]:
    """Turn errors about a setting's file into SettingsError; ``what`` describes the expected content."""
    try:
        yield
    except OSError as error:
        why = what if isinstance(error, ssl.SSLError) else error.strerror or error
        raise SettingsError(f"kafka.{setting} = {str(path)!r}: {why}") from None
