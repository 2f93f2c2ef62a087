"""A Kafka that lets in who has a certificate, a password or a token, and lets do what docs/security.md lists."""

import argparse
import base64
import http.server
import json
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka.admin

from service.configuration.settings import KafkaSettings, KindSettings
from service.kafka_admin.topic_specs import specs
from service.pipeline.clients import Clients
from tests.certificates import KEY_PASSWORD, Authority, Signed, encrypted
from tests.kafka.secured_broker import PASSWORDS, SecuredBroker, TokenSigner

outside: Any = confluent_kafka.admin  # which doesn't declare what it exports

SECURITY = (Path(__file__).parents[2] / "docs/security.md").read_text()
CLIENT_SECRET = "client-secret-of-the-test"
SECRETS = [*PASSWORDS.values(), CLIENT_SECRET, KEY_PASSWORD]


@dataclass(frozen=True, order=True)
class Right:
    """One ACL."""

    user: str
    operation: str
    resource: str
    name: str
    prefixed: bool = False

    def __str__(self) -> str:
        return f"{self.operation} {self.resource} {self.name}"

    def allows(self, other: "Right") -> bool:
        named = other.name.startswith(self.name) if self.prefixed else other.name == self.name
        return named and (self.user, self.operation, self.resource) == (other.user, other.operation, other.resource)

    def binding(self) -> Any:
        spelled = re.sub(r"(?<!^)(?=[A-Z])", "_", self.operation).upper()
        return outside.AclBinding(
            outside.ResourceType[self.resource.upper()],
            self.name,
            outside.ResourcePatternType.PREFIXED if self.prefixed else outside.ResourcePatternType.LITERAL,
            self.user,
            "*",
            outside.AclOperation[spelled],
            outside.AclPermissionType.ALLOW,
        )


def documented(user: str) -> list[Right]:
    """The rights that docs/security.md gives a user, as its commands say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True)
    resources = parser.add_mutually_exclusive_group(required=True)
    for resource in ("--topic", "--group", "--transactional-id"):
        resources.add_argument(resource, action="append")
    parser.add_argument("--resource-pattern-type", choices=["literal", "prefixed"], default="literal")
    rights = []
    for line in re.findall(r"^\$acls (.*)$", SECURITY, re.MULTILINE):
        said = parser.parse_args(shlex.split(line))
        prefixed = said.resource_pattern_type == "prefixed"
        rights += [
            Right(said.allow_principal, operation, resource, name, prefixed)
            for resource in ("topic", "group", "transactional_id")
            for name in getattr(said, resource) or ()
            for operation in said.operation
        ]
    return [right for right in rights if right.user == f"User:{user}"]


def topics_of(kind: KindSettings) -> list[str]:
    """A kind's input, and what its worker writes."""
    return [kind.input_topic, kind.output_topic, kind.dead_letter_topic]


def needs(command: list[str], settings: Any) -> list[Right]:
    """What a command needs with these settings, by the names that it will use."""
    user = f"User:{settings.kafka.sasl_username or 'worker'}"
    if command[0] == "topics":
        made = specs([settings.activity, settings.text], None)
        operations = ("Create", "Describe", "DescribeConfigs")
        return [Right(user, operation, "topic", topic.name) for topic in made for operation in operations]
    if command[0] == "replay":
        kind = settings.activity if settings.texts is None else settings.text
        return [Right(user, "Write", "topic", kind.input_topic)]
    kind, kafka = command[1], KafkaSettings(group_id=settings.kafka.group_id)
    rights = [Right(user, "Read", "group", kafka.group_id)]
    source, *written = topics_of(getattr(settings, kind))
    rights += [Right(user, "Read", "topic", name) for name in (source, *written)]
    rights += [Right(user, "Write", "topic", name) for name in written]
    if settings.delivery == "exactly_once":
        rights += [Right(user, "Write", "transactional_id", Clients(kind, kafka)._transactional_id)]
    return rights


def lacking(wanted: list[Right], given: list[Right]) -> list[Right]:
    return [right for right in wanted if not any(each.allows(right) for each in given)]


