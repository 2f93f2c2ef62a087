"""TLS, SASL and ACLs on Apache Kafka itself, with the users and the rights of docs/security.md and no others."""

import json
import os
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import confluent_kafka
import kafka
import pytest
from kafka.errors import KafkaTimeoutError
from kafka.structs import TopicPartition

from ingest.client.connection import connect
from ingest.client.errors import IngestError
from service.broker.artifacts import ArtifactError
from service.broker.errors import JavaMissing
from service.configuration.security import access_to
from service.configuration.settings import ActivitySettings, KafkaSettings, KindSettings, TextSettings
from service.kafka_admin.topics import TopicError, TopicSpec, ensure_topics
from service.kind import WorkerError
from service.pipeline.clients import Clients
from tests.deploy.composed import services
from tests.kafka.expected import expected_windows
from tests.kafka.outside_client import producer, read_topic, send
from tests.kafka.secured import CLIENT_SECRET, SECRETS, Right, Secured, documented, running, topics_of
from tests.kafka.secured_broker import PASSWORDS
from tests.kafka.stage import Message, chunk
from tests.kafka.worker_process import WorkerProcess, clean_environment, running_worker
from tests.other_kafka import is_before
from tests.windowing.reference import Reading

KINDS: dict[str, KindSettings] = {"activity": ActivitySettings(), "text": TextSettings()}
TOPICS = [topic for kind in KINDS.values() for topic in topics_of(kind)]
IDENTITY = {"activity": "window_start", "text": "id"}
GROUPS = {kind: services()[f"{kind}-worker"]["environment"]["STRIDECAST_KAFKA__GROUP_ID"] for kind in KINDS}
"""As deployed, which is not the default."""
WORKERS = documented("worker")
OF_TOPICS = [right for right in WORKERS if right.resource == "topic"]
(OF_GROUPS,) = [right for right in WORKERS if right.resource == "group"]
(OF_TRANSACTIONS,) = [right for right in WORKERS if right.resource == "transactional_id"]
START_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if is_before(3, 5):
        pytest.skip("its broker keeps the users of SCRAM in KRaft (KIP-900): choose TEST_KAFKA from 3.5 on")
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


def some(kind: str, name: str) -> tuple[list[Message], set[Any]]:
    """Messages of a kind, whose keys begin with a name, and what their labels will be of."""
    if kind == "text":
        ids = [f"{name}-{number}" for number in range(3)]
        texts = [json.dumps({"id": each, "text": "a very good film"}).encode() for each in ids]
        return [(each.encode(), text, []) for each, text in zip(ids, texts, strict=True)], set(ids)
    readings = walk(name, 24)
    windows = {window.start_ms for window in expected_windows([readings]) if window.closed_by == "time"}
    return [chunk(readings)], windows


def labels_of(secured: Secured, kind: str, name: str, count: int) -> list[Any]:
    """Wait for so many labels whose keys begin with a name; return what they are of."""

    def ours(messages: list[Any]) -> list[Any]:
        return [json.loads(each.value())[IDENTITY[kind]] for each in messages if each.key().startswith(name.encode())]

    servers, topic = secured.broker.bootstrap_servers, KINDS[kind].output_topic
    return ours(read_topic(servers, topic, until=lambda seen: len(ours(seen)) >= count))


def letters_with(secured: Secured, kind: str, value: bytes) -> list[bytes]:
    """Wait for a dead letter; return all that are there."""
    servers, topic = secured.broker.bootstrap_servers, KINDS[kind].dead_letter_topic
    found = read_topic(servers, topic, until=lambda seen: any(each.value() == value for each in seen))
    return [each.value() or b"" for each in found]


def work(
    secured: Secured, kind: str, words: list[str], log: Path, *, before_sending: Callable[[], None] = lambda: None
) -> None:
    """Let a worker read, label, reject and commit; and, started again, read back what it said and go on."""
    outside = producer(secured.broker.bootstrap_servers)
    for number in (1, 2):
        name = f"{log.parent.name}-{number}"
        messages, wanted = some(kind, name)
        bad = f"what nobody can read, {name}".encode()
        with running_worker(log, *words, kind=kind) as worker:
            before_sending()
            send(outside, KINDS[kind].input_topic, [*messages, (b"bad", bad, [])], partition=0)
            assert set(labels_of(secured, kind, name, len(wanted))) == wanted
            assert bad in letters_with(secured, kind, bad)
            worker.wait_for("stridecast_commits_total", 1, outcome="success")
            pages = [worker.get(path)[1] for path in ("/", "/metrics", "/livez", "/readyz")]
            assert worker.terminate() == 0
        refuse_secrets(worker.said() + "".join(pages))
        assert " ERROR " not in worker.said()


