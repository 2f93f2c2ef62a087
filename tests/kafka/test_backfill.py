"""`stridecast backfill` as a process, on Apache Kafka itself, checked from outside."""

import datetime
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kafka.structs import OffsetAndMetadata, TopicPartition

from service.broker.node import Broker
from service.cli import main
from service.kafka_admin.groups import ask_of_groups
from service.kafka_admin.topics import admin_client
from tests.inference.bundles import text_bundle
from tests.kafka.expected import expected_windows
from tests.kafka.outside_client import Label, producer, read_labels, read_topic, send
from tests.kafka.stage import START_MS, Message, Stage, check_labels, chunk, interleave, sample, walk
from tests.kafka.worker_process import clean_environment, running_worker
from tests.other_kafka import is_before
from tests.windowing.reference import Reading, Window

# One frame at a time, by the slowest engine: for those who are to be stopped on their way.
SLOWLY = ["--inference.engine", "pytorch", "--inference.max-batch", "1", "--inference.queue-frames", "8"]


@contextmanager
def running(stage: Stage, *flags: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "service", "backfill", *stage.flags, *flags]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=clean_environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def backfill(stage: Stage, *flags: str) -> str:
    """Run it to its end; return what it printed last."""
    return backfill_saying(stage, *flags)[-1]


def backfill_saying(stage: Stage, *flags: str) -> list[str]:
    """Run it to its end; return the lines that it printed."""
    with running(stage, *flags) as process:
        said, log = process.communicate(timeout=60)
        assert process.returncode == 0, said + log
    return said.splitlines()


def groups_of(stage: Stage) -> list[str]:
    with admin_client(stage.broker.bootstrap_servers) as admin:
        found = [group["group_id"] for group in ask_of_groups(admin.list_groups)]
    return [group for group in found if group.startswith(f"group-{stage.input}-backfill-")]


def check_identities(labels: list[Label], windows: list[Window]) -> None:
    counted = Counter(label.identity for label in labels)
    assert set(counted) == {(window.device_id, window.start_ms) for window in windows}
    assert set(counted.values()) <= {1}


def records_of(readings: list[Reading]) -> list[list[Reading]]:
    return [[reading] for reading in readings]


def by_the_second(devices: list[list[Reading]]) -> list[list[Reading]]:
    """Cut the signals of devices whose clocks are clean into records of a second, in the order of time."""
    return [device[start : start + 20] for start in range(0, len(devices[0]), 20) for device in devices]


def wait_for_labels(stage: Stage, count: int) -> None:
    found = read_topic(stage.broker.bootstrap_servers, stage.output, until=lambda seen: len(seen) >= count)
    assert len(found) >= count


def send_by_the_second(stage: Stage, readings: list[Reading]) -> None:
    """Each second's readings get the Kafka timestamp of its end."""
    client = producer(stage.broker.bootstrap_servers)
    for start in range(0, len(readings), 20):
        part = readings[start : start + 20]
        came_ms = START_MS + 50 * round((part[0].timestamp_ms - START_MS) / 50) + 1000
        send(client, stage.input, [sample(reading) for reading in part], partition=0, timestamp=came_ms)


def when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(START_MS / 1000 + seconds, datetime.UTC).isoformat()


def crowd(partition: int, devices: int) -> list[list[Reading]]:
    """So many people that slow inference takes seconds, in records of a second each."""
    return by_the_second(
        [walk(f"phone-{partition}-{number}", 60, seed=number, jitter_ms=0) for number in range(devices)]
    )


def undisturbed(stage: Stage) -> set[tuple[bytes, int]]:
    """The labels that a backfill gives which nobody stops, in a topic of its own."""
    control = f"{stage.output}-control"
    backfill(stage, "--activity.output-topic", control)
    labels = read_labels(stage.broker.bootstrap_servers, control, 1)
    assert len({label.identity for label in labels}) == len(labels)
    return {label.identity for label in labels}


