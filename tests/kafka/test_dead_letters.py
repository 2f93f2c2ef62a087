"""Dead letters through Apache Kafka itself: what another client wrote is kept as it was."""

from collections.abc import Callable
from typing import Any

import confluent_kafka
import kafka

from ingest.dead_letters import NULL, NullableValues, dead_letter
from ingest.decode import decode
from service.broker.node import Broker

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
