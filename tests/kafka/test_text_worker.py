"""The text worker, alone and beside the activity worker, as a process on Apache Kafka itself, checked from outside."""

import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import kafka
import pytest
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError

from inference.bundle import Bundle
from ingest.contract import TextLabel
from service.broker.node import Broker
from service.kafka_admin.topics import admin_client
from tests.inference.bundles import WORDS, har_bundle, text_bundle
from tests.kafka.expected import PlainTextCnn, expected_windows
from tests.kafka.outside_client import Label, producer, read_labels, read_topic, send
from tests.kafka.stage import Message, interleave, sample, walk
from tests.kafka.worker_process import WorkerProcess, running_worker
from tests.windowing.reference import Reading

LABELS = ("objective", "subjective")
HTML = {"tokens": "words", "html": True, "length": 20, "keep": "first"}


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return text_bundle(tmp_path_factory.mktemp("bundles") / "tiny-text", labels=LABELS)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return text_bundle(tmp_path_factory.mktemp("bundles") / "tiny-html", labels=LABELS, rules=HTML)


@pytest.fixture(scope="module")
def walkers(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return har_bundle(tmp_path_factory.mktemp("bundles") / "tiny-har")


@dataclass(frozen=True)
class Topics:
    """One kind's topics, with a test's own names."""

    broker: Broker
    input: str
    output: str
    dead_letters: str

    def flags(self, kind: str, bundle: Bundle) -> list[str]:
        names = {"input": self.input, "output": self.output, "dead-letter": self.dead_letters}
        flags = {f"--{kind}.{which}-topic": name for which, name in names.items()}
        return list(itertools.chain(*flags.items(), [f"--{kind}.bundle", str(bundle.folder)]))

    def send(self, messages: Sequence[Message], partition: int = 0) -> None:
        send(producer(self.broker.bootstrap_servers), self.input, messages, partition=partition)

    def labels(self, count: int) -> list[Label]:
        return read_labels(self.broker.bootstrap_servers, self.output, count)


@pytest.fixture
def make_topics(broker: Broker, topic: Callable[..., str]) -> Callable[..., Topics]:
    def make(partitions: int = 1, output_partitions: int | None = None, output: dict[str, str] | None = None) -> Topics:
        # As `stridecast topics` makes them: a dead letter may be larger than its record.
        letters = topic(1, max_message_bytes=str(2 * 1024 * 1024))
        return Topics(broker, topic(partitions), topic(output_partitions or partitions, **output or {}), letters)

    return make


def common(topics: Topics) -> list[str]:
    servers, group = topics.broker.bootstrap_servers, f"group-{topics.input}"
    flags = ["--kafka.bootstrap-servers", servers, "--kafka.group-id", group, "--inference.device", "cpu"]
    flags += ["--inference.precision", "float32"]  # what labels are compared with; on some CPUs bfloat16 is faster
    return [*flags, "--delivery", os.environ.get("DELIVERY", "at_least_once")]


def as_message(text_id: str, text: str) -> Message:
    return text_id.encode(), json.dumps({"id": text_id, "text": text}).encode(), []


def some_texts(count: int, *, seed: int = 1, words: int = 30) -> list[str]:
    """Texts of known and unknown words, longer and shorter than a frame."""
    chosen = random.Random(seed)
    vocabulary = [*WORDS, "zebra", "quux", "nowhere"]
    return [" ".join(chosen.choices(vocabulary, k=chosen.randint(1, words))) for _ in range(count)]


def check_labels(labels: Sequence[Label], sent: dict[tuple[int, int], tuple[str, str]], bundle: Bundle) -> None:
    """Every text of (source partition, offset) once, none beside, with the label that a plain network gives it."""
    counted = Counter(source_of(label) for label in labels)
    assert set(counted) == set(sent)
    assert set(counted.values()) <= {1}
    found = [sent[source_of(label)] for label in labels]
    probabilities = PlainTextCnn(bundle.folder).probabilities([text for _, text in found])
    for label, (text_id, _), row in zip(labels, found, probabilities, strict=True):
        value = TextLabel.model_validate(label.value, strict=True)
        assert (label.key.decode(), value.id, value.model) == (text_id, text_id, bundle.title)
        assert label.headers["bundle-digest"].decode() == bundle.digest
        assert [value.probabilities[name] for name in LABELS] == pytest.approx(row.tolist(), abs=1e-3)
        assert value.confidence == max(value.probabilities.values())
        if abs(row[0] - row[1]) > 2e-3:
            assert value.label == LABELS[int(row.argmax())]


def source_of(label: Label) -> tuple[int, int]:
    return int(label.headers["source-partition"]), int(label.headers["source-offset"])


# --- The text worker ---------------------------------------------------------------------------------------------


def test_every_text_is_labelled_once_as_a_plain_network_would(
    make_topics: Callable[..., Topics], sentences: Bundle, tmp_path: Path
) -> None:
    topics = make_topics()
    texts = [(f"text-{number}", text) for number, text in enumerate(some_texts(1000))]
    with running_worker(tmp_path / "log", *common(topics), *topics.flags("text", sentences), kind="text") as worker:
        topics.send([as_message(*each) for each in texts])
        labels = topics.labels(len(texts))
        assert worker.metric("stridecast_records_total", worker="text", topic=topics.input) == 1000
        assert worker.metric("stridecast_predictions_total", worker="text") == 1000
        page = worker.get("/metrics")[1]
    check_labels(labels, {(0, offset): text for offset, text in enumerate(texts)}, sentences)
    assert [source_of(label)[1] for label in labels] == list(range(1000))
    assert "stridecast_samples_total" not in page
    assert "stridecast_windows_total" not in page
    assert "stridecast_active_devices" not in page


def test_two_texts_of_one_id_get_a_label_each(
    make_topics: Callable[..., Topics], sentences: Bundle, tmp_path: Path
) -> None:
    topics = make_topics()
    texts = [("same", "a very good film"), ("other", "the plot is dull"), ("same", "not a moving story")]
    with running_worker(tmp_path / "log", *common(topics), *topics.flags("text", sentences), kind="text"):
        topics.send([as_message(*each) for each in texts])
        check_labels(topics.labels(3), {(0, offset): text for offset, text in enumerate(texts)}, sentences)


def test_bad_texts_go_to_the_dead_letters_as_they_came_and_their_neighbours_are_labelled(
    make_topics: Callable[..., Topics], sentences: Bundle, tmp_path: Path
) -> None:
    topics = make_topics()
    over = json.dumps({"id": "over", "text": "x" * 65_537}).encode()
    bad: list[tuple[Message, bytes]] = [
        ((b"k1", b"not JSON", [("mine", b"kept")]), b"not_json"),
        ((None, None, []), b"null_value"),
        ((b"k2", b'{"id": "k2"}', []), b"missing_field"),
        ((b"k3", b'{"id": 3, "text": "good"}', []), b"wrong_type"),
        ((b"k4", b'{"id": "", "text": "good"}', []), b"bad_id"),
        ((b"k5", json.dumps({"id": "x" * 513, "text": "good"}).encode(), []), b"bad_id"),
        ((b"k6", b'{"id": "k6", "text": "\xff"}', []), b"not_json"),
        ((b"k7", b'{"id": "k7", "text": "good"}', [("content-type", b"text/plain")]), b"content_type"),
        ((b"k8", b"[" * 200_000, []), b"not_json"),
        ((b"over", over, []), b"too_large"),
        ((b"huge", json.dumps({"id": "huge", "text": "é" * 450_000}, ensure_ascii=False).encode(), []), b"too_large"),
        ((b"k9", b'{"device_id": "phone", "timestamp": 1, "x": 1, "y": 2, "z": 3}', []), b"missing_field"),
    ]
    messages: list[Message] = []
    good: dict[tuple[int, int], tuple[str, str]] = {}
    for number, text in enumerate(some_texts(len(bad) + 1)):
        good[0, len(messages)] = (f"text-{number}", text)
        messages.append(as_message(f"text-{number}", text))
        messages += [message for message, _ in bad[number : number + 1]]
    with running_worker(tmp_path / "log", *common(topics), *topics.flags("text", sentences), kind="text") as worker:
        topics.send(messages)
        check_labels(topics.labels(len(good)), good, sentences)
        letters = read_topic(
            topics.broker.bootstrap_servers, topics.dead_letters, until=lambda seen: len(seen) >= len(bad)
        )
        for _, reason in bad:
            assert worker.metric("stridecast_records_rejected_total", worker="text", reason=reason.decode()) >= 1
        assert worker.metric("stridecast_records_rejected_total") == len(bad)
        assert worker.terminate() == 0
    for letter, offset, (message, reason) in zip(letters, range(1, 2 * len(bad), 2), bad, strict=True):
        key, value, headers = message
        assert (letter.key(), letter.value()) == (key, value)
        told = letter.headers()
        assert isinstance(told, list)
        assert told[: len(headers)] == headers
        assert dict(told)["error-reason"] == reason
        assert (dict(told)["source-topic"], dict(told)["source-partition"]) == (topics.input.encode(), b"0")
        assert dict(told)["source-offset"] == str(offset).encode()


def hostile() -> list[bytes]:
    """Texts that have hurt parsers, tokenisers or terminals, as JSON strings."""
    plain = [
        "",
        " \t\r\n",
        "zebra quux",  # no word of it is known
        "é" * 32_768,  # 65,536 bytes
        "\0\0\0",
        "\u202eevil\u202c שלום مرحبا \u200f",
        "\ufeff\u2028\u2029\x85",
        "a\u0301" * 10_000,
        "👩‍👩‍👧‍👦" * 100,
        "<div>" * 13_000,
        "<b>" * 6_000 + "good" + "</b>" * 6_000,
        "<a href=" * 8_000,
        "<table><td>" * 5_000,
        "&amp;" * 13_000,
        "&" * 65_536,
        "<!--" * 16_000,
        "<script>" + "good " * 10_000,
        "'" * 65_536,
        "n't" * 20_000,
        "x" * 65_536,
        '"\\' * 32_000,
    ]
    return [*(json.dumps(text).encode() for text in plain), rb'"\ud800 half a pair \udfff\ud800"']


@pytest.mark.parametrize("which", ["sentences", "pages"])
def test_hostile_texts_are_labelled_once_each_and_harm_no_neighbour(
    which: str, make_topics: Callable[..., Topics], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bundle: Bundle = request.getfixturevalue(which)
    topics = make_topics()
    texts = hostile()
    messages: list[Message] = []
    for number, text in enumerate(texts):
        messages.append((b"h", b'{"id": "hostile-%d", "text": %s}' % (number, text), []))
        messages.append(as_message(f"good-{number}", "the film is good"))
    with running_worker(tmp_path / "log", *common(topics), *topics.flags("text", bundle), kind="text") as worker:
        topics.send(messages)
        labels = topics.labels(len(messages))
        assert worker.metric("stridecast_records_rejected_total") == 0
        assert worker.terminate() == 0, worker.said()
    assert sorted(source_of(label) for label in labels) == [(0, offset) for offset in range(len(messages))]
    neighbours = [label for label in labels if label.key.startswith(b"good")]
    check_labels(
        neighbours, {source_of(label): (label.key.decode(), "the film is good") for label in neighbours}, bundle
    )


def test_texts_of_a_topic_made_anew_are_labelled_though_labels_name_their_offsets(
    make_topics: Callable[..., Topics], sentences: Bundle, tmp_path: Path
) -> None:
    """They were taken for the deleted topic's texts, whose labels are still there: none was labelled, without a word.

    Kafka forgets a group's positions with the topic, so that the worker reads labels back from their first.
    """
    topics = make_topics()
    flags = [*common(topics), *topics.flags("text", sentences)]
    old = [(f"old-{number}", text) for number, text in enumerate(some_texts(5))]
    new = [(f"new-{number}", text) for number, text in enumerate(some_texts(5, seed=2))]
    with running_worker(tmp_path / "old.log", *flags, kind="text") as worker:
        topics.send([as_message(*each) for each in old])
        topics.labels(5)
        assert worker.terminate() == 0
    with admin_client(topics.broker.bootstrap_servers) as admin:
        admin.delete_topics([topics.input])
        make_again(admin, topics.input)
    with running_worker(tmp_path / "new.log", *flags, kind="text"):
        topics.send([as_message(*each) for each in new])
        labels = topics.labels(10)
    check_labels(labels[5:], {(0, offset): text for offset, text in enumerate(new)}, sentences)


def make_again(admin: kafka.KafkaAdminClient, name: str) -> None:
    """Make a topic, as soon as the one that had its name is gone."""
    deadline = time.monotonic() + 20
    while True:
        try:
            admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


def test_labels_of_texts_go_to_the_partition_of_their_input_modulo_the_outputs(
    make_topics: Callable[..., Topics], sentences: Bundle, tmp_path: Path
) -> None:
    topics = make_topics(3, 2)
    with running_worker(tmp_path / "log", *common(topics), *topics.flags("text", sentences), kind="text"):
        sent: dict[tuple[int, int], tuple[str, str]] = {}
        for partition in range(3):
            texts = [(f"text-{partition}-{number}", text) for number, text in enumerate(some_texts(5, seed=partition))]
            topics.send([as_message(*each) for each in texts], partition)
            sent |= {(partition, offset): text for offset, text in enumerate(texts)}
        labels = topics.labels(15)
    check_labels(labels, sent, sentences)
    assert all(label.partition == source_of(label)[0] % 2 for label in labels)


def test_a_text_worker_stopped_mid_stream_and_started_again_loses_no_text_and_labels_none_twice(
    make_topics: Callable[..., Topics], sentences: Bundle, tmp_path: Path
) -> None:
    topics = make_topics(2)
    texts = [(f"text-{number}", text) for number, text in enumerate(some_texts(9000))]
    flags = [*common(topics), *topics.flags("text", sentences)]

    def send_third(number: int) -> None:
        for partition in range(2):
            part = texts[partition::2]
            topics.send([as_message(*each) for each in part[number * 1500 : (number + 1) * 1500]], partition)

    for number in range(2):
        worker = WorkerProcess(tmp_path / "log", *flags, kind="text")
        worker.wait_until_ready()
        send_third(number)
        worker.wait_for("stridecast_predictions_total", 1)
        assert worker.terminate() == 0, worker.said()
    with running_worker(tmp_path / "log", *flags, kind="text") as worker:
        send_third(2)
        check_labels(topics.labels(len(texts)), in_turns(texts, 2), sentences)
        assert worker.metric("stridecast_recovered_records_total") == 0


def test_a_bundle_of_the_other_kind_is_refused_in_one_sentence(
    make_topics: Callable[..., Topics], sentences: Bundle, walkers: Bundle, tmp_path: Path
) -> None:
    topics = make_topics()
    for kind, bundle, remedy in [("text", walkers, "trained on texts"), ("activity", sentences, "activity.bundle")]:
        log = tmp_path / f"{kind}.log"
        worker = WorkerProcess(log, *common(topics), *topics.flags(kind, bundle), kind=kind)
        assert worker.process.wait(40) == 1
        last = worker.said().splitlines()[-1]
        assert last.startswith(f"stridecast worker {kind}: {bundle.title}")
        assert remedy in last
        assert "golden check" not in worker.said()  # it is refused before the core takes it
        assert "Traceback" not in worker.said()


# --- Both in one process -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Both:
    """Topics of both kinds, and the flags of `worker all` for them."""

    activity: Topics
    text: Topics
    flags: list[str]


@pytest.fixture
def make_both(make_topics: Callable[..., Topics], sentences: Bundle, walkers: Bundle) -> Callable[..., Both]:
    def make(partitions: int = 2, **text: dict[str, str]) -> Both:
        activity, texts = make_topics(partitions), make_topics(partitions, **text)
        flags = [*common(activity), *activity.flags("activity", walkers), *texts.flags("text", sentences)]
        # On a machine that is slow the devices would otherwise fall silent before the test is over.
        return Both(activity, texts, [*flags, "--activity.idle-timeout-s", "3600"])

    return make


def fleet(seconds: float, partitions: int = 2) -> list[list[Reading]]:
    """Readings of three devices a partition, in order of time."""
    return [
        interleave(*(walk(f"phone-{partition}-{number}", seconds, seed=number) for number in range(3)))
        for partition in range(partitions)
    ]


def in_turns(texts: Sequence[tuple[str, str]], partitions: int) -> dict[tuple[int, int], tuple[str, str]]:
    """Where each text lies when they are dealt out to the partitions."""
    return {(number % partitions, number // partitions): text for number, text in enumerate(texts)}


def windows_of(fleet: list[list[Reading]]) -> set[tuple[bytes, int]]:
    found = itertools.chain(*(expected_windows([[reading] for reading in part]) for part in fleet))
    return {(window.device_id, window.start_ms) for window in found}


def check_activities(labels: Sequence[Label], wanted: set[tuple[bytes, int]]) -> None:
    counted = Counter(label.identity for label in labels)
    assert set(counted) == wanted
    assert set(counted.values()) <= {1}


def test_a_flood_of_texts_does_not_keep_the_activities_waiting(
    make_both: Callable[..., Both], sentences: Bundle, tmp_path: Path
) -> None:
    both = make_both()
    texts = [(f"text-{number}", text) for number, text in enumerate(some_texts(60_000))]
    readings = fleet(60)
    seen_before_the_end_of_the_flood = []
    with running_worker(tmp_path / "log", *both.flags, kind="all") as worker:
        wait_for_partitions(worker, both, 2)
        with worker.suspended():  # on a fast machine it is done with most texts while they are being sent
            for partition in range(2):
                both.text.send([as_message(*each) for each in texts[partition::2]], partition)
        for start in range(0, 1200, 120):  # six seconds of each device at a time
            sent = [part[: 3 * (start + 120)] for part in readings]
            for partition, part in enumerate(readings):
                both.activity.send([sample(reading) for reading in part[3 * start : 3 * (start + 120)]], partition)
            so_far = windows_of(sent)
            worker.wait_for("stridecast_predictions_total", len(so_far), worker="activity")
            seen_before_the_end_of_the_flood.append(worker.metric("stridecast_predictions_total", worker="text"))
        worker.wait_for("stridecast_predictions_total", len(texts), worker="text")
        check_labels(both.text.labels(len(texts)), in_turns(texts, 2), sentences)
        wanted = windows_of(readings)
        check_activities(both.activity.labels(len(wanted)), wanted)
        assert worker.terminate() == 0, worker.said()
    during = [count for count in seen_before_the_end_of_the_flood if count < len(texts)]
    assert len(during) >= 3, seen_before_the_end_of_the_flood  # activities were labelled while texts waited ...
    assert during[-1] > during[0]  # ... and texts meanwhile


@pytest.mark.parametrize("leaves", ["the first to have come", "the last"])
def test_a_second_process_of_both_takes_its_share_of_both_and_whoever_leaves_gives_it_back_without_loss(
    leaves: str, make_both: Callable[..., Both], sentences: Bundle, tmp_path: Path
) -> None:
    both = make_both(4)
    texts = [(f"text-{number}", text) for number, text in enumerate(some_texts(1200))]
    readings = fleet(36, 4)

    def send_third(number: int) -> None:
        for partition in range(4):
            part = texts[partition::4]
            both.text.send([as_message(*each) for each in part[number * 100 : (number + 1) * 100]], partition)
            third = len(readings[partition]) // 3
            some = readings[partition][number * third : (number + 1) * third]
            both.activity.send([sample(reading) for reading in some], partition)

    with (
        running_worker(tmp_path / "first.log", *both.flags, kind="all") as first,
        running_worker(tmp_path / "second.log", *both.flags, kind="all") as second,
    ):
        send_third(0)
        for worker in (first, second):
            wait_for_partitions(worker, both, 2)
        send_third(1)
        leaver, stayer = (first, second) if leaves.startswith("the first") else (second, first)
        for kind in ("activity", "text"):
            leaver.wait_for("stridecast_predictions_total", 1, worker=kind)
        assert leaver.terminate() == 0, leaver.said()
        send_third(2)
        check_labels(both.text.labels(len(texts)), in_turns(texts, 4), sentences)
        wanted = windows_of(readings)
        check_activities(both.activity.labels(len(wanted)), wanted)
        wait_for_partitions(stayer, both, 4)
        assert stayer.terminate() == 0, stayer.said()


def wait_for_partitions(worker: WorkerProcess, both: Both, each: int) -> None:
    """Wait until a process has read of so many partitions of either kind's topic."""
    names = {"activity": both.activity.input, "text": both.text.input}
    deadline, lines = time.monotonic() + 40, [""]
    while time.monotonic() < deadline:
        lines = [line for line in worker.get("/metrics")[1].splitlines() if "stridecast_consumer_lag_records{" in line]
        held = {kind: sum(f'topic="{name}"' in line for line in lines) for kind, name in names.items()}
        if set(held.values()) == {each}:
            return
        time.sleep(0.1)
    pytest.fail(f"it holds {lines}, not {each} of each:\n{worker.said()}")


def test_labels_that_their_topic_refuses_are_tried_again_until_it_takes_them_while_the_other_worker_goes_on(
    make_both: Callable[..., Both], tmp_path: Path
) -> None:
    both = make_both(1, output={"max_message_bytes": "100"})  # no label fits in
    readings = fleet(12, 1)
    with running_worker(tmp_path / "log", *both.flags, kind="all") as worker:
        both.text.send([as_message("text", "a good film")])
        worker.wait_for("stridecast_partition_restarts_total", 1, worker="text")
        both.activity.send([sample(reading) for reading in readings[0]])
        wanted = windows_of(readings)
        check_activities(both.activity.labels(len(wanted)), wanted)
        assert worker.get("/livez") == (200, "ok\n")
        assert "MessageSizeTooLargeError" in worker.said()
        # The second and the third recovery wait for a second and two: the age is of all tries, not of the last.
        worker.wait_for("stridecast_partition_restarts_total", 3, worker="text")
        assert worker.metric("stridecast_recovery_age_seconds", worker="text") >= 3
        assert worker.metric("stridecast_recovery_age_seconds", worker="activity") == 0
        topic = ConfigResource(ConfigResourceType.TOPIC, both.text.output, {"max.message.bytes": "100000"})
        with admin_client(both.text.broker.bootstrap_servers) as admin:
            admin.alter_configs([topic])
        (label,) = both.text.labels(1)
        assert label.value["id"] == "text"
        worker.wait_for("stridecast_recovery_age_seconds", at_most=0, worker="text")
        assert worker.terminate() == 0
        assert worker.metric("stridecast_partition_restarts_total", worker="activity") == 0
    assert "Traceback" not in worker.said()


def test_metrics_and_health_tell_the_two_workers_apart(make_both: Callable[..., Both], tmp_path: Path) -> None:
    both = make_both(1)
    with running_worker(tmp_path / "log", *both.flags, kind="all") as worker:
        wait_for_partitions(worker, both, 1)
        assert (worker.get("/livez"), worker.get("/readyz")) == ((200, "ok\n"), (200, "ok\n"))
        assert worker.metric("stridecast_model_info", worker="activity", name="tiny-har") == 1
        assert worker.metric("stridecast_model_info", worker="text", name="tiny-text") == 1
        page = worker.get("/metrics")[1]
    of_texts = {line.partition("{")[0] for line in page.splitlines() if 'worker="text"' in line}
    of_activities = {line.partition("{")[0] for line in page.splitlines() if 'worker="activity"' in line}
    assert of_texts < of_activities
    assert {name for name in of_activities - of_texts if not name.endswith(("_bucket", "_sum", "_count"))} == {
        "stridecast_samples_total",
        "stridecast_samples_dropped_total",
        "stridecast_windows_total",
        "stridecast_split_devices_total",
        "stridecast_snapshot_overflow_devices_total",
        "stridecast_active_devices",
        "stridecast_feature_frames_total",
        "stridecast_training_label_ratio",
        "stridecast_kept_windows_total",
    }


def test_the_process_of_both_ends_in_one_sentence_where_a_topic_of_either_is_missing(
    make_both: Callable[..., Both], tmp_path: Path
) -> None:
    both = make_both(1)
    worker = WorkerProcess(tmp_path / "log", *both.flags, "--text.input-topic", "no-such-topic", kind="all")
    assert worker.process.wait(40) == 1
    assert (
        "has no topic no-such-topic: `stridecast topics`, with the same flags for Kafka and topics, creates "
        in worker.said()
    )
    assert "Traceback" not in worker.said()
