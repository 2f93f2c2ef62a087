"""Dead letters through Apache Kafka itself: what another client wrote is kept as it was."""

import time
from collections.abc import Callable
from typing import Any

import confluent_kafka
import kafka
import pytest

from ingest.messages.dead_letters import NULL, NullableValues, dead_letter
from ingest.messages.decode import decode
from service.broker.node import Broker
from service.kafka_admin.topics import admin_client
from tests.ingest.batches import Batch, record
from tests.kafka.outside_client import read_topic
from tests.kafka.raw_client import produce_raw
from tests.kafka.stage import Message, Stage, sample, walk
from tests.kafka.worker_process import running_worker
from tests.other_kafka import is_before

GOOD = b'{"device_id":"a","timestamp":1700000000000,"x":1,"y":2,"z":3}'
WRITTEN: list[tuple[bytes | None, bytes | None, list[tuple[str, Any]]]] = [
    (b"a", GOOD, []),
    (b"a", None, [("traceparent", b"00-1"), ("empty", b""), ("null", None)]),
    (None, None, []),
    (b"", b"", []),
    (b"\xff", b"\x00\xff" * 1000, [("content-type", b"image/png"), ("x", b"1"), ("x", b"2")]),
]


def read_all(broker: Broker, topic: str, count: int) -> list[Any]:
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", metrics_enabled=False
    )
    try:
        consumer.assign([kafka.TopicPartition(topic, 0)])
        records: list[Any] = []
        for _ in range(60):
            records += [record for batch in consumer.poll(timeout_ms=500).values() for record in batch]
            if len(records) >= count:
                break
        return records
    finally:
        consumer.close()


def test_rejected_records_arrive_as_they_came_with_the_reason(broker: Broker, topic: Callable[..., str]) -> None:
    source, dead = topic(), topic()
    writer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers})
    for offset, (key, value, headers) in enumerate(WRITTEN):
        writer.produce(source, value, key, headers=headers, timestamp=1_700_000_000_000 + offset)
    assert writer.flush(20) == 0
    records = read_all(broker, source, len(WRITTEN))
    readings, rejections = decode(records)
    assert readings.record.tolist() == [0]
    assert [rejection.record for rejection in rejections] == [1, 2, 3, 4]

    producer = kafka.KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers, value_serializer=NullableValues(), metrics_enabled=False
    )
    try:
        for rejection in rejections:
            letter = dead_letter(records[rejection.record], rejection, source, 0)
            producer.send(
                dead,
                key=letter.key,
                value=NULL if letter.value is None else letter.value,
                headers=letter.headers,
                timestamp_ms=letter.timestamp,
                partition=0,
            ).get(20)
    finally:
        producer.close(10)

    letters = read_all(broker, dead, len(rejections))
    assert [(letter.key, letter.value) for letter in letters] == [(key, value) for key, value, _ in WRITTEN[1:]]
    assert [letter.timestamp for letter in letters] == [1_700_000_000_000 + offset for offset in (1, 2, 3, 4)]
    reasons = [b"null_value", b"null_value", b"not_json", b"content_type"]
    for offset, (letter, reason) in enumerate(zip(letters, reasons, strict=True), start=1):
        kept = [(name, value or b"") for name, value in WRITTEN[offset][2]]
        assert letter.headers[: len(kept)] == kept
        ours = dict(letter.headers[len(kept) :])
        assert ours.pop("error-detail") != b""
        assert ours == {
            "error-reason": reason,
            "source-topic": source.encode(),
            "source-partition": b"0",
            "source-offset": b"%d" % offset,
        }


both_deliveries = pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])