def test_all_that_is_there_is_labelled_once_and_nothing_when_called_again(stage: Callable[..., Stage]) -> None:
    here = stage()
    readings = interleave(*(walk(f"phone-{number}", 24, seed=number) for number in range(12)))
    bad: Message = (b"bad", b"not JSON", [])
    here.send([sample(readings[0]), bad, *(sample(reading) for reading in readings[1:])])
    records = [[readings[0]], [], *records_of(readings[1:])]
    windows = expected_windows(records, silent=True)
    assert {window.closed_by for window in windows} == {"time", "silence"}
    said = backfill(here)
    assert said.startswith(f"{len(readings) + 1:,} records, {len(windows):,} labels in ")
    assert said.endswith("; 1 record could not be read: `stridecast dead-letters` tells why")
    check_labels(here, here.labels(len(windows)), windows, whole=True)
    again = backfill(here)
    assert again.startswith(f"{len(readings) + 1:,} records, 0 labels in ")
    assert f"; {len(windows):,} were there already" in again
    assert len(here.labels(len(windows))) == len(windows)
    letters = read_topic(here.broker.bootstrap_servers, here.dead_letters, until=lambda _: False, timeout_s=2)
    assert len(letters) == 1
    assert groups_of(here) == []


def test_a_stretch_of_time_goes_by_the_timestamps_of_records(stage: Callable[..., Stage]) -> None:
    here = stage()
    readings = walk("phone", 90, seed=1)
    send_by_the_second(here, readings)
    since, until = when(31), when(61)
    first, end = 20 * 30, 20 * 60
    windows = [
        window._replace(source_offset=window.source_offset + first)
        for window in expected_windows(records_of(readings[first:end]), silent=True)
    ]
    backfill(here, "--since", since, "--until", until)
    check_labels(here, here.labels(len(windows)), windows, whole=True)
    # What lies across the ends is told by a stretch that overlaps, and no more than that.
    backfill(here, "--since", since)
    check_identities(
        here.labels(2 * len(windows)), [*windows[:1], *expected_windows(records_of(readings[first:]), silent=True)[1:]]
    )


def test_a_topic_that_workers_write_gets_what_they_passed_over_and_not_what_is_theirs(
    stage: Callable[..., Stage],
) -> None:
    here = stage(commit_interval_s="0.2")
    readings = walk("phone", 72, seed=3)
    thirds = readings[:480], readings[480:960], readings[960:]
    send_by_the_second(here, thirds[0])
    group = f"group-{here.input}"
    with admin_client(here.broker.bootstrap_servers) as admin:  # as `--to-latest` does: what is there is skipped
        start = {TopicPartition(here.input, 0): OffsetAndMetadata(480, "", -1)}
        ask_of_groups(lambda: admin.alter_group_offsets(group, start))
    with running_worker(here.log, *here.flags) as worker:
        send_by_the_second(here, thirds[1])
        theirs = expected_windows(records_of(thirds[1]))
        wait_for_labels(here, len(theirs))
        worker.wait_for("stridecast_commits_total", 1, outcome="success")
        time.sleep(1)  # for the last commit
        with running(here) as process:
            _, log = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"workers of group {group} label {here.input}[0] from offset " in log
        assert "let them finish first, choose an earlier --until, or name a topic of its own" in log
        backfill(here, "--until", when(40))
        so_far = expected_windows(records_of([*thirds[0], *thirds[1]]))
        check_identities(here.labels(len(so_far)), so_far)
        send_by_the_second(here, thirds[2])
        windows = expected_windows(records_of(readings))
        check_identities(here.labels(len(windows)), windows)


def test_one_that_is_killed_leaves_the_rest_to_another(stage: Callable[..., Stage]) -> None:
    here = stage(partitions=4, commit_interval_s="0.1", kafka__session_timeout_s="3")
    for partition in range(4):
        here.send([chunk(record) for record in crowd(partition, 30)], partition)
    wanted = undisturbed(here)
    with ExitStack() as stack:
        first, second = (stack.enter_context(running(here, *SLOWLY)) for _ in range(2))
        wait_for_labels(here, 1)
        first.kill()
        _, log = first.communicate()
        assert first.returncode == -signal.SIGKILL, log
        said, log = second.communicate(timeout=120)
    assert second.returncode == 0, said + log
    labels = here.labels(len(wanted))
    assert {label.identity for label in labels} == wanted
    if "exactly_once" in here.flags:  # else what the dead one sent last may have come after it was looked for
        assert len(labels) == len(wanted)
    assert groups_of(here) == []


