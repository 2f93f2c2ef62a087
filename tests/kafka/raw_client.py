"""A client without any checks: record batches by the protocol guide, sent in one Produce request."""

import socket
import struct

import crc32c


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


def batch(records: list[bytes], timestamp_ms: int = 1000) -> bytes:
    """A record batch of message format v2, by the protocol guide."""
    after_crc = struct.pack(
        ">hiqqqhii", 0, len(records) - 1, timestamp_ms, timestamp_ms, -1, -1, -1, len(records)
    ) + b"".join(records)
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
