"""Replays against a real Kafka: what is on the topic afterwards."""

import io
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from rich.console import Console

from ingest.messages.decode import decode
from ingest.messages.texts import decode_texts
from service.broker.node import Broker
from service.kafka_admin.topics import admin_client
from service.replay.fleet import RecordedFleet
from service.replay.messages import Form
from service.replay.run import Replay
from service.replay.sending import ReplayError, replay
from service.replay.synthesiser import SyntheticFleet
from service.replay.texts import TextReplay
from tests.kafka.worker_process import clean_environment
from training.data.recordings import Recording

MakeTopic = Callable[..., str]


def on_topic(broker: Broker, topic: str) -> list[Any]:
    """All records of a topic, partition by partition."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, enable_auto_commit=False)
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions)
        found: list[Any] = []
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            found += [record for batch in consumer.poll(timeout_ms=500).values() for record in batch]
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()


def readings_of(records: Sequence[Any]) -> set[tuple[bytes, int, float]]:
    found, rejections = decode(records)
    assert rejections == []
    rows = zip(found.device_ids(), found.timestamp_ms.tolist(), found.xyz[:, 0].tolist(), strict=True)
    return {(device, at, round(x, 3)) for device, at, x in rows}


def people(count: int, seconds: int = 5) -> list[Recording]:
    n = seconds * 20
    times = np.arange(n, dtype=np.int64) * 50
    return [
        Recording("set", str(number), "pocket", np.full(n, 5, np.int8), times, np.full((n, 3), number, np.float32))
        for number in range(count)
    ]


@pytest.mark.parametrize("form", list(Form))
def test_every_reading_arrives_once_in_each_form(broker: Broker, topic: MakeTopic, form: Form) -> None:
    name = topic(partitions=3)
    fleet = RecordedFleet(people(5))
    sending = Replay(fleet, bootstrap_servers=broker.bootstrap_servers, topic=name, speed=0, form=form)
    summary = sending.run(threading.Event())
    records = on_topic(broker, name)
    assert (summary.messages, summary.readings, summary.finished) == (len(records), 500, True)
    sent = fleet.readings(0, 60_000)
    assert sending.origin_ms is not None
    assert readings_of(records) == {
        (fleet.device_ids[device].encode(), sending.origin_ms + at, round(x, 3))
        for device, at, x in zip(sent.device.tolist(), sent.timestamp_ms.tolist(), sent.xyz[:, 0].tolist(), strict=True)
    }


def test_keys_lie_where_any_other_producer_would_put_them(broker: Broker, topic: MakeTopic) -> None:
    name, other = topic(partitions=7), topic(partitions=7)
    fleet = SyntheticFleet(40)
    Replay(fleet, bootstrap_servers=broker.bootstrap_servers, topic=name, speed=0, seconds=0.2).run(threading.Event())
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for device_id in fleet.device_ids:
        producer.send(other, key=device_id.encode(), value=b"{}")
    producer.close()
    places = {record.key: record.partition for record in on_topic(broker, name)}
    assert len(places) == 40
    assert places == {record.key: record.partition for record in on_topic(broker, other)}


def test_in_real_time_readings_are_sent_at_the_moment_that_their_timestamps_say(
    broker: Broker, topic: MakeTopic
) -> None:
    name = topic()
    fleet = RecordedFleet(people(3))
    Replay(fleet, bootstrap_servers=broker.bootstrap_servers, topic=name, seconds=2).run(threading.Event())
    records = on_topic(broker, name)
    assert len(records) == 120
    found, _ = decode(records)
    early = found.timestamp_ms - np.array([record.timestamp for record in records])
    assert early.max() <= 10  # nothing before its time


def test_a_fast_replay_ends_with_a_reading_of_now(broker: Broker, topic: MakeTopic) -> None:
    name = topic()
    fleet = SyntheticFleet(3)
    Replay(fleet, bootstrap_servers=broker.bootstrap_servers, topic=name, speed=0, seconds=3600, form=Form.BINARY).run(
        threading.Event()
    )
    now_ms = time.time() * 1000
    found, rejections = decode(on_topic(broker, name))
    assert rejections == []
    assert now_ms - 60_000 < found.timestamp_ms.max() < now_ms + 1000
    assert found.timestamp_ms.max() - found.timestamp_ms.min() > 3_590_000


def test_what_was_sent_before_a_stop_has_arrived(broker: Broker, topic: MakeTopic) -> None:
    name = topic(partitions=2)
    sending = Replay(SyntheticFleet(50), bootstrap_servers=broker.bootstrap_servers, topic=name)
    stop, summaries = threading.Event(), []
    thread = threading.Thread(target=lambda: summaries.append(sending.run(stop)))
    thread.start()
    deadline = time.monotonic() + 30
    while sending.summary().messages < 500 and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.set()
    thread.join(30)
    (summary,) = summaries
    assert not summary.finished
    assert 500 <= summary.messages == summary.readings == len(on_topic(broker, name))
    assert sending.truth(0, time.time() * 1000) == sending.fleet.truth(0, time.time() * 1000 - (sending.origin_ms or 0))


def test_a_topic_that_is_not_there_is_refused_and_not_made(broker: Broker) -> None:
    sending = Replay(SyntheticFleet(1), bootstrap_servers=broker.bootstrap_servers, topic="nobody-made-this")
    for _ in range(2):
        with pytest.raises(ReplayError, match=r"there is no topic 'nobody-made-this' at .*: create it with"):
            sending.run(threading.Event())


def test_a_broker_that_goes_away_is_told_of_in_one_line_with_how_many_messages_it_took(tmp_path: Path) -> None:
    """There were tracebacks: of a client that could not be closed, and of its garbage collection; and no number."""
    impatient = "from service import cli; from service.replay import sending; sending.FLUSH_TIMEOUT_S = 2.0; "
    own, log = Broker(tmp_path / "kafka", heap="256m"), tmp_path / "log"
    with own:
        with admin_client(own.bootstrap_servers) as admin:
            admin.create_topics({"in": {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)
        flags = ["--kafka.bootstrap-servers", own.bootstrap_servers, "--activity.input-topic", "in", "--devices", "20"]
        command = [sys.executable, "-c", f"{impatient}raise SystemExit(cli.main({['replay', *flags]!r}))"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=clean_environment())
        try:
            deadline = time.monotonic() + 60
            while not on_topic(own, "in"):
                assert time.monotonic() < deadline, log.read_text()
            own.stop()
            time.sleep(1)  # in which twenty devices send four hundred readings
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 1
        finally:
            process.kill()
            process.wait()
        *_, last = log.read_text().splitlines()
        found = re.fullmatch(
            rf"stridecast replay: the Kafka broker at {own.bootstrap_servers} took ([\d,]+) messages for in, "
            r"and not the ([\d,]+) others that were sent \(no answer in time: is it running\); "
            "some of them may have arrived all the same",
            last,
        )
        assert found, last
        assert "Traceback" not in log.read_text()
        taken, others = (int(number.replace(",", "")) for number in found.groups())
        own.start()
        assert others > 0
        assert taken <= len(on_topic(own, "in")) <= taken + others


def test_without_a_terminal_a_replay_says_in_one_line_what_it_sent(broker: Broker, topic: MakeTopic) -> None:
    shown = io.StringIO()
    sending = Replay(
        RecordedFleet(people(2)), bootstrap_servers=broker.bootstrap_servers, topic=topic(), speed=0, form=Form.CHUNK
    )
    summary = replay(sending, console=Console(file=shown, width=120))
    assert shown.getvalue() == f"sent {summary}\n"
    assert "with 200 readings" in shown.getvalue()


def test_compressed_messages_are_the_same(broker: Broker, topic: MakeTopic) -> None:
    name = topic()
    fleet = RecordedFleet(people(2))
    Replay(fleet, bootstrap_servers=broker.bootstrap_servers, topic=name, speed=0, compression="lz4").run(
        threading.Event()
    )
    assert len(readings_of(on_topic(broker, name))) == 200


def test_on_a_terminal_a_replay_shows_how_far_it_is(broker: Broker, topic: MakeTopic) -> None:
    shown = io.StringIO()
    sending = Replay(SyntheticFleet(5), bootstrap_servers=broker.bootstrap_servers, topic=topic(), seconds=1)
    replay(sending, console=Console(file=shown, width=150, force_terminal=True))
    assert "messages/s)" in shown.getvalue()
    assert "━" in shown.getvalue()


def test_texts_arrive_once_in_order_with_their_ids_as_keys(broker: Broker, topic: MakeTopic, tmp_path: Path) -> None:
    name, path, shown = topic(), tmp_path / "reviews.jsonl", io.StringIO()
    path.write_text("".join(f'{{"id": "review-{number}", "text": "good"}}\n' for number in range(2500)))
    sending = TextReplay(path, bootstrap_servers=broker.bootstrap_servers, topic=name, rate=0)
    summary = replay(sending, console=Console(file=shown, width=120))
    records = on_topic(broker, name)
    texts, rejections = decode_texts(records)
    assert (summary.messages, rejections) == (2500, [])
    assert texts.ids == [f"review-{number}".encode() for number in range(2500)]
    assert [record.key for record in records] == texts.ids
    assert shown.getvalue() == f"sent {summary}\n"
    assert "readings" not in shown.getvalue()


def test_texts_repeat_at_their_rate_until_the_time_is_over(broker: Broker, topic: MakeTopic, tmp_path: Path) -> None:
    name, path = topic(), tmp_path / "reviews.txt"
    path.write_text("a gripping film\ndull\n")
    sending = TextReplay(
        path, bootstrap_servers=broker.bootstrap_servers, topic=name, rate=20, repeat=True, seconds=0.25
    )
    summary = sending.run(threading.Event())
    assert summary.seconds >= 0.2  # the fifth is due then
    assert [record.key for record in on_topic(broker, name)] == [b"1", b"2", b"1", b"2", b"1"]
