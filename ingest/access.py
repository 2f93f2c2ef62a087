"""How to reach Kafka: where it is, and what it takes to be let in."""

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
    RetriableError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

# What X.509 calls a certificate that is for another name (X509_V_ERR_HOSTNAME_MISMATCH, ..._IP_ADDRESS_MISMATCH).
_OTHER_NAME = (62, 64)
# The last is what TLS looks like to a client that speaks without.
_FINAL = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError, IllegalSaslStateError, InvalidReceiveError)


class CredentialError(RetriableError):  # type: ignore[misc]
    """What a client is to prove itself with can't be had; the text says why. ``final`` where it won't be soon."""

    def __init__(self, said: str, *, final: bool = False) -> None:
        super().__init__(said)
        self.final = final

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """Brokers to start from (``host:port``, separated by commas), and how each connection proves itself.

    ``options`` are kafka-python's settings of TLS and SASL. ``password`` is asked anew for each connection, for a
    mounted secret may have been replaced, and must not raise. Neither shows in ``repr``; ``str`` is the brokers alone.
    """

    bootstrap_servers: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    password: Callable[[], str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.bootstrap_servers

    @property
    def servers(self) -> list[str]:
        """The brokers one by one."""
        return [server.strip() for server in self.bootstrap_servers.split(",")]

    @property
    def protocol(self) -> str:
        """How connections are made, by Kafka's name."""
        return str(self.options.get("security_protocol", "PLAINTEXT"))


Servers = str | Access
"""Brokers that let everybody in, as ``host:port[,host:port...]``, or what it takes to be let in."""


def access(servers: Servers) -> Access:
    """Return how to reach these."""
    return servers if isinstance(servers, Access) else Access(servers)


def is_final(error: BaseException) -> bool:
    """Tell whether another attempt to connect will hardly go otherwise, as of a wrong password or certificate."""
    if isinstance(error, CredentialError):
        return error.final
    if isinstance(error, _FINAL):
        return True
    cause = _tls_error(error)
    # One that only says that the other side went away may be of a broker that is being restarted.
    return cause is not None and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def reason(error: BaseException, to: Access) -> str | None:
    """Say why a connection wasn't let in, and which setting to look at; None where that isn't known.

    Of settings it tells the names alone.
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
    """Return what an error says, and what to do where that is known, such as which ACL is missing."""
    said = str(error)
    if isinstance(error, GroupAuthorizationFailedError):
        return f"{said}: the user lacks the ACL READ on this consumer group"
    if isinstance(error, TopicAuthorizationFailedError):
        return f"{said}: the user lacks an ACL on this topic, READ where it reads it, WRITE where it writes it"
    if isinstance(error, TransactionalIdAuthorizationFailedError):
        return f"{said}: the user lacks the ACL WRITE on the transactional id"
    if isinstance(error, InconsistentGroupProtocolError):
        return f"{said}: another kind of program is in this consumer group; choose another kafka.group_id"
    if isinstance(error, InvalidSessionTimeoutError):
        return f"{said}: kafka.session_timeout_s is beyond the broker's group.min. or group.max.session.timeout.ms"
    if isinstance(error, InvalidTransactionTimeoutError):
        return f"{said}: kafka.transaction_timeout_s is beyond the broker's transaction.max.timeout.ms"
    return said


def _is_cut_off(error: KafkaConnectionError) -> bool:
    return "disconnected" in str(error) or any(isinstance(cause, ConnectionError) for cause in error.args)


def _who(to: Access) -> str:
    mechanism = to.options.get("sasl_mechanism")
    if mechanism == "OAUTHBEARER":
        return "the token of the token endpoint: see kafka.sasl_username, its secret and kafka.sasl_oauth_scope"
    return f"the user or the password, with {mechanism}: see kafka.sasl_username and its password"


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return the error of TLS that a connection's error was made of; kafka-python hands it on in several ways."""
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
    said = cause.reason or str(cause)
    if "ALERT" in said and ("CERTIFICATE" in said or "UNKNOWN_CA" in said):
        return f"the broker refuses this client's certificate ({said}): see kafka.ssl_certificate_file"
    return f"TLS fails ({said}): is kafka.security_protocol ({to.protocol}) what this port wants?"
