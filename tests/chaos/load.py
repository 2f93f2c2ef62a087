"""Readings of many devices as phones really send them, and worse, sent at a pace and remembered with their offsets."""

import itertools
import json
import math
import random
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import confluent_kafka
import numpy as np

from tests.ingest.batches import Batch
from tests.ingest.batches import record as written_record
from tests.kafka.outside_client import producer
from tests.kafka.raw_client import produce_raw

START_MS = 1_700_000_000_000
LATENESS_MS = 200
FAREWELL_MS = 30_000
Headers = list[tuple[str, bytes | None]]
BINARY: Headers = [("content-type", b"application/vnd.stridecast.chunk")]
# All of them have an exact float32, which a binary chunk's rate is.
RATES_HZ = (20.0, 20.0, 20.0, 25.0, 50.0, 12.5, 10.0)

# Brokers that go away are what happens here; librdkafka says so on standard error, at length.
QUIET = {"log_level": 0}


@dataclass(frozen=True, slots=True)
class Record:
    """One record to send to a partition, ``at_s`` seconds after the load has begun."""

    at_s: float
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)
    timestamp_ms: int | None = None
    """As a producer gives it; else it is that of the sending."""


NOWHERE_KNOWN = -1


@dataclass(frozen=True, slots=True)
class Sent:
    """A record that Kafka has acknowledged; where it lies in the log, or NOWHERE_KNOWN."""

    record: Record
    offset: int
    timestamp_ms: int


def messy_devices(
    seed: int,
    *,
    partitions: int,
    devices: int,
    seconds: float,
    speed: float = 1.0,
    bad_share: float = 0.01,
    start_s: float = 0.0,
    farewell: bool = True,
    leave_at_s: Sequence[float] = (),
) -> list[Record]:
    """Return the records of so many devices in each partition, in the order of sending.

    ``seconds`` is how long the sending takes; clocks in the messages begin at ``start_s`` and run ``speed`` times as
    fast. Each device's stream ends in one reading that is far ahead of it, which closes by time all that was open;
    without ``farewell`` it just ends, and so do the streams of the first devices of each partition at ``leave_at_s``.
    Records that can't be read lie among them.
    """
    rng = random.Random(seed)
    streams = []
    for partition, number in itertools.product(range(partitions), range(devices)):
        device = f"phone-{partition}-{number}"
        length = leave_at_s[number] if number < len(leave_at_s) else seconds
        end_s = start_s + length * speed
        messages = list(_device(device, start_s, end_s, rng))
        if farewell and number >= len(leave_at_s):
            messages.append((end_s + 1.0, _sample(device, START_MS + int(1000 * end_s) + FAREWELL_MS, rng)))
        streams += [Record((at - start_s) / speed, partition, *message) for at, message in messages]
    bad = (Record(record.at_s, record.partition, *rng.choice(_BAD)) for record in streams if rng.random() < bad_share)
    return sorted([*streams, *bad], key=lambda record: record.at_s)


def made_up_devices(seed: int, *, partition: int, count: int) -> list[Record]:
    """Return one reading each of so many devices that nobody will hear of again; the record's key is their id."""
    rng = random.Random(seed)
    ids = [b"made-up-%x" % rng.getrandbits(64) for _ in range(count)]
    head = struct.pack("<BBHfq", 1, 0, 1, 20.0, START_MS)
    return [Record(0.0, partition, device, head + _xyz(1, rng).tobytes(), list(BINARY)) for device in ids]


def texts(seed: int, *, partitions: int, count: int, seconds: float, words: Sequence[str]) -> list[Record]:
    """Return texts of those words in the order of sending; some ids repeat, and some records can't be read."""
    rng = random.Random(seed)
    records = []
    for number in range(count):
        at, partition = number * seconds / count, rng.randrange(partitions)
        if rng.random() < 0.01:
            records.append(Record(at, partition, b"bad", rng.choice([b"not JSON", b'{"id": 7}', None])))
            continue
        text_id = f"text-{rng.randrange(count)}"
        value = {"id": text_id, "text": " ".join(rng.choices(words, k=rng.randint(1, 25)))}
        records.append(Record(at, partition, text_id.encode(), json.dumps(value).encode()))
    return records


Message = tuple[bytes | None, bytes | None, Headers]

_BAD: list[Message] = [
    (b"k1", b"not JSON", [("mine", b"kept")]),
    (None, None, []),
    (b"k3", b'{"device_id": "bad", "timestamp": "1700000000000", "x": 1, "y": 2, "z": 3}', []),
    (b"k4", b'{"device_id": "bad", "timestamp": 1700000000000, "x": NaN, "y": 2, "z": 3}', []),
    (b"k5", b'{"device_id": "bad", "start": 1700000000000, "rate_hz": 0, "samples": [[1, 2, 3]]}', []),
    (b"k6", b"\xff\xfe", BINARY),
    (b"k7", b"x", [("content-type", b"text/plain")]),
]


def _device(device: str, start_s: float, end_s: float, rng: random.Random) -> Iterator[tuple[float, Message]]:
    """Give what one device sends, and when by its own clock in seconds."""
    clock = start_s + rng.uniform(0, 0.5)
    while clock < end_s:
        rate = rng.choice(RATES_HZ)
        count = min(rng.randint(1, 60), math.ceil((end_s - clock) * rate))
        form = rng.choice([_samples, _samples, _chunk, _binary_chunk])
        until = clock + count / rate
        for at, message in form(device, clock, rate, count, rng):
            yield at, message
            if rng.random() < 0.03:  # a producer that sends again what it isn't sure of
                yield at + rng.choice([0.0, 0.1, 3.0]), message
        clock = until
        if rng.random() < 0.06:
            clock += rng.choice([0.2, 0.3, 1.0, 5.0])


