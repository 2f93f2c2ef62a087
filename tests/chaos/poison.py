"""Records made to crash a decoder, or whose dead letters make their topic refuse them."""

import gzip
import json
import random
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.expected import Content, Expected, Identity
from tests.chaos.load import BINARY, START_MS, Headers, Record

Message = tuple[bytes | None, bytes | None, Headers]
HOUR_MS = 3_600_000
MB = 1_000_000
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4

_NUMBERS = [
    *(0, -0.0, 1e-320, 1e308, -1e308, 1e999, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**40, 0.1, 1e-9),
    *(float("nan"), float("inf"), float("-inf")),
]
_OTHERS: list[object] = [
    None,
    True,
    False,
    "",
    "1",
    "x" * 300,
    [],
    {},
    [[]],
    [[1, 2]],
    [[1, 2, 3, 4]],
    "\ud800",
    "\x00",
]
_READING = struct.pack("<BBHfq3f", 1, 0, 1, 20.0, START_MS, 1, 2, 3)
_MORE_HEADERS: list[Headers] = [[], BINARY, [("", None)], [("x" * 2000, b"y" * 2000)]]
_DEVICES = ["poison", "", "p" * 128, "p" * 129, "жук", "\ud800", "p\x00q"]


def poison(rng: random.Random) -> Message:
    """Make one record; whether it can be read after all is for the reference to say."""
    make: Callable[[random.Random], Message] = rng.choice(
        [_broken_json, _broken_json, _strange_json, _strange_json, _binary_chunk, _binary_chunk, _noise, _odd_header]
    )
    return make(rng)


LARGEST_LETTER = 6000  # less than a batch of small ones, which has to be split
STRICT = {
    "message.timestamp.before.max.ms": str(HOUR_MS),
    "message.timestamp.after.max.ms": str(HOUR_MS),
    "max.message.bytes": str(LARGEST_LETTER),
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": str(24 * HOUR_MS),  # it refuses what it could not compact, and compacts nothing here
}
"""A topic of dead letters that takes none of wrong timestamps, too many bytes, or no key."""
ANY_TIME = {"message.timestamp.after.max.ms": str(2**63 - 1), "max.message.bytes": str(8 << 20)}


def unwelcome(rng: random.Random, at_s: float, partition: int) -> Record:
    """Make a record that is no JSON: a strict topic takes its dead letter, or refuses it, or its time."""
    key = rng.choice([None, b"", *[b"k" * rng.choice([1, 30, 255, 1000, 30_000])] * 5])
    size = rng.choice([1, 1, 30, 300, LARGEST_LETTER - 3000, LARGEST_LETTER, 100_000])
    hours = rng.choice([0, 0, 0, -2, -1000, 100, 2**31])
    timestamp = int(1000 * time.time()) + hours * HOUR_MS if hours else rng.choice([None, None, 1, 2**62])
    headers: Headers = [("mine", b"kept")] * rng.choice([0, 0, 1, 100])
    return Record(at_s, partition, key, rng.choice([b"x" * size, b"x" * size, None]), headers, timestamp)


def scattered(seed: int, *, partitions: int, seconds: float, count: int) -> list[Record]:
    """Make unwelcome records, half of them in three bursts."""
    rng = random.Random(seed)
    bursts = [rng.uniform(0, seconds) for _ in range(3)]
    times = (rng.choice([rng.uniform(0, seconds), rng.choice(bursts)]) for _ in range(count))
    return [unwelcome(rng, at, rng.randrange(partitions)) for at in times]


def gathered(seed: int, *, partitions: int, count: int) -> Iterator[list[Record]]:
    """Make so many unwelcome records for each partition, to be sent at once."""
    rng = random.Random(seed)
    for partition in range(partitions):
        yield [unwelcome(rng, 0.0, partition) for _ in range(count)]


def refused(expected: Expected) -> set[Identity]:
    """Return whose dead letters a strict topic takes at no time."""
    return {identity for identity, letter in expected.letters.items() if is_refused(letter)}


def is_refused(letter: Content) -> bool:
    """Tell whether a strict topic takes a dead letter at no time; none is near the limit."""
    return letter[0] is None or is_larger(letter, LARGEST_LETTER)


