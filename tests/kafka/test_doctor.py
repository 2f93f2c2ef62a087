"""`stridecast doctor` on Apache Kafka itself: each thing that can be wrong, and that it changes nothing."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import confluent_kafka
import pytest
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.rejections import Reason
from service.broker.node import Broker
from service.cli import main
from service.kafka_admin.groups import commits_of
from service.kafka_admin.topics import admin_client
from tests.inference.bundles import har_bundle
from tests.kafka.outside_client import producer, send
from tests.kafka.stage import interleave, sample, walk
from tests.kafka.worker_process import running_worker

Topics = dict[str, str]
LARGER = str(2 * 1024 * 1024)


@pytest.fixture
def topics(topic: Callable[..., str]) -> Topics:
    return {"input": topic(2), "output": topic(2), "dead-letter": topic(1, max_message_bytes=LARGER)}


@pytest.fixture
def doctor(broker: Broker, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run it; return its status and what it said of the activities, a finding a line."""

    def run(topics: Topics, *more: str) -> tuple[int, str]:
        absent = [
            word for which in ("input", "output", "dead-letter") for word in (f"--text.{which}-topic", f"no-{which}")
        ]
        status = main(["doctor", *flags(broker, topics), *absent, *more])
        said = capsys.readouterr().out
        assert said.startswith(f"Kafka at {broker.bootstrap_servers}\n  ok     1 broker in the cluster\n")
        return status, said.partition("activity: ")[2].partition("text: ")[0]

    return run


def flags(broker: Broker, topics: Topics) -> list[str]:
    named = [word for which, name in topics.items() for word in (f"--activity.{which}-topic", name)]
    group = f"group-of-{topics['input']}"
    return ["--kafka.bootstrap-servers", broker.bootstrap_servers, "--kafka.group-id", group, *named]


def walks(broker: Broker, topics: Topics, seconds: float = 12) -> None:
    """Send two phones' readings, each to a partition of its own."""
    for partition in range(2):
        readings = interleave(walk(f"phone-{partition}", seconds, seed=partition))
        send(producer(broker.bootstrap_servers), topics["input"], map(sample, readings), partition=partition)