@both_deliveries
def test_many_records_older_than_the_dead_letters_topic_takes_arrive_there_with_new_timestamps(
    stage: Callable[..., Stage], delivery: str
) -> None:
    """At least once lost each batch of them; exactly once recovered every partition again and again, and said no more.

    Kafka refused the first batch while others were being sent, and kafka-python then only said that something had
    failed; and of several records whose timestamps are refused it says nothing of timestamps.
    """
    older = "message_timestamp_difference_max_ms" if is_before(3, 6) else "message_timestamp_before_max_ms"  # KIP-937
    here = stage(2, dead_letters={older: "3600000"}, delivery=delivery)
    day_ago, count = int(1000 * time.time()) - 86_400_000, 1500
    old = Batch([record(at, b"x" * 300) for at in range(count)], first_timestamp=day_ago, max_timestamp=day_ago)
    with running_worker(here.log, *here.flags) as worker:
        produce_raw(here.broker.bootstrap_servers, here.input, old.written)
        here.send([sample(reading) for reading in walk("phone", 12, seed=6)], partition=1)
        here.labels(2)
        letters = read_topic(here.broker.bootstrap_servers, here.dead_letters, until=lambda seen: len(seen) >= count)
        assert len(letters) == count
        assert min(letter.timestamp()[1] for letter in letters) > day_ago + 80_000_000
        assert worker.metric("stridecast_dead_letter_failures_total") == 0
        assert worker.metric("stridecast_partition_restarts_total") == 0


@both_deliveries
@pytest.mark.parametrize("why", ["too large", "no key"])
def test_many_dead_letters_that_their_topic_takes_at_no_time_hold_nothing_else_up(
    stage: Callable[..., Stage], delivery: str, why: str
) -> None:
    """Exactly once gave up one at most, recovered every partition, which forgot that, and so on."""
    config = {"max_message_bytes": "2000"} if why == "too large" else {"cleanup_policy": "compact"}
    here = stage(2, dead_letters=config, delivery=delivery)
    now, count = int(1000 * time.time()), 64
    value, key = (b"x" * 5000, b"key") if why == "too large" else (b"x" * 300, None)
    refused = Batch([record(at, value, key) for at in range(count)], first_timestamp=now, max_timestamp=now)
    with running_worker(here.log, *here.flags) as worker:
        here.send([(b"first", b"not JSON", [])])
        produce_raw(here.broker.bootstrap_servers, here.input, refused.written)
        here.send([(b"last", b"not JSON", [])])
        here.send([sample(reading) for reading in walk("phone", 12, seed=6)], partition=1)
        here.labels(2)
        letters = read_topic(here.broker.bootstrap_servers, here.dead_letters, until=lambda seen: len(seen) >= 2)
        assert {letter.key() for letter in letters} == {b"first", b"last"}
        worker.wait_for("stridecast_dead_letter_failures_total", count, at_most=count)
        assert worker.metric("stridecast_partition_restarts_total") == 0
        assert worker.terminate() == 0


@both_deliveries
@pytest.mark.parametrize("known", [False, True])
def test_dead_letters_whose_topic_is_gone_wait_for_it_and_nothing_else_does(
    stage: Callable[..., Stage], delivery: str, known: bool
) -> None:
    """Exactly once fenced itself every ten seconds, and said no label; at least once stood still for as long a record.

    The worker finds out by itself or by a send, as it has written to the topic before or hasn't.
    """
    here = stage(2, delivery=delivery)
    address = here.broker.bootstrap_servers
    bad: Message = (b"bad", b"not JSON", [])
    with running_worker(here.log, *here.flags) as worker:
        here.send([sample(reading) for reading in walk("before", 12, seed=6)])
        here.labels(4)
        if known:
            here.send([bad], partition=1)
            read_topic(address, here.dead_letters, until=lambda seen: len(seen) >= 1)
        with admin_client(address) as admin:
            admin.delete_topics([here.dead_letters])
        here.send([bad], partition=1)
        time.sleep(1.0)
        here.send([sample(reading) for reading in walk("beside", 12, seed=7)])
        here.send([sample(reading) for reading in walk("behind", 12, seed=8)], partition=1)
        devices = {label.identity[0] for label in here.labels(12)}
        assert devices == {b"before", b"beside", b"behind"}
        if delivery == "exactly_once" or not known:  # else Kafka is asked again and again for a minute
            worker.wait_to_say(f"dead letters can't go to {here.dead_letters}")
        assert worker.get("/livez")[0] == 200
        with admin_client(address) as admin:
            admin.create_topics({here.dead_letters: {"num_partitions": 1, "replication_factor": 1}})
        (letter,) = read_topic(address, here.dead_letters, until=lambda seen: len(seen) >= 1)
        assert letter.key() == b"bad"
        assert worker.metric("stridecast_transactions_total", outcome="fenced") == 0
        assert worker.metric("stridecast_partition_restarts_total") == 0
        assert worker.terminate() == 0