def _samples(device: str, start: float, rate: float, count: int, rng: random.Random) -> Iterator[tuple[float, Message]]:
    """Single readings, with jitter, some missing, in another order by less than the lateness."""
    for number in range(count):
        if rng.random() < 0.02:
            continue
        at_ms = START_MS + round(1000 * (start + number / rate)) + rng.randint(-12, 12)
        late_s = rng.uniform(0, LATENESS_MS / 1000 - 0.05) if rng.random() < 0.2 else 0.0
        yield start + number / rate + late_s, _sample(device, at_ms, rng)


def _sample(device: str, at_ms: int, rng: random.Random) -> Message:
    x, y, z = _xyz(1, rng)[0].tolist()
    value = {"device_id": device, "timestamp": at_ms, "x": x, "y": y, "z": z}
    return device.encode(), json.dumps(value).encode(), []


def _chunk(device: str, start: float, rate: float, count: int, rng: random.Random) -> list[tuple[float, Message]]:
    rows = _xyz(count, rng).tolist()
    value = {"device_id": device, "start": START_MS + round(1000 * start), "rate_hz": rate, "samples": rows}
    return [(start + count / rate, (device.encode(), json.dumps(value).encode(), []))]


def _binary_chunk(
    device: str, start: float, rate: float, count: int, rng: random.Random
) -> list[tuple[float, Message]]:
    head = struct.pack("<BBHfq", 1, 0, count, rate, START_MS + round(1000 * start))
    return [(start + count / rate, (device.encode(), head + _xyz(count, rng).tobytes(), list(BINARY)))]


def _xyz(count: int, rng: random.Random) -> np.ndarray:
    values = [[rng.gauss(0.5, 4), rng.gauss(9.0, 4), rng.gauss(0.3, 4)] for _ in range(count)]
    return np.array(values, dtype="<f4")


class Load(threading.Thread):
    """Sends records at their times, from a thread of its own; ``wait`` ends it, and ``sent`` is what Kafka has then.

    In each partition the log has them once, in the order given: the producer is idempotent, and tries for minutes.
    """

    def __init__(self, bootstrap_servers: str, topic: str, records: Sequence[Record]) -> None:
        super().__init__(name="load", daemon=True)
        self.sent: list[Sent] = []
        self._topic = topic
        self._records = records
        self._cut = threading.Event()
        self._failures: list[str] = []
        self._error: BaseException | None = None
        self._client = producer(
            bootstrap_servers,
            **{"enable.idempotence": True, "message.timeout.ms": 300_000, "queue.buffering.max.messages": 1_000_000},
            **QUIET,
        )
        self.start()

    def run(self) -> None:
        """Send; what goes wrong waits for ``wait``."""
        try:
            self._send()
        except BaseException as error:
            self._error = error

    def wait(self, timeout_s: float = 600, *, known: bool = True) -> list[Sent]:
        """Wait until all has been sent and acknowledged; where each record lies is known unless ``known`` is false."""
        self.join(timeout_s)
        assert not self.is_alive(), "the load is not done"
        if self._error is not None:
            raise self._error
        assert not self._failures, self._failures[:3]
        unknown = sum(each.offset == NOWHERE_KNOWN for each in self.sent)
        assert not (known and unknown), f"Kafka has {unknown} records from before, and doesn't say where"
        return self.sent

    def cut_short(self) -> list[Sent]:
        """Send no more, and wait for what has been sent."""
        self._cut.set()
        return self.wait()

    def _send(self) -> None:
        began = time.monotonic()
        for record in self._records:
            while (early := record.at_s - (time.monotonic() - began)) > 0 and not self._cut.is_set():
                self._client.poll(min(early, 0.1))
            if self._cut.is_set():
                break
            self._produce(record)
        assert self._client.flush(300) == 0, "Kafka has not acknowledged all that was sent"

    def _produce(self, record: Record) -> None:
        def arrived(error: Any, message: confluent_kafka.Message) -> None:
            if error is not None:
                self._failures.append(str(error))
                return
            offset = message.offset()
            place = NOWHERE_KNOWN if offset is None else offset
            self.sent.append(Sent(record, place, message.timestamp()[1]))

        while True:
            try:
                self._client.produce(
                    self._topic,
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                    partition=record.partition,
                    timestamp=record.timestamp_ms or 0,
                    on_delivery=arrived,
                )
                self._client.poll(0)
                return
            except BufferError:
                self._client.poll(0.1)


def send_at_once(
    bootstrap_servers: str,
    topic: str,
    records: Sequence[Record],
    codec: int = 0,
    compress: Callable[[bytes], bytes] | None = None,
) -> list[Sent]:
    """Send the records of one partition in one batch of one request, compressed by the codec of this number."""
    now_ms, partition = int(1000 * time.time()), records[0].partition
    times = [now_ms if record.timestamp_ms is None else record.timestamp_ms for record in records]
    written = [
        written_record(
            number,
            record.value,
            record.key,
            [(name.encode(), content) for name, content in record.headers],
            times[number] - times[0],
        )
        for number, record in enumerate(records)
    ]
    batch = Batch(
        written, attributes=codec, first_timestamp=times[0], max_timestamp=max(times), compress=compress
    ).written
    first = produce_raw(bootstrap_servers, topic, batch, partition)
    return [Sent(record, first + number, times[number]) for number, record in enumerate(records)]


def by_partition(sent: Iterable[Sent]) -> dict[int, list[Sent]]:
    """Sort what was sent as it lies in the log."""
    logs: dict[int, list[Sent]] = {}
    for each in sorted(sent, key=lambda each: each.offset):
        logs.setdefault(each.record.partition, []).append(each)
    return logs