def wait_for_commits(broker: Broker, topics: Topics, records: int) -> None:
    """Wait until the group has committed so many records of the input."""
    sources = [TopicPartition(topics["input"], number) for number in range(2)]
    deadline = time.monotonic() + 20
    with admin_client(broker.bootstrap_servers) as admin:
        while sum(at.offset for at in commits_of(admin, f"group-of-{topics['input']}", sources).values()) < records:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_of_a_worker_at_work_all_is_well(
    broker: Broker, topics: Topics, doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """On a busy machine the first commit was not of all records, and the doctor said so."""
    bundle = har_bundle(tmp_path / "tiny-har")
    worker_flags = [*flags(broker, topics), "--activity.bundle", str(bundle.folder), "--inference.device", "cpu"]
    with running_worker(tmp_path / "log", *worker_flags) as worker:
        walks(broker, topics)
        worker.wait_for("stridecast_predictions_total", 8)
        worker.wait_for("stridecast_consumer_lag_records", at_most=0)
        wait_for_commits(broker, topics, 480)
        status, said = doctor(topics)
        with admin_client(broker.bootstrap_servers) as admin:
            (group,) = admin.describe_groups([f"group-of-{topics['input']}"]).values()
    assert [member["client_id"] for member in group["members"]] == ["stridecast-activity"]  # nobody has joined
    assert f"  ok     group group-of-{topics['input']}: 2 partitions held by 1 worker\n" in said
    assert "  ok     0 records behind what is committed\n" in said
    assert "  ok     the latest 480 records (partitions 0 and 1), which arrived within " in said
    assert re.search(r"  ok     2 devices, with (19|20)\.\d readings a second in the median\n", said)
    assert "windows get a label\n" in said
    assert "  wrong  " not in said
    assert status == 0


def test_before_anything_runs_it_says_what_will_happen(
    broker: Broker, topics: Topics, doctor: Callable[..., tuple[int, str]]
) -> None:
    walks(broker, topics)
    status, said = doctor(topics)
    assert f"  note   no worker of group group-of-{topics['input']} reads {topics['input']} now\n" in said
    assert "  note   nothing has been committed: a worker will begin with the first of 480 records\n" in said
    assert "whoever takes over" not in said
    assert "can be read" in said
    assert status == 0


def test_of_a_kind_that_nobody_uses_there_is_one_line(topics: Topics, doctor: Callable[..., tuple[int, str]]) -> None:
    """Who labels readings alone was told that a worker of texts "will begin with the first of 0 records"."""
    status, said = doctor(topics)
    assert said == (
        f"{topics['input']} -> {topics['output']}\n  note   no activity worker has run yet: its topics are empty, and "
        f"group group-of-{topics['input']} has committed nothing\n"
    )
    assert status == 0


def test_a_kind_whose_topics_are_wrong_or_whose_group_has_read_is_examined_though_they_are_empty(
    broker: Broker, topic: Callable[..., str], topics: Topics, doctor: Callable[..., tuple[int, str]]
) -> None:
    said = doctor({**topics, "output": topic(2, cleanup_policy="compact")})[1]
    assert "but it is compacted" in said
    assert "  note   nothing has been committed: there is nothing to read yet\n" in said
    commit(broker, topics, 0)
    said = doctor(topics)[1]
    assert f"no worker of group group-of-{topics['input']} reads {topics['input']} now" in said
    assert "has run yet" not in said


def test_records_that_a_worker_would_refuse_are_shown(
    broker: Broker, topics: Topics, doctor: Callable[..., tuple[int, str]]
) -> None:
    walks(broker, topics)
    send(producer(broker.bootstrap_servers), topics["input"], [(b"phone", b"nonsense", [])], partition=1)
    status, said = doctor(topics)
    assert "1 (0.21%) can't be read, and go to the dead letters\n" in said
    where = f"the first is {topics['input']}[1] at 240: "
    assert f"  wrong  1 not_json ({Reason.NOT_JSON.meaning}); {where}" in said
    assert status == 1


def test_devices_on_two_partitions_are_named_though_two_workers_would_see_a_half_each(
    broker: Broker, topics: Topics, doctor: Callable[..., tuple[int, str]]
) -> None:
    walks(broker, topics)
    halves = walk("torn", 12, seed=3)
    for number in range(4):
        some = map(sample, halves[60 * number : 60 * (number + 1)])
        send(producer(broker.bootstrap_servers), topics["input"], some, partition=number % 2)
    status, said = doctor(topics)
    assert "  wrong  1 device on several partitions, each of which is windowed alone: torn on 0 and 1. " in said
    assert status == 1


def test_only_so_many_records_are_looked_at(
    broker: Broker, topics: Topics, doctor: Callable[..., tuple[int, str]]
) -> None:
    walks(broker, topics)
    assert "the latest 100 records (partitions 0 and 1)" in doctor(topics, "--records", "100")[1]


def test_a_missing_topic_and_one_of_labels_that_is_compacted_are_wrong(
    topic: Callable[..., str], doctor: Callable[..., tuple[int, str]]
) -> None:
    names = {"input": topic(1), "output": topic(1, cleanup_policy="compact"), "dead-letter": "not-there"}
    status, said = doctor(names)
    assert f"  wrong  {names['output']}: exists with 1 partition; but it is compacted" in said
    assert f"  ok     {names['input']}: exists with 1 partition\n" in said
    assert (
        "  wrong  not-there: is missing; `stridecast topics`, with the same flags for Kafka and topics, creates it\n"
        in said
    )
    assert status == 1


def test_an_input_that_is_compacted_is_wrong_and_larger_letters_than_asked_for_are_not(
    topic: Callable[..., str], doctor: Callable[..., tuple[int, str]]
) -> None:
    names = {
        "input": topic(1, cleanup_policy="compact"),
        "output": topic(1),
        "dead-letter": topic(1, max_message_bytes="9999999"),
    }
    said = doctor(names)[1]
    assert (
        f"  wrong  {names['input']}: exists with 1 partition; but it is compacted, which loses all but the last" in said
    )
    assert f"  ok     {names['dead-letter']}: exists with 1 partition\n" in said


def test_where_no_topic_is_there_at_all_that_is_wrong(doctor: Callable[..., tuple[int, str]]) -> None:
    status, said = doctor({"input": "no-a", "output": "no-b", "dead-letter": "no-c"})
    remedy = "`stridecast topics`, with the same flags for Kafka and topics, creates them"
    assert said == f"no-a -> no-b\n  wrong  none of its topics is there: {remedy}\n"
    assert status == 1


def test_where_only_some_partitions_were_ever_committed_the_others_are_named(
    broker: Broker, topics: Topics, doctor: Callable[..., tuple[int, str]]
) -> None:
    walks(broker, topics)
    commit(broker, topics, 200)
    said = doctor(topics)[1]
    behind = "280 records behind what is committed, 240 of them in partition 1"
    assert f"  note   {behind}; nothing has been committed of partition 1\n" in said


def test_records_behind_an_open_transaction_are_told_of(
    broker: Broker, topics: Topics, doctor: Callable[..., tuple[int, str]]
) -> None:
    """No worker is given them: labels stop, and nothing else is to be seen."""
    walks(broker, topics)
    hangs = producer(broker.bootstrap_servers, **{"transactional.id": topics["input"]})
    hangs.init_transactions()
    hangs.begin_transaction()
    hangs.produce(topics["input"], key=b"phone", value=b"{}", partition=1)
    hangs.flush()
    said = doctor(topics)[1]
    hangs.abort_transaction()
    assert "  note   partition 1: a transaction is open, and no worker is given the 1 record from its first on" in said
    assert "the latest 480 records (partitions 0 and 1), which arrived within " in said
    deadline = time.monotonic() + 30
    while "a transaction is open" in doctor(topics)[1]:  # its marker is on its way
        assert time.monotonic() < deadline


def test_a_reader_in_the_group_that_is_no_worker_is_named(
    broker: Broker, topics: Topics, doctor: Callable[..., tuple[int, str]]
) -> None:
    settings = {"bootstrap.servers": broker.bootstrap_servers, "group.id": f"group-of-{topics['input']}"}
    reader = confluent_kafka.Consumer({**settings, "client.id": "some\x1bbody"})
    reader.subscribe([topics["input"]])
    deadline = time.monotonic() + 30
    while not reader.assignment():
        assert time.monotonic() < deadline
        reader.poll(0.2)
    status, said = doctor(topics)
    reader.close()
    assert f"  wrong  some�body of group group-of-{topics['input']} reads {topics['input']}, and is no worker" in said
    assert status == 1


def commit(broker: Broker, topics: Topics, position: int, metadata: str = "") -> None:
    """Commit for the group's partition 0."""
    at = {TopicPartition(topics["input"], 0): OffsetAndMetadata(position, metadata, -1)}
    with admin_client(broker.bootstrap_servers) as admin:
        admin.alter_group_offsets(f"group-of-{topics['input']}", at)


@pytest.mark.parametrize(
    ("position", "metadata", "says"),
    [
        (9999, "", "partition 0 will say: the committed position 9999 lies outside the log, which holds 0 to 240"),
        (100, '{"of": "another program"}', "partition 0 will say: the commit's metadata can't be used ("),
        (100, json.dumps({"v": 99, "rewind_to": 50}), "partition 0 will say: another version of the worker made"),
    ],
)
def test_what_a_worker_would_stumble_over_is_said_before_it_does(
    broker: Broker,
    topics: Topics,
    doctor: Callable[..., tuple[int, str]],
    position: int,
    metadata: str,
    says: str,
) -> None:
    walks(broker, topics)
    commit(broker, topics, position, metadata)
    status, said = doctor(topics)
    assert f"  note   whoever takes over {says}" in said
    assert status == 0


def test_texts_are_looked_at_as_the_text_worker_reads_them(
    broker: Broker, topics: Topics, capsys: pytest.CaptureFixture[str]
) -> None:
    text = {"id": "a", "text": "a very good film"}
    messages: list[tuple[bytes | None, bytes | None, list[tuple[str, str | bytes | None]]]] = [
        (b"a", json.dumps(text).encode(), []),
        (b"b", json.dumps(text | {"text": "long " * 100}).encode(), []),
    ]
    send(producer(broker.bootstrap_servers), topics["input"], messages, partition=0)
    words = [word.replace("--activity.", "--text.") for word in flags(broker, topics)]
    absent = [
        word for which in ("input", "output", "dead-letter") for word in (f"--activity.{which}-topic", f"no-{which}")
    ]
    assert main(["doctor", *words, *absent, "--text.max-bytes", "100"]) == 1
    said = capsys.readouterr().out.partition("text: ")[2]
    assert "the latest 2 records (partition 0), which arrived within " in said
    assert f"1 too_large ({Reason.TOO_LARGE.meaning})" in said
