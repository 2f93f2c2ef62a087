"""How to reach Kafka: bootstrap servers, TLS and SASL; and what to do about errors of authentication."""

import errno
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kafka.errors import (
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    InconsistentGroupProtocolError,
    InvalidReceiveError,
    InvalidSessionTimeoutError,
    InvalidTransactionTimeoutError,
    KafkaConnectionError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RetriableError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

# OpenSSL's codes for a certificate for another name (X509_V_ERR_HOSTNAME_MISMATCH, ..._IP_ADDRESS_MISMATCH).
_OTHER_NAME = (62, 64)
# The last is what TLS looks like to a client that speaks without.
_FINAL = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError, IllegalSaslStateError, InvalidReceiveError)


class CredentialError(RetriableError):  # type: ignore[misc]
    """A client's credentials can't be had; the text says why. ``final`` if retrying soon won't help."""

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """Bootstrap servers (``host:port``, separated by commas), and how each connection authenticates.

    ``options`` are kafka-python's settings of TLS and SASL. ``password`` is called for each connection, because a
    mounted secret may have been replaced; it must not raise. ``repr`` shows neither; ``str`` shows the servers alone.
    """

    bootstrap_servers: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    password: Callable[[], str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.bootstrap_servers

    @property
    def servers(self) -> list[str]:
        """The bootstrap servers as a list."""
        return [server.strip() for server in self.bootstrap_servers.split(",")]

    @property
    def protocol(self) -> str:
        """Kafka's name of the security protocol."""
        return str(self.options.get("security_protocol", "PLAINTEXT"))


Servers = str | Access
"""Brokers without authentication, as ``host:port[,host:port...]``, or an `Access`."""


def access(servers: Servers) -> Access:
    """Return the servers as an `Access`."""
    return servers if isinstance(servers, Access) else Access(servers)


def is_final(error: BaseException) -> bool:
    """Return whether another attempt to connect will hardly help, as with a wrong password or certificate."""
    if isinstance(error, CredentialError):
        return error.final
    if isinstance(error, _FINAL):
        return True
    cause = _tls_error(error)
    # An error that only says that the other side went away may come from a broker that is restarting.
    return cause is not None and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def reason(error: BaseException, to: Access) -> str | None:
    """Return why a connection was refused, and which setting to check; None if that isn't known.

    It contains names of settings, never values.
    """
    if isinstance(error, CredentialError):
        return str(error)
    if isinstance(error, SaslAuthenticationFailedError):
        return f"Kafka refuses {_who(to)} ({error.args[0] if error.args else 'it does not say why'})"
    if isinstance(error, UnsupportedSaslMechanismError):
        mechanism = to.options.get("sasl_mechanism")
        return f"this port takes no {mechanism}: set kafka.sasl_mechanism to one that the brokers have enabled there"
    if isinstance(error, IllegalSaslStateError):
        return f"this port takes no SASL: kafka.security_protocol is {to.protocol}, and another one is wanted"
    cause = _tls_error(error)
    if cause is not None:
        return _tls_reason(cause, to)
    wants = f"is kafka.security_protocol ({to.protocol}) what this port wants?"
    if isinstance(error, InvalidReceiveError):
        return f"what answers there does not speak as Kafka does: {wants}"
    if isinstance(error, KafkaConnectionError) and _is_cut_off(error):
        return f"connections are closed without an answer: the broker is being restarted, or {wants}"
    return None


def unreachable(error: BaseException, host: str, port: int) -> str | None:
    """Say why no connection to a broker came about, if the network is why; None for all else."""
    if isinstance(error, KafkaTimeoutError):
        return f"{host}:{port}: connection timed out"
    said = str(error.args[0]) if isinstance(error, KafkaConnectionError) and error.args else ""
    if said.startswith("DNS "):
        return f"the name {host} can't be resolved"
    number, _, name = said.partition(" ")
    if number.isdecimal() and errno.errorcode.get(int(number)) == name:
        return f"{host}:{port}: {os.strerror(int(number)).lower()}"
    return None


def remedy(error: BaseException) -> str:
    """Return an error's text, with what to do if that is known, such as which ACL is missing."""
    text = str(error)
    if isinstance(error, NodeNotReadyError):
        return "the broker in charge does not answer"
    if isinstance(error, KafkaConnectionError):
        return f"the connection to a broker failed{f' ({error.args[0]})' if error.args else ''}"
    if isinstance(error, GroupAuthorizationFailedError):
        return f"{text}: the user lacks the ACL READ on this consumer group"
    if isinstance(error, TopicAuthorizationFailedError):
        return f"{text}: the user lacks an ACL on this topic, READ where it reads it, WRITE where it writes it"
    if isinstance(error, TransactionalIdAuthorizationFailedError):
        return f"{text}: the user lacks the ACL WRITE on the transactional id"
    if isinstance(error, InconsistentGroupProtocolError):
        return f"{text}: another kind of program is in this consumer group; choose another kafka.group_id"
    if isinstance(error, InvalidSessionTimeoutError):
        return f"{text}: kafka.session_timeout_s is beyond the broker's group.min. or group.max.session.timeout.ms"
    if isinstance(error, InvalidTransactionTimeoutError):
        return f"{text}: kafka.transaction_timeout_s is beyond the broker's transaction.max.timeout.ms"
    return text


def _is_cut_off(error: KafkaConnectionError) -> bool:
    return "disconnected" in str(error) or any(isinstance(cause, ConnectionError) for cause in error.args)


def _who(to: Access) -> str:
    mechanism = to.options.get("sasl_mechanism")
    if mechanism == "OAUTHBEARER":
        return "the token of the token endpoint: see kafka.sasl_username, its secret and kafka.sasl_oauth_scope"
    return f"the user or the password, with {mechanism}: see kafka.sasl_username and its password"


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return the TLS error behind a connection's error; kafka-python passes it on in several ways."""
    for candidate in (error, error.__cause__, error.__context__, *error.args):
        if isinstance(candidate, ssl.SSLError):
            return candidate
    return None


def _tls_reason(cause: ssl.SSLError, to: Access) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in _OTHER_NAME:
            return (
                f"the broker's certificate is for another name ({cause.verify_message}): "
                "name it in kafka.bootstrap_servers as its certificate does"
            )
        return (
            f"the broker's certificate is not to be trusted ({cause.verify_message}): "
            "kafka.ssl_ca_file must hold the authority that signed it"
        )
    text = cause.reason or str(cause)
    if "ALERT" in text and ("CERTIFICATE" in text or "UNKNOWN_CA" in text):
        return f"the broker refuses this client's certificate ({text}): see kafka.ssl_certificate_file"
    return f"TLS fails ({text}): is kafka.security_protocol ({to.protocol}) what this port wants?"
