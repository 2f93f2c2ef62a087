"""From settings to what clients are given; what brokers make of it is in tests/kafka/test_security.py."""

import logging
import re
from pathlib import Path

import pytest

from ingest.client.tls import Tls
from service.child_worker import child_environment
from service.configuration.security import SecretFile, access_to
from service.configuration.settings import KafkaSettings, Settings, SettingsError
from service.configuration.settings_reading import load
from tests.certificates import KEY_PASSWORD, Authority, encrypted

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "authority")


def test_a_password_in_a_file_is_read_anew_and_kept_while_it_cannot_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "password"
    file.write_text("first\r\n")
    secret = SecretFile("kafka.sasl_password_file", file)
    assert secret() == "first"
    file.write_text(" second ")
    assert secret() == " second "
    file.unlink()
    with caplog.at_level(logging.WARNING):
        assert secret() == " second "
    assert "kafka.sasl_password_file" in caplog.text
    assert "second" not in caplog.text


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"", "the file is empty"), (b"\n", "the file is empty"), (b"\xff", "is not UTF-8")],
)
def test_a_password_file_that_holds_none_is_refused_by_its_settings_name(
    content: bytes | None, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    kafka = KafkaSettings(
        security_protocol="SASL_SSL", sasl_mechanism="PLAIN", sasl_username="me", sasl_password_file=file
    )
    with pytest.raises(SettingsError, match=rf"kafka\.sasl_password_file = '{file}': .*{says}"):
        access_to(kafka)


def test_files_of_tls_that_are_not_what_they_should_be_are_refused_by_name(
    authority: Authority, tmp_path: Path
) -> None:
    own, other = authority.sign("own"), authority.sign("other")
    no_certificate = tmp_path / "text"
    no_certificate.write_text("no certificate")
    locked = encrypted(own.key)
    cases = [
        ({"ssl_ca_file": tmp_path / "nowhere"}, "kafka.ssl_ca_file", "No such file"),
        ({"ssl_ca_file": no_certificate}, "kafka.ssl_ca_file", "holds no certificate"),
        ({"ssl_certificate_file": own.certificate}, "kafka.ssl_certificate_file", "its key is missing"),
        ({"ssl_certificate_file": own.certificate, "ssl_key_file": other.key}, "kafka.ssl_certificate_file", "another"),
        ({"ssl_certificate_file": own.certificate, "ssl_key_file": locked}, "kafka.ssl_certificate_file", "password"),
        ({"ssl_certificate_file": own.certificate, "ssl_key_file": tmp_path}, "kafka.ssl_key_file", "directory"),
    ]
    for given, names, says in cases:
        with pytest.raises(SettingsError) as refusal:
            access_to(KafkaSettings.model_validate({"security_protocol": "SSL", **given}))
        assert str(refusal.value).startswith(f"{names} = ")
        assert says in str(refusal.value)


def test_certificate_and_key_may_be_one_file_and_the_key_may_have_a_password(authority: Authority) -> None:
    own = authority.sign("one")
    access_to(KafkaSettings(security_protocol="SSL", ssl_certificate_file=own.both))
    access_to(
        KafkaSettings.model_validate(
            {
                "security_protocol": "SSL",
                "ssl_certificate_file": own.certificate,
                "ssl_key_file": encrypted(own.key),
                "ssl_key_password": KEY_PASSWORD,
            }
        )
    )


def test_no_secret_is_in_what_an_access_looks_like(tmp_path: Path) -> None:
    kafka = KafkaSettings.model_validate(
        {
            "bootstrap_servers": "broker:1",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "me",
            "sasl_password": "hunter2",
        }
    )
    access = access_to(kafka)
    assert access.password is not None
    assert access.password() == "hunter2"
    assert str(access) == "broker:1"
    assert "hunter2" not in f"{access!r} {Tls(key_password='hunter2')!r}"


def test_without_settings_of_tls_and_sasl_everybody_is_let_in() -> None:
    access = access_to(KafkaSettings(bootstrap_servers="a:1, b:2"))
    assert (access.servers, access.protocol, access.password) == (["a:1", "b:2"], "PLAINTEXT", None)


def test_tokens_are_asked_for_by_https_alone(tmp_path: Path) -> None:
    given = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_username": "me",
        "sasl_password": "hunter2",
    }
    for wrong in ("http://tokens.example/token", "ftp://tokens.example", "tokens.example", "https://"):
        with pytest.raises(SettingsError, match="must begin with https://"):
            access_to(KafkaSettings.model_validate({**given, "sasl_oauth_token_url": wrong}))
    for wrong, says in (
        ("https://me:hunter3@tokens.example", "holds a user"),
        ("me:hunter3@tokens.example", "must begin with https://"),
        ("https:/me:hunter3@tokens.example", "must begin with https://"),
        ("https://[me:hunter3@tokens.example", "is no address"),
    ):
        with pytest.raises(SettingsError, match=says) as refusal:
            access_to(KafkaSettings.model_validate({**given, "sasl_oauth_token_url": wrong}))
        assert "hunter3" not in str(refusal.value)
    urls = ("https://tokens.example/token", "http://127.0.0.1:8080/token")
    kept = [KafkaSettings.model_validate({**given, "sasl_oauth_token_url": url}) for url in urls]
    providers = {id(access_to(each).options["sasl_oauth_token_provider"]) for each in [*kept, *kept]}
    assert len(providers) == len(urls)  # all clients of a process share one


def test_a_worker_beside_its_own_broker_is_not_told_how_to_get_into_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo's took the user's password for its broker, which lets everybody in, and speaks no TLS."""
    kafka = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "me", "group_id": "mine"}
    for name, value in {**kafka, "sasl_password_file": str(tmp_path / "password")}.items():
        monkeypatch.setenv(f"STRIDECAST_KAFKA__{name.upper()}", value)
    variables = child_environment(load(Settings, [], "stridecast demo"))
    monkeypatch.undo()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load(Settings, [], "stridecast worker").kafka == KafkaSettings(group_id="mine")


def test_no_client_is_made_without_being_told_how_to_get_in() -> None:
    """Who hands on `kafka.bootstrap_servers` alone leaves out TLS and SASL: `access_to` has all that clients need."""
    alone = re.compile(r"kafka\.bootstrap_servers\b|kafka\.Kafka(?:Producer|Consumer)\(|\bKafkaAdminClient\(")
    clients_of_their_own_broker = {"service/demo/run.py", "service/bench/drain.py"}
    for_its_log = {"service/pipeline/worker.py"}
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "service").rglob("*.py") if alone.search(path.read_text())}
    assert found - {"service/configuration/security.py"} == clients_of_their_own_broker | for_its_log
