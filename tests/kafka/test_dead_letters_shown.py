"""`stridecast dead-letters` on Apache Kafka itself: what it shows of letters that a worker wrote, and of others'."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka.structs import TopicPartition

from ingest.consumer.latest import Latest
from ingest.rejections import Reason
from service.broker.node import Broker
from service.cli import main
from service.commands import dead_letters
from tests.inference.bundles import har_bundle
from tests.kafka.outside_client import producer, read_topic, send
from tests.kafka.worker_process import running_worker

NOW_MS = 1_700_000_000_000  # 2023-11-14 22:13:20


@pytest.fixture
def shown(broker: Broker, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run it for a topic of the activities' dead letters; return what it said of that."""

    def run(topic: str, *more: str) -> str:
        words = ["--kafka.bootstrap-servers", broker.bootstrap_servers, "--activity.dead-letter-topic", topic]
        assert main(["dead-letters", *words, "--text.dead-letter-topic", "not-there", *more]) == 0
        said, _, rest = capsys.readouterr().out.partition("not-there: there is no such topic")
        assert rest
        return said

    return run


def test_what_a_worker_refused_is_counted_by_reason_and_shown_with_what_was_wrong_where(
    broker: Broker, topic: Callable[..., str], shown: Callable[..., str], tmp_path: Path
) -> None:
    readings, labels, letters = topic(2), topic(2), topic(1)
    bad: list[tuple[bytes, bytes, list[Any]]] = [
        (b"phone-1", b"nonsense", []),
        (b"phone-1", b'{"device_id": "phone-1"}', []),
        (b"phone-2", b"\xff\xfe", []),
    ]
    flags = ["--kafka.bootstrap-servers", broker.bootstrap_servers, "--kafka.group-id", f"group-of-{readings}"]
    for which, name in {"input": readings, "output": labels, "dead-letter": letters}.items():
        flags += [f"--activity.{which}-topic", name]
    bundle = har_bundle(tmp_path / "tiny-har")
    flags += ["--activity.bundle", str(bundle.folder), "--inference.device", "cpu"]
    with running_worker(tmp_path / "log", *flags) as worker:
        for number, message in enumerate(bad):
            send(producer(broker.bootstrap_servers), readings, [message], partition=1, timestamp=NOW_MS + 1000 * number)
        worker.wait_for("stridecast_records_rejected_total", 3)
        assert len(read_topic(broker.bootstrap_servers, letters, until=lambda found: len(found) == 3)) == 3
    said = shown(letters)
    assert said.startswith(f"{letters}: 3 dead letters\n")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if line.startswith("│")]
    counts = {row[0]: row[-1] for row in rows if row[0]}
    assert counts == {"not_json": "2", "missing_field": "1"}
    first, second, third = (part for part in said.split("\n2023-11-14 ")[1:])
    assert first.startswith(f"22:13:20Z  {readings}[1] at 0  not_json: ")
    assert "\n    key phone-1\n    nonsense" in first
    assert second.startswith(f"22:13:21Z  {readings}[1] at 1  missing_field: Sample.timestamp: the field is missing\n")
    assert '\n    {"device_id": "phone-1"}' in second
    assert "\n    key phone-2\n    ff fe (2 bytes)" in third

    some = shown(letters, "--reason", "missing_field")
    assert some.startswith(f"{letters}: 1 dead letter of missing_field\n")
    assert "nonsense" not in some
    assert "not_json" not in some

    assert "22:13:22" in shown(letters, "--show", "1")
    assert "  not_json: " not in shown(letters, "--show", "0")


def test_letters_that_no_worker_wrote_are_shown_as_they_are(
    broker: Broker, topic: Callable[..., str], shown: Callable[..., str]
) -> None:
    name = topic(1)
    send(
        producer(broker.bootstrap_servers),
        name,
        [(None, None, []), (b"\x1b[2J", b"x" * 1000, [("error-reason", b"\x07")])],
    )
    said = shown(name)
    assert "  ?  (no reason given): \n    key null\n    null\n" in said
    assert "  ?  �: \n    key �[2J\n    " + "x" * 300 + "… (1,000 bytes)\n" in said


