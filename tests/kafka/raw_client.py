"""A client without any checks: whatever bytes, sent in one Produce request."""

import socket
import struct

NO_ERROR = 0


def produce_raw(bootstrap_servers: str, topic: str, content: bytes, partition: int = 0) -> int:
    """Send record batches in one Produce request (version 7); return the first's offset.

    Raises AssertionError if they are refused.
    """
    name = topic.encode()
    body = struct.pack(">hhi", -1, -1, 10_000) + struct.pack(">i", 1) + struct.pack(">h", len(name)) + name
    body += struct.pack(">iii", 1, partition, len(content)) + content
    header = struct.pack(">hhih", 0, 7, 1, 3) + b"raw"
    host, port = bootstrap_servers.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(header + body)) + header + body)
        (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
        answer = connection.recv(size, socket.MSG_WAITALL)
    # correlation, number of topics, the topic's name, number of partitions, the partition, and what became of it
    error, offset = struct.unpack_from(">hq", answer, 4 + 4 + 2 + len(name) + 4 + 4)
    assert error == NO_ERROR, f"refused with error {error}"
    return int(offset)