@dataclass
class Secured:
    """A broker with its users and topics, and the files that a client is given."""

    broker: SecuredBroker
    authority: Authority
    stranger: Authority
    client: Signed
    tokens: "TokenEndpoint"
    folder: Path
    admin: Any

    def password_file(self, user: str, password: str | None = None) -> Path:
        path = self.folder / f"password-of-{user}"
        path.write_text((password or PASSWORDS[user]) + "\n")
        return path

    def settings(self, user: str = "worker", mechanism: str = "SCRAM-SHA-512", **changes: Any) -> KafkaSettings:
        """How this user gets in by TLS and SASL."""
        values: dict[str, Any] = {
            "bootstrap_servers": self.broker.secure,
            "security_protocol": "SASL_SSL",
            "ssl_ca_file": self.authority.certificate,
            "sasl_mechanism": mechanism,
            "sasl_username": user,
            "sasl_password_file": changes.get("sasl_password_file") or self.password_file(user),
        } | changes
        return KafkaSettings(**{name: value for name, value in values.items() if value is not None})

    def mutual(self, **changes: Any) -> KafkaSettings:
        """How the worker gets in by its certificate."""
        none: dict[str, Any] = dict.fromkeys(("sasl_mechanism", "sasl_username", "sasl_password_file"))
        key_password = self.folder / "key-password"
        key_password.write_text(KEY_PASSWORD)
        own: dict[str, Any] = {
            "bootstrap_servers": self.broker.mutual,
            "security_protocol": "SSL",
            "ssl_certificate_file": self.client.certificate,
            "ssl_key_file": encrypted(self.client.key),
            "ssl_key_password_file": key_password,
        }
        return self.settings(**none | own | changes)

    def token(self, **changes: Any) -> KafkaSettings:
        """How the worker gets in by a token."""
        secret = self.folder / "client-secret"
        secret.write_text(CLIENT_SECRET)
        ours: dict[str, Any] = {"sasl_oauth_token_url": self.tokens.url, "sasl_password_file": secret}
        return self.settings("worker", "OAUTHBEARER", **{**ours, "sasl_oauth_scope": "streams", **changes})

    def give(self, rights: list[Right]) -> None:
        for future in self.admin.create_acls([right.binding() for right in rights]).values():
            future.result(10)

    def take(self, rights: list[Right]) -> None:
        filters = []
        for right in rights:
            bound = right.binding()
            filters.append(
                outside.AclBindingFilter(
                    bound.restype,
                    bound.name,
                    bound.resource_pattern_type,
                    bound.principal,
                    bound.host,
                    bound.operation,
                    bound.permission_type,
                )
            )
        assert [len(future.result(10)) for future in self.admin.delete_acls(filters).values()] == [1] * len(rights)

    @contextmanager
    def without(self, right: Right) -> Iterator[None]:
        self.take([right])
        try:
            yield
        finally:
            self.give([right])

    @contextmanager
    def having_only(self, rights: list[Right]) -> Iterator[None]:
        """Let the worker's user do this and nothing else of what is documented."""
        had = documented("worker")
        self.take(had)
        self.give(rights)
        try:
            yield
        finally:
            self.take(rights)
            self.give(had)

    def set_password(self, user: str, password: str) -> None:
        """Make a user, or change its password, for both SCRAM mechanisms."""
        for mechanism in (outside.ScramMechanism.SCRAM_SHA_256, outside.ScramMechanism.SCRAM_SHA_512):
            change = outside.UserScramCredentialUpsertion(
                user, outside.ScramCredentialInfo(mechanism, 4096), password.encode()
            )
            for future in self.admin.alter_user_scram_credentials([change]).values():
                future.result(10)


class TokenEndpoint:
    """Gives tokens for the worker's id and secret; `asked` is what it was asked, `life_s` how long they last."""

    def __init__(self, signer: TokenSigner) -> None:
        self.asked: list[str] = []
        self.life_s = 300.0
        endpoint, proof = self, base64.b64encode(f"worker:{CLIENT_SECRET}".encode()).decode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                known = self.headers["Authorization"] == f"Basic {proof}"
                answer: dict[str, object] = {"error": "invalid_client"}
                if known:
                    token = signer.sign("worker", endpoint.life_s)
                    answer = {"access_token": token, "expires_in": endpoint.life_s}
                content = json.dumps(answer).encode()
                self.send_response(200 if known else 401)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"

    def __enter__(self) -> "TokenEndpoint":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def running(folder: Path) -> Iterator[Secured]:
    """Start it; raises ArtifactError or JavaMissing."""
    authority, stranger = Authority(folder / "authority"), Authority(folder / "stranger")
    signer = TokenSigner(folder / "tokens")
    with SecuredBroker(folder, authority, signer) as broker, TokenEndpoint(signer) as tokens:
        admin = outside.AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        found = Secured(broker, authority, stranger, authority.sign("worker"), tokens, folder, admin)
        for user, password in PASSWORDS.items():
            found.set_password(user, password)
            found.give(documented(user))
        yield found