def of_kind(kind: str) -> list[Right]:
    """What is documented for the worker's topics and group."""
    return [*(right for right in OF_TOPICS if right.name in topics_of(KINDS[kind])), OF_GROUPS]


def test_a_worker_does_all_its_work_with_a_certificate_and_the_documented_rights(
    secured: Secured, tmp_path: Path
) -> None:
    with secured.having_only(of_kind("activity")):
        work(secured, "activity", worker_flags(secured.mutual(), "at_least_once"), tmp_path / "log")


def test_a_worker_does_all_its_work_exactly_once_with_the_documented_rights_and_outlives_its_tokens(
    secured: Secured, tmp_path: Path
) -> None:
    """The broker would end its connections with the token, 8 s after it was made."""
    secured.tokens.life_s, before = 8.0, len(secured.tokens.asked)
    words = worker_flags(secured.token(group_id=GROUPS["activity"]), "exactly_once")

    def outlive() -> None:
        asked = len(secured.tokens.asked)
        time.sleep(secured.tokens.life_s + 1)
        assert len(secured.tokens.asked) > asked

    try:
        with secured.having_only([*of_kind("activity"), OF_TRANSACTIONS]):
            work(secured, "activity", words, tmp_path / "log", before_sending=outlive)
    finally:
        secured.tokens.life_s = 300.0
    assert set(secured.tokens.asked[before:]) == {"grant_type=client_credentials&scope=streams"}


def test_a_text_worker_does_all_its_work_exactly_once_with_the_rights_of_a_user_for_one_kind(
    secured: Secured, tmp_path: Path
) -> None:
    """Of its group and of transactions, it has what is documented for such a user: no more than its own."""
    group = GROUPS["text"]
    own = [
        replace(OF_GROUPS, name=group, prefixed=False),
        replace(OF_TRANSACTIONS, name=f"{group}-"),
        *(right for right in of_kind("text") if right.resource == "topic"),
    ]
    with secured.having_only(own):
        work(secured, "text", worker_flags(secured.settings(group_id=group), "exactly_once"), tmp_path / "log")


@pytest.fixture(scope="module")
def consumer(secured: Secured) -> Iterator[kafka.KafkaConsumer]:
    consumer = connect(kafka.KafkaConsumer, access_to(secured.settings()), group_id=None)
    yield consumer
    consumer.close()


@pytest.mark.parametrize("right", OF_TOPICS, ids=str)
def test_a_right_to_a_topic_that_is_missing_is_named_when_a_worker_asks_at_its_start(
    secured: Secured, consumer: kafka.KafkaConsumer, right: Right
) -> None:
    (kind,) = [name for name, settings in KINDS.items() if right.name in topics_of(settings)]
    clients = Clients(kind, secured.settings())

    def told() -> str:
        try:
            clients.refuse_missing_topics(consumer, topics_of(KINDS[kind]))
        except WorkerError as error:
            return str(error)
        return "all is there"

    assert wait_until(told, lambda said: said == "all is there") == "all is there"
    with secured.without(right):
        alone = f"it lacks the ACLs {right.operation.upper()} on topic {right.name}"
        assert wait_until(told, lambda said: said != "all is there").endswith(alone)


