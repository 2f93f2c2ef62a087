"""TLS, SASL and ACLs on Apache Kafka itself, with the users and the rights of docs/security.md and no others."""

import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kafka
import pytest
from kafka.errors import KafkaTimeoutError
from kafka.structs import TopicPartition

from ingest.connection import IngestError, connect
from service.broker import JavaMissing
from service.broker_artifacts import ArtifactError
from service.security import access_to
from service.settings import KafkaSettings
from service.topics import TopicSpec, ensure_topics
from tests.deploy.composed import services
from tests.kafka.expected import expected_windows
from tests.kafka.outside_client import producer, read_topic, send
from tests.kafka.secured import CLIENT_SECRET, SECRETS, Right, Secured, documented, running
from tests.kafka.secured_broker import PASSWORDS
from tests.kafka.worker_process import WorkerProcess, clean_environment, running_worker
from tests.windowing.reference import Reading

TOPICS = ("accelerometer", "activities", "accelerometer.dead-letters")
EXACTLY_ONCE = documented("worker")
TRANSACTIONAL = [right for right in EXACTLY_ONCE if right.resource == "transactional_id"]
GROUP = str(services()["activity-worker"]["environment"]["STRIDECAST_KAFKA__GROUP_ID"])
"""As deployed, where it is not the default."""
START_MS = 1_700_000_000_000
REFUSED_WITHIN_S = 30
"""A command's imports on a busy machine, and the ten seconds that it may try for."""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
    try:
        with running(tmp_path_factory.mktemp("secured")) as found:
            done = command("topics", found.settings("operator"), "--partitions", "2")
            assert done.returncode == 0, done.stderr
            assert all(f"{topic}: created with" in done.stdout for topic in TOPICS)
            yield found
    except (ArtifactError, JavaMissing) as error:
        if os.environ.get("REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(f"no Kafka to test against: {error}")


def flags(settings: KafkaSettings) -> list[str]:
    given = settings.model_dump(exclude_unset=True)
    return [word for name, value in given.items() for word in (f"--kafka.{name.replace('_', '-')}", str(value))]


def command(name: str, settings: KafkaSettings, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; whatever it says holds no secret."""
    words = [sys.executable, "-m", "service", *name.split(), *flags(settings), *more]
    variables = {**clean_environment(), **environment}
    done = subprocess.run(words, capture_output=True, text=True, env=variables, timeout=60)
    refuse_secrets(done.stdout + done.stderr)
    return done


def refuse_secrets(said: str) -> None:
    assert [secret for secret in SECRETS if secret in said] == []


def worker_flags(settings: KafkaSettings, delivery: str) -> list[str]:
    return [*flags(settings), "--delivery", delivery, "--inference.device", "cpu", "--inference.engine", "winograd"]


def walk(device: str, seconds: int) -> list[Reading]:
    return [Reading(device.encode(), START_MS + 50 * slot, 0.1, 9.8, float(slot % 7)) for slot in range(20 * seconds)]


def chunk(readings: list[Reading]) -> tuple[bytes, bytes, list[Any]]:
    samples = [[reading.x, reading.y, reading.z] for reading in readings]
    head = {"device_id": readings[0].device_id.decode(), "start": readings[0].timestamp_ms, "rate_hz": 20}
    return readings[0].device_id, json.dumps(head | {"samples": samples}).encode(), []


def labels_of(secured: Secured, device: str, count: int) -> list[int]:
    """Wait for so many labels of a device; return the starts of their windows."""

    def ours(messages: list[Any]) -> list[int]:
        return [json.loads(each.value())["window_start"] for each in messages if each.key() == device.encode()]

    servers = secured.broker.bootstrap_servers
    return ours(read_topic(servers, "activities", until=lambda seen: len(ours(seen)) >= count))


def letters_with(secured: Secured, topic: str, value: bytes) -> list[bytes]:
    """Wait for a dead letter; return all of the topic."""
    servers = secured.broker.bootstrap_servers
    found = read_topic(servers, topic, until=lambda seen: any(each.value() == value for each in seen))
    return [each.value() or b"" for each in found]


@pytest.mark.parametrize(("delivery", "group"), [("at_least_once", "stridecast"), ("exactly_once", GROUP)])
def test_a_worker_does_all_its_work_with_the_documented_rights(
    secured: Secured, delivery: str, group: str, tmp_path: Path
) -> None:
    """Reads, labels, rejects and commits; and, started again, reads back what it said and goes on."""
    if delivery == "at_least_once":
        for right in TRANSACTIONAL:
            secured.take(right)
    first, second = walk(f"first-{delivery}", 24), walk(f"second-{delivery}", 24)
    outside = producer(secured.broker.bootstrap_servers)
    words = worker_flags(secured.settings(group_id=group), delivery)
    try:
        for number, readings in enumerate((first, second), 1):
            with running_worker(tmp_path / "log", *words) as worker:
                bad = f"no reading, {delivery}, {number}".encode()
                send(outside, "accelerometer", [chunk(readings), (b"bad", bad, [])], partition=0)
                windows = {window.start_ms for window in expected_windows([readings]) if window.closed_by == "time"}
                assert set(labels_of(secured, readings[0].device_id.decode(), len(windows))) == windows
                assert bad in letters_with(secured, "accelerometer.dead-letters", bad)
                worker.wait_for("stridecast_commits_total", 1, outcome="success")
                pages = [worker.get(path)[1] for path in ("/", "/metrics", "/livez", "/readyz")]
                assert worker.terminate() == 0
            refuse_secrets(worker.said() + "".join(pages))
            assert " ERROR " not in worker.said()
    finally:
        if delivery == "at_least_once":
            secured.give(TRANSACTIONAL)


@pytest.mark.parametrize("right", EXACTLY_ONCE, ids=str)
def test_a_worker_that_lacks_a_right_ends_and_names_it(secured: Secured, right: Right, tmp_path: Path) -> None:
    with secured.without(right):
        worker = WorkerProcess(tmp_path / "log", *worker_flags(secured.settings(), "exactly_once"))
        try:
            assert worker.process.wait(60) == 1
        finally:
            worker.kill()
    last = worker.said().splitlines()[-1]
    kind = {"topic": f"topic {right.name}", "group": "consumer group", "transactional_id": "transactional id"}
    assert f"ACL {right.operation.upper()} on" in last.replace("ACLs", "ACL")
    assert kind[right.resource] in last
    assert right.name in last
    refuse_secrets(worker.said())


def test_there_is_nothing_else_that_a_user_may_do(secured: Secured) -> None:
    """The rights that the others were given don't let one in by another's door."""
    done = command("topics", secured.settings("sender"))
    assert done.returncode == 1
    assert "topic 'activities'" in done.stderr
    assert "ACL DESCRIBE" in done.stderr
    labels = connect(kafka.KafkaConsumer, access_to(secured.settings("sender")), group_id=None)
    try:
        assert labels.topics() == {"accelerometer", "texts"}
    finally:
        labels.close()


def test_a_worker_is_let_in_by_its_certificate(secured: Secured, tmp_path: Path) -> None:
    readings = walk("by-certificate", 12)
    with running_worker(tmp_path / "log", *worker_flags(secured.mutual(), "at_least_once")) as worker:
        send(producer(secured.broker.bootstrap_servers), "accelerometer", [chunk(readings)], partition=1)
        windows = [window for window in expected_windows([readings]) if window.closed_by == "time"]
        assert len(labels_of(secured, "by-certificate", len(windows))) == len(windows)
        assert worker.terminate() == 0
    refuse_secrets(worker.said())


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_readings_are_sent_with_each_mechanism_that_has_a_password(secured: Secured, mechanism: str) -> None:
    settings = secured.settings("sender", mechanism)
    if mechanism == "SCRAM-SHA-256":
        clear: dict[str, Any] = {"security_protocol": "SASL_PLAINTEXT", "ssl_ca_file": None}
        settings = secured.settings("sender", mechanism, bootstrap_servers=secured.broker.clear, **clear)
    done = command("replay", settings, "--devices", "2", "--seconds", "2", "--speed", "0")
    assert done.returncode == 0, done.stderr
    assert "sent 80 messages" in done.stderr


def test_a_client_with_a_token_outlives_it(secured: Secured) -> None:
    """The broker would end its connection with the token, 5 s after it was made."""
    secured.tokens.life_s, before = 5.0, len(secured.tokens.asked)
    access = access_to(secured.token())
    consumer = connect(kafka.KafkaConsumer, access, group_id=None, auto_offset_reset="earliest")
    source = TopicPartition("accelerometer", 0)
    try:
        consumer.assign([source])
        end = consumer.end_offsets([source])[source]
        until = time.monotonic() + 12
        while time.monotonic() < until:
            consumer.poll(timeout_ms=200)
        assert consumer.end_offsets([source])[source] >= end
    finally:
        consumer.close()
        secured.tokens.life_s = 300.0
    asked = secured.tokens.asked[before:]
    assert len(asked) >= 3
    assert set(asked) == {"grant_type=client_credentials&scope=streams"}


def test_a_replaced_password_is_taken_for_the_next_connection(secured: Secured) -> None:
    file = secured.password_file("changing", "the first")
    secured.set_password("changing", "the first")
    access = access_to(secured.settings("changing", sasl_password_file=file))
    connect(kafka.KafkaConsumer, access, group_id=None).close()
    secured.set_password("changing", "the second")
    with pytest.raises(IngestError, match=r"refuses the user or the password"):
        connect(kafka.KafkaConsumer, access, group_id=None)
    file.write_text("the second\n")
    connect(kafka.KafkaConsumer, access, group_id=None).close()


def test_a_client_that_runs_tries_on_until_its_password_is_right_again(secured: Secured) -> None:
    """At its start a wrong password ends it; later, somebody may have changed the broker's before the file's."""
    file = secured.password_file("turning", "the first")
    secured.set_password("turning", "the first")
    secured.give([Right("User:turning", "Read", "topic", "accelerometer")])
    consumer = connect(
        kafka.KafkaConsumer, access_to(secured.settings("turning", sasl_password_file=file)), group_id=None
    )
    source = TopicPartition("accelerometer", 0)
    try:
        consumer.assign([source])
        consumer.seek_to_beginning()
        secured.set_password("turning", "the second")
        for connection in list(consumer._manager._conns.values()):
            consumer._manager.call_soon(connection.close)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            consumer.poll(timeout_ms=100)
        with pytest.raises(KafkaTimeoutError):
            consumer.end_offsets([source], timeout_ms=500)
        file.write_text("the second")
        assert source in consumer.end_offsets([source], timeout_ms=20_000)
    finally:
        consumer.close()


def test_large_fetches_come_through_tls_as_they_were_sent(secured: Secured) -> None:
    """Records of TLS hold 16 KiB, and what is left of one in OpenSSL's hands no selector sees."""
    servers, topic = secured.broker.bootstrap_servers, "large"
    ensure_topics(servers, [TopicSpec(topic, 1, {"max.message.bytes": str(4 << 20)})])
    sizes = [1, 16_383, 16_384, 16_385, 300_000, 3_000_000] * 6
    values = [os.urandom(size) for size in sizes]
    outside = producer(servers, **{"message.max.bytes": 4 << 20})
    send(outside, topic, [(b"key", value, []) for value in values])
    secured.give([Right("User:worker", "Read", "topic", topic)])
    consumer = connect(kafka.KafkaConsumer, access_to(secured.settings()), group_id=None, fetch_max_bytes=50 << 20)
    try:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek_to_beginning()
        found: list[bytes] = []
        until = time.monotonic() + 30
        while len(found) < len(values) and time.monotonic() < until:
            found += [each.value for records in consumer.poll(timeout_ms=500).values() for each in records]
        (connection, *_) = consumer._manager._conns.values()
        assert type(connection.transport).__name__ == "_SSL"  # that which fills frames in place
    finally:
        consumer.close()
    assert [(len(value), zlib.crc32(value)) for value in found] == [(len(value), zlib.crc32(value)) for value in values]


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong password": ({"sasl_password_file": "wrong"}, "refuses the user or the password, with SCRAM-SHA-512"),
    "wrong password, PLAIN": (
        {"sasl_password_file": "wrong", "sasl_mechanism": "PLAIN"},
        "refuses the user or the password, with PLAIN",
    ),
    "unknown authority": ({"ssl_ca_file": "stranger"}, "certificate is not to be trusted"),
    "authorities of the system": ({"ssl_ca_file": None}, "certificate is not to be trusted"),
    "another name": ({"bootstrap_servers": "by number"}, "certificate is for another name"),
    "a mechanism that is off": ({"sasl_mechanism": "SCRAM-SHA-256"}, "this port takes no SCRAM-SHA-256"),
    "no TLS to a port of TLS": (
        {"security_protocol": "SASL_PLAINTEXT", "ssl_ca_file": None},
        "is kafka.security_protocol (SASL_PLAINTEXT) what this port wants?",
    ),
    "TLS to a port without": ({"bootstrap_servers": "clear"}, "is kafka.security_protocol (SASL_SSL) what this port"),
    "SASL to a port without": (
        {"bootstrap_servers": "open", "security_protocol": "SASL_PLAINTEXT", "ssl_ca_file": None},
        "this port takes no SASL",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_client_that_is_not_let_in_says_why_and_no_secret(secured: Secured, case: str) -> None:
    changes, says = REFUSALS[case]
    places: dict[Any, Any] = {
        "wrong": secured.password_file("nobody", PASSWORDS["operator"]),
        "stranger": secured.stranger.certificate,
        "by number": secured.broker.secure.replace("localhost", "127.0.0.1"),
        "clear": secured.broker.clear,
        "open": secured.broker.bootstrap_servers,
    }
    settings = secured.settings(**{name: places.get(value, value) for name, value in changes.items()})
    began = time.monotonic()
    done = command("topics", settings)
    assert done.returncode == 1
    assert says in done.stderr
    assert settings.bootstrap_servers in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < REFUSED_WITHIN_S


@pytest.mark.parametrize("certificate", ["none", "a stranger's"])
def test_a_client_without_the_right_certificate_says_so(secured: Secured, certificate: str) -> None:
    none: dict[str, Any] = dict.fromkeys(("ssl_certificate_file", "ssl_key_file", "ssl_key_password_file"))
    other = secured.stranger.sign("worker")
    own = {**none, "ssl_certificate_file": other.certificate, "ssl_key_file": other.key}
    settings = secured.mutual(**(none if certificate == "none" else own))
    with pytest.raises(IngestError, match=r"the broker refuses this client's certificate .*ssl_certificate_file"):
        connect(kafka.KafkaConsumer, access_to(settings), group_id=None)


def test_a_name_that_is_not_looked_at_may_be_another(secured: Secured) -> None:
    by_number = secured.broker.secure.replace("localhost", "127.0.0.1")
    settings = secured.settings(bootstrap_servers=by_number, ssl_check_hostname=False)
    connect(kafka.KafkaConsumer, access_to(settings), group_id=None).close()


def test_a_worker_with_a_wrong_password_ends_and_shows_it_nowhere(secured: Secured, tmp_path: Path) -> None:
    settings = secured.settings(sasl_password_file=secured.password_file("nobody", PASSWORDS["operator"]))
    worker = WorkerProcess(tmp_path / "log", *worker_flags(settings, "exactly_once"), "--log-format", "json")
    try:
        assert worker.process.wait(60) == 1
    finally:
        worker.kill()
    assert "refuses the user or the password, with SCRAM-SHA-512" in worker.said().splitlines()[-1]
    refuse_secrets(worker.said())


def test_a_token_that_cannot_be_had_is_told_with_the_endpoints_reason(secured: Secured, tmp_path: Path) -> None:
    wrong = tmp_path / "secret"
    wrong.write_text(PASSWORDS["sender"])
    with pytest.raises(IngestError, match=r"no token from http://127\.0\.0\.1:\d+/token: HTTP 401, invalid_client"):
        connect(kafka.KafkaConsumer, access_to(secured.token(sasl_password_file=wrong)), group_id=None)


def test_help_shows_no_secret(secured: Secured) -> None:
    variables = {"STRIDECAST_KAFKA__SASL_PASSWORD": CLIENT_SECRET, "STRIDECAST_KAFKA__SSL_KEY_PASSWORD": SECRETS[0]}
    done = command("worker activity", KafkaSettings(), "--help", **variables)
    assert done.returncode == 0
    assert "--kafka.sasl-password-file" in done.stdout