def test_one_that_is_stopped_says_so_and_goes_on_to_the_same_end_when_called_again(stage: Callable[..., Stage]) -> None:
    here = stage(commit_interval_s="0.1")
    records = crowd(0, 120)
    here.send([chunk(record) for record in records[: len(records) * 5 // 6]])
    wanted = undisturbed(here)
    with running(here, *SLOWLY, "--shutdown-grace-s", "1") as process:
        wait_for_labels(here, 1)
        process.send_signal(signal.SIGTERM)
        said, log = process.communicate(timeout=60)
    assert process.returncode == 1, said + log
    assert said.splitlines()[-1] == "stopped before the end; the same command goes on from here"
    assert len(groups_of(here)) == 1
    before = len(here.labels(1))
    assert 0 < before < len(wanted)
    here.send([chunk(record) for record in records[len(records) * 5 // 6 :]])
    backfill(here)
    labels = [label.identity for label in here.labels(len(wanted))]
    assert set(labels) == wanted
    assert len(labels) == len(wanted)
    assert groups_of(here) == []


def test_one_that_is_stopped_before_it_begins_has_not_ended_well(stage: Callable[..., Stage]) -> None:
    """Whoever runs it, such as a Kubernetes Job, takes a status of 0 for done."""
    here = stage()
    here.send([sample(reading) for reading in walk("phone", 8, seed=1)])
    with running(here) as process:
        deadline = time.monotonic() + 30
        while not groups_of(here):
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 1


def test_texts_are_labelled_too_and_an_output_that_is_missing_is_created(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    texts, letters = topic(3), topic(1)
    bundle = text_bundle(tmp_path / "tiny-text")
    flags = {
        "--kafka.bootstrap-servers": broker.bootstrap_servers,
        "--kafka.group-id": f"group-{texts}",
        "--text.input-topic": texts,
        "--text.output-topic": f"{texts}-labels",
        "--text.dead-letter-topic": letters,
        "--text.bundle": str(bundle.folder),
        "--inference.device": "cpu",
    }
    here = Stage(
        broker, texts, f"{texts}-labels", letters, [word for flag in flags.items() for word in flag], tmp_path, tmp_path
    )
    ids = [f"text-{number}" for number in range(300)]
    for partition in range(3):
        here.send(
            [
                (each.encode(), json.dumps({"id": each, "text": "a good film"}).encode(), [])
                for each in ids[partition::3]
            ],
            partition,
        )
    created, *_, summary = backfill_saying(here, "--texts")  # between them how far it is, where it takes its time
    assert created == f"{texts}-labels: created with 3 partitions"
    assert summary.startswith("300 records, 300 labels in ")
    assert backfill(here, "--texts").startswith("300 records, 0 labels in ")
    labels = read_topic(broker.bootstrap_servers, here.output, until=lambda seen: len(seen) >= 300)
    assert sorted(json.loads(label.value() or b"")["id"] for label in labels) == sorted(ids)


def test_where_there_is_nothing_to_label_it_says_so(
    stage: Callable[..., Stage], capsys: pytest.CaptureFixture[str]
) -> None:
    here = stage()
    assert backfill(here) == f"nothing to label: {here.input} holds no records"
    send_by_the_second(here, walk("phone", 20, seed=1))
    latest = f"; the latest has the Kafka timestamp {when(20).removesuffix('+00:00')}Z"
    assert backfill(here, "--since", when(100)) == (
        f"nothing to label: no record of {here.input} lies in this range{'' if is_before(3, 0) else latest}"  # KIP-734
    )
    assert groups_of(here) == []
    assert main(["backfill", *here.flags, "--activity.input-topic", "not-there"]) == 1
    assert "has no topic not-there: there is nothing to label" in capsys.readouterr().err
    assert main(["backfill", *here.flags, "--since", "2026-01-02", "--until", "2026-01-01"]) == 2
    assert "since = 2026-01-02T00:00:00+00:00 is not before until" in capsys.readouterr().err