def wait_until(ask: Callable[[], str], answered: Callable[[str], bool]) -> str:
    """Ask until the broker has heard of a change of its ACLs; return the last answer."""
    deadline = time.monotonic() + 10
    while not answered(said := ask()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return said


@pytest.mark.parametrize(
    ("right", "named"),
    [
        (Right("User:worker", "Write", "topic", "activities"), "topic activities"),
        (OF_GROUPS, "consumer group"),
        (OF_TRANSACTIONS, "transactional id"),
    ],
    ids=str,
)
def test_a_worker_that_lacks_a_right_ends_and_names_it(
    secured: Secured, right: Right, named: str, tmp_path: Path
) -> None:
    with secured.without(right):
        worker = WorkerProcess(tmp_path / "log", *worker_flags(secured.settings(), "exactly_once"))
        try:
            assert worker.process.wait(60) == 1
        finally:
            worker.kill()
    last = worker.said().splitlines()[-1]
    assert f"ACL {right.operation.upper()} on" in last.replace("ACLs", "ACL")
    assert named in last
    assert right.name in last
    refuse_secrets(worker.said())


def test_the_doctor_sees_all_with_the_documented_rights(secured: Secured) -> None:
    done = command("doctor", secured.settings("operator"), "--kafka.group-id", "stridecast-unused")
    assert done.stderr == ""
    assert not any(lacks in done.stdout for lacks in ("ACL", "can't look", "missing")), done.stdout
    used = done.stdout.count("no worker of group stridecast-unused reads ")
    assert used == done.stdout.count("nothing has been committed")
    assert (
        used + done.stdout.count("group stridecast-unused has committed nothing") == 2
    )  # which are those without records


def test_dead_letters_are_shown_with_the_documented_rights(secured: Secured) -> None:
    done = command("dead-letters", secured.settings("operator"))
    assert (done.returncode, done.stderr) == (0, "")
    for topic in (kind.dead_letter_topic for kind in KINDS.values()):
        assert re.search(rf"{topic}: \d+ dead letters?\n", done.stdout)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_backfill_needs_what_a_worker_does(secured: Secured, delivery: str) -> None:
    words = ["--texts", "--kafka.group-id", f"stridecast-{delivery}", "--delivery", delivery]
    for name in (f"backfilled-{delivery}", f"again-{delivery}"):  # in a group that is still there
        messages, wanted = some("text", name)
        send(producer(secured.broker.bootstrap_servers), KINDS["text"].input_topic, messages, partition=0)
        done = command("backfill", secured.settings(), *words, "--inference.device", "cpu")
        assert done.returncode == 0, done.stderr
        assert set(labels_of(secured, "text", name, len(wanted))) == wanted
        assert f"group stridecast-{delivery}-backfill-text-labels-" in done.stderr  # which it may not delete
        assert "GroupAuthorizationFailedError" in done.stderr


def test_what_the_doctor_may_not_see_it_says_and_goes_on(secured: Secured) -> None:
    (of_groups,) = [right for right in documented("operator") if right.resource == "group"]
    with secured.without(of_groups):
        done = command("doctor", secured.settings("operator"))
    assert done.returncode == 1
    assert done.stdout.count("this user may not see group stridecast: the ACL DESCRIBE on it is missing\n") == 2
    looked_at = done.stdout.partition("text: ")[2]
    assert re.search(
        r"the latest (record|[0-9]+ records) \(partitions? [01]|texts holds no records", looked_at
    )  # whoever came first


def test_a_topic_whose_settings_may_not_be_seen_is_told_of_and_its_records_are_looked_at(secured: Secured) -> None:
    of_settings = [right for right in documented("operator") if right.operation == "DescribeConfigs"]
    secured.take(of_settings)
    try:
        done = command("doctor", secured.settings("operator"), "--kafka.group-id", "stridecast-unused")
        topics = command("topics", secured.settings("operator"))
    finally:
        secured.give(of_settings)
    lacks = "its settings can't be looked at: the ACL DESCRIBE_CONFIGS is missing"
    said = f"accelerometer: exists with 2 partitions; but {lacks}"
    assert f"  wrong  {said}" in done.stdout
    group = "no worker of group stridecast-unused reads accelerometer now", "no activity worker has run yet"
    assert any(says in done.stdout for says in group)  # whether other tests have sent something or not
    assert (done.stderr, topics.returncode, topics.stderr) == ("", 0, "")
    assert said in topics.stdout


def test_the_doctor_goes_on_where_the_other_kinds_topics_are_not_for_its_user(secured: Secured) -> None:
    """Kafka doesn't tell such a user whether they are there at all."""
    of_texts = [right for right in documented("operator") if right.name.startswith("text")]
    secured.take(of_texts)
    try:
        done = command("doctor", secured.settings("operator"), "--kafka.group-id", "stridecast-unused")
    finally:
        secured.give(of_texts)
    group = "no worker of group stridecast-unused reads accelerometer now", "no activity worker has run yet"
    assert any(says in done.stdout for says in group)  # whether other tests have sent something or not
    assert "  note   the broker says nothing about topic 'texts': " in done.stdout
    assert "(the ACL DESCRIBE is missing)" in done.stdout


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


def test_labels_of_both_kinds_are_read_with_the_documented_rights(secured: Secured) -> None:
    """By another client library: kafka-python forgets a join (`ingest.consumer.rejoining`), and reads nothing."""
    outside, key = producer(secured.broker.bootstrap_servers), b"to be read"
    topics = [kind.output_topic for kind in KINDS.values()]
    for topic in topics:
        send(outside, topic, [(key, b"{}", [])])
    (group,) = [right.name for right in documented("reader") if right.resource == "group"]
    reader = confluent_kafka.Consumer(
        {
            "bootstrap.servers": secured.broker.secure,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(secured.authority.certificate),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "reader",
            "sasl.password": PASSWORDS["reader"],
            "group.id": group,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        reader.subscribe(topics)
        found: set[str | None] = set()
        until = time.monotonic() + 30
        while found != set(topics) and time.monotonic() < until:
            for record in reader.consume(1000, timeout=0.2):
                assert record.error() is None, record.error()
                if record.key() == key:
                    found.add(record.topic())
        assert found == set(topics)
        reader.commit(asynchronous=False)
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("mechanism", "protocol", "sends"),
    [
        ("PLAIN", "SASL_SSL", "readings"),
        ("SCRAM-SHA-256", "SASL_SSL", "texts"),
        ("SCRAM-SHA-512", "SASL_PLAINTEXT", "readings"),
    ],
)
def test_what_is_sent_is_taken_with_each_mechanism_that_has_a_password(
    secured: Secured, mechanism: str, protocol: str, sends: str, tmp_path: Path
) -> None:
    """SCRAM-SHA-512 with TLS is the others'."""
    clear: dict[str, Any] = {"bootstrap_servers": secured.broker.clear, "ssl_ca_file": None}
    settings = secured.settings(
        "sender", mechanism, security_protocol=protocol, **(clear if protocol == "SASL_PLAINTEXT" else {})
    )
    (tmp_path / "texts.txt").write_text("a very good film\nthe plot is dull\n")
    texts = ["--texts", str(tmp_path / "texts.txt"), "--rate", "0"]
    readings = ["--devices", "2", "--seconds", "2", "--speed", "0"]
    done = command("replay", settings, *(texts if sends == "texts" else readings))
    assert done.returncode == 0, done.stderr
    assert f"sent {2 if sends == 'texts' else 80} messages" in done.stderr


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
    "a mechanism that is off": (
        {
            "bootstrap_servers": "clear",
            "security_protocol": "SASL_PLAINTEXT",
            "ssl_ca_file": None,
            "sasl_mechanism": "PLAIN",
        },
        "this port takes no PLAIN",
    ),
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


@pytest.fixture(scope="module")
def refusals(secured: Secured) -> dict[str, Future[str]]:
    """What `stridecast topics` would end with; all at once, for some might pass, and are tried for ten seconds."""
    places: dict[Any, Any] = {
        "wrong": secured.password_file("nobody", PASSWORDS["operator"]),
        "stranger": secured.stranger.certificate,
        "by number": secured.broker.secure.replace("localhost", "127.0.0.1"),
        "clear": secured.broker.clear,
        "open": secured.broker.bootstrap_servers,
    }
    asked = {
        case: secured.settings(**{name: places.get(value, value) for name, value in changes.items()})
        for case, (changes, _) in REFUSALS.items()
    }
    with ThreadPoolExecutor(len(REFUSALS)) as pool:
        return {case: pool.submit(refusal, settings) for case, settings in asked.items()}


def refusal(settings: KafkaSettings) -> str:
    with pytest.raises(TopicError) as caught:
        ensure_topics(access_to(settings), [])
    assert settings.bootstrap_servers in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("case", REFUSALS)
def test_a_client_that_is_not_let_in_says_why_and_no_secret(refusals: dict[str, Future[str]], case: str) -> None:
    said = refusals[case].result()
    assert REFUSALS[case][1] in said
    refuse_secrets(said)


def test_a_command_that_is_not_let_in_ends_with_the_reason(secured: Secured) -> None:
    wrong = secured.password_file("nobody", PASSWORDS["operator"])
    done = command("topics", secured.settings(sasl_password_file=wrong))
    assert done.returncode == 1
    assert "refuses the user or the password, with SCRAM-SHA-512" in done.stderr
    assert "Traceback" not in done.stderr


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
