"""Records whose header names are not UTF-8, as raw clients can write them."""

import socket
import struct
from collections.abc import Callable

import crc32c
import kafka
import pytest
from kafka.errors import CorruptRecordError
from kafka.structs import TopicPartition

from ingest.header_names import PartitionRecords
from service.broker import Broker


def varint(value: int) -> bytes:
    encoded, rest = b"", value << 1 if value >= 0 else (-value << 1) - 1
    while rest > 127:
        encoded += bytes([rest & 127 | 128])
        rest >>= 7
    return encoded + bytes([rest])


def record(offset: int, value: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    body = b"\0" + varint(0) + varint(offset) + varint(-1) + varint(len(value)) + value + varint(len(headers))
    for name, content in headers:
        body += varint(len(name)) + name + varint(len(content)) + content
    return varint(len(body)) + body


def batch(records: list[bytes]) -> bytes:
    """A record batch of message format v2, by the protocol guide."""
    after_crc = struct.pack(">hiqqqhii", 0, len(records) - 1, 1000, 1000, -1, -1, -1, len(records)) + b"".join(records)
    rest = struct.pack(">ibI", 0, 2, crc32c.crc32c(after_crc)) + after_crc
    return struct.pack(">qi", 0, len(rest)) + rest


def produce_raw(bootstrap_servers: str, topic: str, content: bytes) -> None:
    """Send one Produce request (version 3), the way a client without any checks would."""
    name = topic.encode()
    body = struct.pack(">hhi", -1, -1, 10_000) + struct.pack(">i", 1) + struct.pack(">h", len(name)) + name
    body += struct.pack(">iii", 1, 0, len(content)) + content
    header = struct.pack(">hhih", 0, 3, 1, 3) + b"raw"
    host, port = bootstrap_servers.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(header + body)) + header + body)
        assert len(connection.recv(4)) == 4


def read(
    broker: Broker, topic: str, count: int, records_class: type | None
) -> list[tuple[bytes, list[tuple[str, bytes]]]]:
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        if records_class is not None:
            consumer._fetcher.PartitionRecords = records_class
        consumer.assign([TopicPartition(topic, 0)])
        found: list[tuple[bytes, list[tuple[str, bytes]]]] = []
        for _ in range(100):
            for records in consumer.poll(timeout_ms=200).values():
                found += [(each.value, list(each.headers)) for each in records]
            if len(found) >= count:
                break
        return found
    finally:
        consumer.close()


def test_a_header_name_that_is_not_utf8_is_escaped_and_its_neighbours_are_read(
    broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic()
    odd = [(b"\xff\xfe", b"kept"), (b"content-type", b"application/json")]
    produce_raw(
        broker.bootstrap_servers,
        name,
        batch([record(0, b"before", [(b"fine", b"1")]), record(1, b"odd", odd), record(2, b"after", [])]),
    )
    with pytest.raises(
        CorruptRecordError, match="UnicodeDecodeError"
    ):  # as long as this raises, we need what this file tests
        read(broker, name, 3, None)
    assert read(broker, name, 3, PartitionRecords) == [
        (b"before", [("fine", b"1")]),
        (b"odd", [("\\xff\\xfe", b"kept"), ("content-type", b"application/json")]),
        (b"after", []),
    ]
