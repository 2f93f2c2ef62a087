"""How fast a partition's windows are rebuilt from its log: a replay without output, in stages and as a whole.

    python -m benchmarks.recovery [--records 1000000] [--codec none]

Starts Apache Kafka, writes single-sample JSON of 500 devices at 20 Hz to one partition with another client library, and
replays it: first reading only, then decoding and windowing as well, as a worker does when it is assigned the partition.
Reading is compared with kafka-python's own reader and with confluent-kafka's. CPU-seconds are this process's, of all
its threads; Kafka runs in its own process on the same machine.
"""

import argparse
import os
import platform
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import confluent_kafka
import kafka
import numpy as np
from kafka.consumer.fetcher import Fetcher
from kafka.structs import OffsetAndMetadata, TopicPartition
from prometheus_client import CollectorRegistry

from ingest.consumer.consumer import open_consumer
from ingest.consumer.fetch_progress import FetchProgress
from ingest.consumer.rebalance_listener import RebalanceListener
from ingest.messages.decode import decode
from ingest.record_batches.record_columns import Records
from ingest.rejections import Reason
from service.broker.node import Broker
from service.kafka_admin.topics import TopicSpec, ensure_topics
from service.monitoring.metrics import Families, WindowMetrics, WorkerMetrics
from service.pipeline.each_window import EachWindow
from windowing import Windower, warm_up

TOPIC, SOURCE = "accelerometer", TopicPartition("accelerometer", 0)
DEVICES = 500
POLL_MS = 200

Polls = Iterator[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--codec", choices=["none", "gzip", "snappy", "lz4", "zstd"], default="none")
    options = parser.parse_args()
    packages = ("kafka-python", "confluent-kafka", "msgspec", "numba", "numpy")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    print(f"{options.records:,} samples of {DEVICES} devices in one partition, compression {options.codec}\n")
    warm_up()
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "kafka", port=0) as broker:
        ensure_topics(broker.bootstrap_servers, [TopicSpec(TOPIC, 1)])
        produce(broker.bootstrap_servers, options.records, options.codec)
        measure(broker.bootstrap_servers, options.records)


def measure(bootstrap_servers: str, records: int) -> None:
    print(f"{'seconds a million records':44}{'CPU':>8}{'wall':>8}")
    ours = partial(polls_of_ours, bootstrap_servers, records, "ours")
    stock = partial(polls_of_ours, bootstrap_servers, records, "stock", reader=Fetcher.PartitionRecords)
    others = partial(polls_of_confluent_kafka, bootstrap_servers, records)
    report("reading, kafka-python's own reader", *after_the_first(stock(), forget))
    report("reading, confluent-kafka", *after_the_first(others(), forget))
    report("reading", *after_the_first(ours(), forget))
    for name, spent in parts(ours()).items():
        report(name, spent / records, None)
    report("mute replay, kafka-python's own reader", *after_the_first(stock(), rebuild()))
    report("mute replay", *after_the_first(ours(), rebuild()))


def report(name: str, cpu_s: float, wall_s: float | None) -> None:
    wall = "" if wall_s is None else f"{1e6 * wall_s:8.2f}"
    print(f"{name:44}{1e6 * cpu_s:8.2f}{wall}", flush=True)


def forget(_records: Any) -> None:
    pass


def rebuild() -> Callable[[Records], None]:
    """Return what a worker's feed does with the records before its position."""
    registry = Families(CollectorRegistry())
    metrics = WindowMetrics(WorkerMetrics(registry, "activity", topics=[TOPIC], reasons=list(Reason), labels=[]))
    stream = EachWindow(SOURCE, decode, Windower(), metrics, weakref.WeakSet(), smoother=None, max_devices=65_536)

    def push(records: Records) -> None:
        _, closed_before = stream.push(records, time.monotonic(), mute=True)
        for _ in closed_before:
            pass

    return push


