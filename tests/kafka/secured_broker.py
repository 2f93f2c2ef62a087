"""Apache Kafka with TLS, SASL and ACLs: what a deployment's broker asks of its clients.

Four listeners, on loopback alone: PLAINTEXT for the test itself, whose anonymous user is the super user; SASL_SSL;
SASL_PLAINTEXT; and SSL, which asks for the client's certificate.
"""

import base64
import json
import subprocess
import time
from pathlib import Path

from service.broker.node import Broker
from service.broker.ports import free_port
from tests.certificates import Authority, openssl

PASSWORDS = {"worker": "correct-horse", "operator": "battery-staple", "sender": "tr0ub4dor", "reader": "hunter-12"}
AUDIENCE, ISSUER = "kafka", "https://tokens.example"
KEY_ID = "signing-key"


class SecuredBroker(Broker):
    """A broker whose `secure`, `clear` and `mutual` are the addresses of its other listeners."""

    def __init__(self, folder: Path, authority: Authority, signer: "TokenSigner") -> None:
        super().__init__(folder / "kafka", heap="512m")
        self._authority = authority
        self._signer = signer
        self._signed = authority.sign("broker", "DNS:localhost")
        self._ports: dict[str, int] = {}

    @property
    def secure(self) -> str:
        return f"localhost:{self._ports['SASL_SSL']}"

    @property
    def clear(self) -> str:
        return f"localhost:{self._ports['SASL_PLAINTEXT']}"

    @property
    def mutual(self) -> str:
        return f"localhost:{self._ports['SSL']}"

    def _write_properties(self, port: int) -> Path:
        path = super()._write_properties(port)
        ours = dict(line.split("=", 1) for line in path.read_text().splitlines())
        self._ports = {protocol: free_port() for protocol in ("SASL_SSL", "SASL_PLAINTEXT", "SSL")}
        hosts = {protocol: f"localhost:{number}" for protocol, number in self._ports.items()}
        for name in ("listeners", "advertised.listeners"):
            ours[name] += "".join(f",{protocol}://{host}" for protocol, host in hosts.items())
        protocols = {"CONTROLLER": "PLAINTEXT"} | {protocol: protocol for protocol in ("PLAINTEXT", *self._ports)}
        ours["listener.security.protocol.map"] = ",".join(f"{name}:{to}" for name, to in protocols.items())
        path.write_text("".join(f"{name}={value}\n" for name, value in (ours | self._security()).items()))
        return path

    def _security(self) -> dict[str, str]:
        plain = " ".join(f'user_{name}="{password}"' for name, password in PASSWORDS.items())
        modules = "org.apache.kafka.common.security"
        scram = f"{modules}.scram.ScramLoginModule required;"
        jaas = {
            "plain": f"{modules}.plain.PlainLoginModule required {plain};",
            "scram-sha-256": scram,
            "scram-sha-512": scram,
            "oauthbearer": f"{modules}.oauthbearer.OAuthBearerLoginModule required;",
        }
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._signed.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._authority.certificate),
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.sasl_ssl.sasl.enabled.mechanisms": ",".join(jaas).upper(),
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            **{f"listener.name.sasl_ssl.{name}.sasl.jaas.config": text for name, text in jaas.items()},
            "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.oauthbearer.sasl.server.callback.handler.class": (
                f"{modules}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            ),
            "listener.name.sasl_ssl.oauthbearer.sasl.oauthbearer.jwks.endpoint.url": self._signer.keys.as_uri(),
            "listener.name.sasl_ssl.oauthbearer.sasl.oauthbearer.expected.audience": AUDIENCE,
            "listener.name.sasl_ssl.oauthbearer.sasl.oauthbearer.expected.issuer": ISSUER,
            # Connections last as long as their tokens, so clients have to renew both.
            "listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms": "3600000",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
        }

    def _jvm_flags(self) -> list[str]:
        allowed = "-Dorg.apache.kafka.sasl.oauthbearer.allowed."
        keys = self._signer.keys
        return [*super()._jvm_flags(), f"{allowed}urls={keys.as_uri()}", f"{allowed}files={keys}"]


class TokenSigner:
    """Signs tokens (JWT, RS256) as an identity provider does; `keys` is the file that brokers check them with."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = folder / "signing.key"
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self._key)
        modulus = openssl("rsa", "-in", self._key, "-noout", "-modulus").decode().strip().removeprefix("Modulus=")
        public = {"kty": "RSA", "kid": KEY_ID, "use": "sig", "alg": "RS256", "e": "AQAB"}
        self.keys = folder / "keys.json"
        self.keys.write_text(json.dumps({"keys": [{**public, "n": _base64url(bytes.fromhex(modulus))}]}))

    def sign(self, user: str, life_s: float, audience: str = AUDIENCE) -> str:
        now = time.time()
        head = {"alg": "RS256", "kid": KEY_ID, "typ": "JWT"}
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": audience,
            "iat": int(now),
            "exp": int(now + life_s),
            "scope": "streams",
        }
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self._key)]
        signature = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
        return f"{text}.{_base64url(signature)}"


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