def test_a_reason_that_is_markup_or_endless_is_a_reason_like_another(
    broker: Broker, topic: Callable[..., str], shown: Callable[..., str]
) -> None:
    name = topic(1)
    reasons = ["[/x]", "[red]", "x" * 2000, *(f"reason-{number}" for number in range(30))]
    send(producer(broker.bootstrap_servers), name, [(None, b"v", [("error-reason", reason)]) for reason in reasons])
    said = shown(name, "--show", "100")
    assert "│ [/x] " in said
    assert "  ?  [red]: \n" in said
    assert "│ 13 others " in said
    assert "x" * 300 + "… (2,000 bytes): \n" in said
    assert "x" * 301 not in said


@pytest.mark.parametrize("columns", [80, 99, 100, 200])
def test_a_narrow_terminal_has_the_meanings_below_the_table_and_each_row_is_a_line(
    broker: Broker,
    topic: Callable[..., str],
    shown: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    """In 80 columns, dates and explanations were folded into a tower of a few characters a line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    name, reasons = topic(1), [Reason.TOO_MANY_DEVICES, Reason.TOO_MANY_DEVICES, Reason.WRONG_TYPE]
    letters: list[Any] = [(None, b"v", [("error-reason", str(reason))]) for reason in reasons]
    send(producer(broker.bootstrap_servers), name, letters, timestamp=NOW_MS)
    said = shown(name, "--show", "0").splitlines()
    assert max(map(len, said)) <= max(columns, 2 + len(f"{reasons[0]}{reasons[0].meaning}"))
    rows = [line for line in said if line.startswith("│")]
    assert all(row.count("2023-11-14 22:13:20Z") == 2 for row in rows if "_" in row)
    below = [f"{reason}: {reason.meaning}" for reason in dict.fromkeys(reasons)]
    if columns < 100:
        assert len(rows) == 2
        assert said[-2:] == below
    else:
        assert said[-1].startswith("└")
        assert "what that means" in str(said)


def test_it_says_how_many_it_looked_at_where_there_are_more(
    broker: Broker, topic: Callable[..., str], shown: Callable[..., str]
) -> None:
    name = topic(1)
    send(producer(broker.bootstrap_servers), name, [(None, b"v", [])] * 30)
    assert shown(name, "--records", "10").startswith(f"{name}: 10 dead letters, among the latest 10\n")
    assert shown(name, "--records", "30").startswith(f"{name}: 30 dead letters\n")


def test_a_partition_whose_letters_do_not_come_is_told_of_and_is_an_error(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else it would say that there are none, when a broker is away."""
    name = topic(1)
    silent = Latest({}, unanswered=[TopicPartition(name, 0)], barren=[], undecodable=0, whole=False)
    monkeypatch.setattr(dead_letters, "latest_records", lambda *_: silent)
    names = [word for kind in ("activity", "text") for word in (f"--{kind}.dead-letter-topic", name)]
    assert main(["dead-letters", "--kafka.bootstrap-servers", broker.bootstrap_servers, *names]) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: 0 dead letters, among the latest 0\nnot all came of partition 0 of {name}: ")


def test_where_the_last_offsets_hold_none_it_says_so(
    broker: Broker, topic: Callable[..., str], shown: Callable[..., str]
) -> None:
    name = topic(1)
    client = producer(broker.bootstrap_servers, **{"transactional.id": name})
    client.init_transactions()
    client.begin_transaction()
    send(client, name, [(None, b"v", [])], partition=0)
    client.commit_transaction()
    deadline = time.monotonic() + 30
    while not shown(name).startswith(f"{name}: 1 dead letter\n"):  # the transaction's marker is on its way
        assert time.monotonic() < deadline
    said = shown(name, "--records", "1")
    assert said.startswith(f"{name}: 0 dead letters, among the latest 0\nthe last offsets of partition 0 ")


def test_of_an_empty_topic_it_says_so(topic: Callable[..., str], shown: Callable[..., str]) -> None:
    name = topic(1)
    assert shown(name) == f"{name}: 0 dead letters\n"


def test_a_reason_that_is_none_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letters", "--reason", "typo"]) == 2
    said = capsys.readouterr().err
    assert "typo" in said
    assert all(str(reason) in said for reason in Reason)