def after_the_first(polls: Polls, take: Callable[[Any], None]) -> tuple[float, float]:
    """Return the CPU and wall seconds a record, from the second poll on: joining the group is not measured."""
    take(next(polls))
    count, cpu, wall = 0, time.process_time(), time.perf_counter()
    for records in polls:
        take(records)
        count += len(records)
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def parts(polls: Polls) -> dict[str, float]:
    """Return the CPU-seconds of decoding and of windowing, on the thread that does them."""
    spent = {"decoding": 0.0, "windowing": 0.0}
    windower = Windower()
    for records in polls:
        started = time.thread_time()
        readings, _ = decode(records)
        decoded = time.thread_time()
        offsets = records.offset[readings.record]
        ids = (readings.ids, readings.id_at, readings.id_end)
        at, total = 0, len(offsets)
        while at < total:
            at = windower.push(*ids, readings.timestamp_ms, readings.xyz, offsets, 0.0, at).consumed
        spent["decoding"] += decoded - started
        spent["windowing"] += time.thread_time() - decoded
    return spent


def polls_of_ours(bootstrap_servers: str, records: int, group: str, reader: type | None = None) -> Polls:
    """Yield what the workers' consumer polls, with another reader if one is named."""
    nothing: dict[TopicPartition, OffsetAndMetadata] = {}
    listener = RebalanceListener(
        assigned=lambda _: None,
        settled=lambda _: True,
        snapshots=lambda _: nothing,
        committed=lambda *_: None,
        released=lambda _: None,
        nothing_in_flight=lambda _: True,
        clock=time.monotonic,
        deadline_s=0.0,
    )
    consumer: kafka.KafkaConsumer = open_consumer(
        TOPIC, listener, FetchProgress(), bootstrap_servers=bootstrap_servers, group_id=group, client_id=group
    )
    try:
        if reader is not None:
            consumer._fetcher.PartitionRecords = reader
        while not consumer.assignment():
            consumer.poll(timeout_ms=POLL_MS)
        consumer.seek(SOURCE, 0)
        consumer.resume(SOURCE)
        while records > 0:
            for polled in consumer.poll(timeout_ms=POLL_MS).values():
                found = Records.join(polled) if reader is None else Records.of(polled)
                records -= len(found)
                yield found
    finally:
        consumer.close(autocommit=False)


def polls_of_confluent_kafka(bootstrap_servers: str, records: int) -> Polls:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "unused"})
    try:
        consumer.assign([confluent_kafka.TopicPartition(TOPIC, 0, 0)])
        while records > 0:
            messages = consumer.consume(4000, timeout=POLL_MS / 1000)
            records -= len(messages)
            if messages:
                yield [(m.value(), m.key(), m.headers(), m.timestamp(), m.offset()) for m in messages]
    finally:
        consumer.close()


def produce(bootstrap_servers: str, records: int, codec: str) -> None:
    client = confluent_kafka.Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "linger.ms": 20,
            "compression.type": codec,
            "queue.buffering.max.messages": 200_000,
        }
    )
    random = np.random.default_rng(0)
    tails = [f'"x":{x:.4f},"y":{y:.4f},"z":{z:.4f}}}' for x, y, z in random.normal(0, 5, (997, 3))]
    ids = [f"device-{number:05d}" for number in range(DEVICES)]
    started_ms = int(1000 * time.time()) - 50 * (records // DEVICES)
    for number in range(records):
        beat, device = divmod(number, DEVICES)
        stamp = started_ms + 50 * beat + device % 50
        value = f'{{"device_id":"{ids[device]}","timestamp":{stamp},{tails[number % 997]}'
        while True:
            try:
                client.produce(TOPIC, value, key=ids[device], partition=0, timestamp=stamp)
                break
            except BufferError:
                client.poll(0.1)
        if number % 10_000 == 0:
            client.poll(0)
    if client.flush(60):
        raise SystemExit("Kafka did not take all records")


if __name__ == "__main__":
    main()