def is_larger(letter: Content, size: int) -> bool:
    key, value, headers = letter
    return len(key or b"") + len(value or b"") + sum(len(content) for _, content in headers) >= size


@dataclass(frozen=True)
class Bomb:
    """Records of one batch, which is small on the wire; the codec is Kafka's number of it."""

    records: list[Record]
    codec: int = 0
    compress: Callable[[bytes], bytes] | None = None


def bombs(rng: random.Random, partitions: int) -> Iterator[Bomb]:
    """Make batches that stand for far more than their bytes, or hold as many or as large parts as there may be."""
    for codec, size in [(GZIP, 100 * MB), (ZSTD, 100 * MB), (LZ4, 100 * MB), (SNAPPY, 60 * MB), (ZSTD, 30 * MB)]:
        yield _batch(rng, partitions, codec, [_zeros(size), binary_chunk(rng, 400)])  # and windows that close
    yield _batch(rng, partitions, GZIP, [_zeros(3 * MB)] * 20 + [(b"bomb", b"0" * (MB * 19 // 10), [])] * 20)
    yield _batch(rng, partitions, ZSTD, [(b"bomb", None, [("h", b"")] * rng.choice([10_000, 60_000]))] * 5)
    yield _batch(rng, partitions, ZSTD, [(b"bomb", b"{}", [("h" * 99, b"v" * 99)] * rng.randint(90, 110))] * 300)
    yield _batch(rng, partitions, ZSTD, [(b"bomb", b"{}", [("h", b"v" * 30_000)] * 100)] * 3)
    yield _batch(rng, partitions, rng.choice([0, ZSTD]), [(None, None, [])] * 20_000)
    yield _batch(rng, partitions, 0, [binary_chunk(rng, count) for count in (19_999, 20_000, 20_001)])
    yield _batch(rng, partitions, ZSTD, [json_chunk(rng, count) for count in (19_999, 20_000, 20_001)])
    keys = [(b"k" * length, rng.choice([_READING, b"{}"]), list(BINARY)) for length in range(300)]
    yield _batch(rng, partitions, rng.randrange(5), keys + [(b"k" * 2**power, b"{}", []) for power in range(20)])
    ids: list[Message] = [(None, _sample_of("d" * length), []) for length in range(300)]
    yield _batch(rng, partitions, rng.randrange(5), ids)
    step = rng.randint(2, 20)
    records = [Record(0.0, rng.randrange(partitions), b"bomb", b"not JSON")] * 3000
    yield Bomb(records, GZIP, lambda content: _members(content, step))


def bombs_everywhere(rng: random.Random, partitions: int) -> Iterator[Bomb]:
    """Make a batch for each partition, with a record that stands for 50 or 100 MB."""
    for partition in range(partitions):
        messages = [_zeros(rng.choice([50, 100]) * MB), binary_chunk(rng, 400)]
        yield Bomb([Record(0.0, partition, *message) for message in messages], ZSTD)


def too_much(rng: random.Random, partitions: int) -> Bomb:
    """Make a batch that nobody decompresses."""
    return _batch(rng, partitions, ZSTD, [_zeros(45 * MB)] * 3)


def _batch(rng: random.Random, partitions: int, codec: int, messages: list[Message]) -> Bomb:
    partition = rng.randrange(partitions)
    return Bomb([Record(0.0, partition, *message) for message in messages], codec)


def _zeros(size: int) -> Message:
    return b"bomb", b'{"device_id": "bomb", "start": 1, "rate_hz": 20, "samples": [' + b"0" * size + b"]}", []


def _members(content: bytes, step: int) -> bytes:
    """Compress so many bytes at a time, each to a gzip member of its own."""
    return b"".join(gzip.compress(content[at : at + step], 1) for at in range(0, len(content), step))


def binary_chunk(rng: random.Random, count: int) -> Message:
    head = struct.pack("<BBHfq", 1, 0, count, 20.0, START_MS)
    return f"large-{rng.random()}".encode(), head + struct.pack("<3f", 0.5, rng.gauss(9, 3), 1) * count, list(BINARY)


def json_chunk(rng: random.Random, count: int) -> Message:
    rows = [[round(rng.gauss(0, 4), 3), 9.0, 0.5] for _ in range(count)]
    value = {"device_id": f"large-{rng.random()}", "start": START_MS, "rate_hz": 20, "samples": rows, "note": "x" * MB}
    return None, json.dumps(value).encode(), []


def _sample_of(device: str) -> bytes:
    return json.dumps({"device_id": device, "timestamp": START_MS, "x": 1, "y": 2, "z": 3}).encode()


def _strange_json(rng: random.Random) -> Message:
    """Well-formed JSON whose fields hold what they shouldn't."""
    message = _message(rng)
    for name in rng.sample(sorted(message), k=rng.randint(1, 2)):
        change = rng.choice(["remove", "number", "other"])
        if change == "remove":
            del message[name]
        else:
            message[name] = rng.choice(_NUMBERS if change == "number" else _OTHERS)
    if rng.random() < 0.1:
        message[rng.choice(["samples", "x", "what"])] = json.loads("[" * 500 + "]" * 500)
    return rng.choice([b"poison", None, b"\xff"]), json.dumps(message).encode(), []


def _broken_json(rng: random.Random) -> Message:
    """JSON with bytes changed, cut out, put in, or with its end cut off."""
    value = bytearray(json.dumps(_message(rng)).encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(value) + 1)
        change = rng.randrange(4)
        if change == 0:
            value[at:] = b""
        elif change == 1:
            value[at : at + rng.randint(1, 9)] = b""
        elif change == 2:
            value[at:at] = rng.choice([b"\x00", b"\xff\xfe", b'"', b"\\", b"\\u12", b"[" * 2000, b"9" * 400, b"e"])
        else:
            value[at : at + 1] = rng.randbytes(1)
    return b"poison", bytes(value), []


def _message(rng: random.Random) -> dict[str, object]:
    device, at = rng.choice(_DEVICES), START_MS + rng.randrange(10**7)
    if rng.random() < 0.5:
        return {"device_id": device, "timestamp": at, "x": rng.gauss(0, 5), "y": 9.0, "z": rng.gauss(0, 5)}
    rows = [[rng.gauss(0, 5) for _ in range(3)] for _ in range(rng.choice([0, 1, 5, 200]))]
    return {"device_id": device, "start": at, "rate_hz": 20, "samples": rows}


def _binary_chunk(rng: random.Random) -> Message:
    """A binary chunk whose head lies, or whose floats are any bits."""
    count = rng.choice([0, 1, 3, 50])
    told = rng.choice([count, count, count, 0, 1, 20_001, 65_535])
    rate = rng.choice([20.0, 20.0, 0.0, -1.0, 1e-30, 1e30, 1000.0, float("nan"), float("inf")])
    start = rng.choice([START_MS, 0, -1, 2**53, -(2**53), 2**63 - 1, -(2**63)])
    head = struct.pack("<BBHfq", rng.choice([1, 1, 1, 0, 2, 255]), rng.choice([0, 0, 0, 7]), told, rate, start)
    body = rng.randbytes(12 * count) if rng.random() < 0.5 else struct.pack(f"<{3 * count}f", *[1.0] * (3 * count))
    value = (head + body)[: rng.choice([None, None, None, 0, 5, 15, 17])]
    return rng.choice([b"poison", b"poison", b"", None, b"\xff\xfe", b"p" * 129]), value, list(BINARY)


def _noise(rng: random.Random) -> Message:
    headers: Headers = list(BINARY) if rng.random() < 0.5 else []
    return rng.choice([b"poison", None]), rng.choice([None, rng.randbytes(rng.choice([0, 1, 16, 28, 3000]))]), headers


def _odd_header(rng: random.Random) -> Message:
    kind = rng.choice([None, b"", b"application/json", b"APPLICATION/JSON; charset=utf-8", b"\xff", b"text/csv"])
    key, value, _ = _broken_json(rng) if rng.random() < 0.5 else _strange_json(rng)
    return key, value, [("content-type", kind), *rng.choice(_MORE_HEADERS)]
