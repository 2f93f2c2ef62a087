"""How many labels a core publishes a second, from predictions to acknowledged records.

    python -m benchmarks.publishing [--labels 300000] [--batch 1024]

Starts Apache Kafka and publishes labels of 500 devices, of six classes, to eight partitions with acks=all and
idempotence: in bulk, as the workers do; one `KafkaProducer.send` a label, written by pydantic's JSON writer; and by
confluent-kafka's `produce`, of prepared bytes. Results are labels per second of CPU time, of all threads of this
process; Kafka runs in its own process on the same machine. All take turns, and the best turn of each counts.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import confluent_kafka
import kafka
import numpy as np
from kafka.structs import TopicPartition
from pydantic_core import to_json

from ingest.messages.labels import encode_activities
from ingest.producer.bulk import BulkProducer
from ingest.producer.producer import close_producer, open_producer
from ingest.producer.transactions import Transactions
from ingest.record_batches.bodies import unpack
from service.broker.node import Broker
from service.kafka_admin.topics import TopicSpec, ensure_topics

TOPIC, PARTITIONS, DEVICES, TURNS = "activities", 8, 500, 3
LABELS = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
WAIT_S = 120.0
ENCODING_S = 2.0

Columns = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--labels", type=int, default=300_000)
    parser.add_argument("--batch", type=int, default=1024, help="labels of one partition that are ready at once")
    options = parser.parse_args()
    packages = ("kafka-python", "confluent-kafka", "numba", "numpy", "pydantic")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    columns = predictions(options.batch)
    batches = max(PARTITIONS, options.labels // options.batch)
    size = len(encode_activities(**columns).content) / options.batch
    print(f"{batches} batches of {options.batch} labels, {size:.0f} bytes each; labels per second of CPU time\n")
    report("encoding alone, compiled", encoding(columns, encode_activities))
    report("encoding alone, pydantic's JSON", encoding(columns, one_by_one))
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "kafka", port=0) as broker:
        ensure_topics(broker.bootstrap_servers, [TopicSpec(TOPIC, PARTITIONS)])
        contenders: dict[str, Callable[[str, Columns, int], float]] = {
            "published in bulk": in_bulk,
            "published in bulk, in transactions": in_transactions,
            "pydantic and KafkaProducer.send": singly,
            "ready bytes by confluent-kafka": by_confluent_kafka,
        }
        best = dict.fromkeys(contenders, 0.0)
        for _ in range(TURNS):
            for name, publish in contenders.items():
                share = 10 if publish is singly else 1
                spent = publish(broker.bootstrap_servers, columns, max(PARTITIONS, batches // share))
                best[name] = max(best[name], max(PARTITIONS, batches // share) * options.batch / spent)
        for name, rate in best.items():
            report(name, rate)


def report(name: str, rate: float) -> None:
    print(f"{name:44}{rate:>12,.0f}", flush=True)


def predictions(count: int) -> Columns:
    """Return the columns of this many classified windows."""
    random = np.random.default_rng(0)
    ids = [b"device-%05d" % (number % DEVICES) for number in range(count)]
    return {
        "device_id": np.array(ids, "S128").view(np.uint8).reshape(count, 128),
        "id_size": np.array([len(device_id) for device_id in ids], np.int32),
        "start_ms": 1_700_000_000_000 + 50 * random.integers(0, 10_000_000, count),
        "probabilities": random.dirichlet(np.full(len(LABELS), 0.3), count).astype(np.float32),
        "familiarity": random.random(count, np.float32),
        "smoothed": random.integers(-1, len(LABELS), count),
        "measured": random.integers(70, 81, count, dtype=np.int32),
        "longest_gap_ms": 50 * random.integers(1, 5, count, dtype=np.int32),
        "by_silence": np.zeros(count, bool),
        "source_offset": np.sort(random.integers(0, 100_000_000, count)),
        "source_partition": 3,
        "labels": LABELS,
        "model": "har-cnn@1.0.0",
        "bundle_digest": "0" * 64,
    }


def one_by_one(**columns: Any) -> list[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
    """Encode without a compiled loop: a dict a label, for pydantic's JSON writer."""
    rounded = columns["probabilities"].astype(np.float64).round(6)
    constant = [("source-partition", b"%d" % columns["source_partition"])]
    constant.append(("bundle-digest", columns["bundle_digest"].encode()))
    names = ("id_size", "start_ms", "smoothed", "measured", "longest_gap_ms", "source_offset")
    familiarities = columns["familiarity"].astype(np.float64).round(6)
    rows = zip(*(columns[name].tolist() for name in names), familiarities.tolist(), rounded.tolist(), strict=True)
    encoded = []
    for row, (size, start, smoothed, measured, gap, offset, familiarity, probabilities) in enumerate(rows):
        device = columns["device_id"][row, :size].tobytes()
        confidence = max(probabilities)
        value = to_json(
            {
                "device_id": device.decode(),
                "window_start": start,
                "window_end": start + 4000,
                "activity": LABELS[probabilities.index(confidence)],
                "confidence": confidence,
                "probabilities": dict(zip(LABELS, probabilities, strict=True)),
                "familiarity": familiarity,
                "smoothed_activity": LABELS[smoothed] if smoothed >= 0 else None,
                "coverage": measured / 80,
                "longest_gap_ms": gap,
                "closed_by": "time",
                "model": columns["model"],
            }
        )
        encoded.append((device, value, [*constant, ("source-offset", b"%d" % offset)]))
    return encoded


def encoding(columns: Columns, encode: Callable[..., Any]) -> float:
    """Return the labels encoded a second of this thread's CPU time, in the best call within `ENCODING_S`."""
    encode(**columns)
    best, until = float("inf"), time.perf_counter() + ENCODING_S
    while time.perf_counter() < until:
        started = time.thread_time()
        encode(**columns)
        best = min(best, time.thread_time() - started)
    return len(columns["start_ms"]) / best


def in_bulk(bootstrap_servers: str, columns: Columns, batches: int) -> float:
    producer: BulkProducer = open_producer(bootstrap_servers=bootstrap_servers, client_id="bulk")
    producer.partitions_for(TOPIC)
    started = time.process_time()
    sendings = []
    for number in range(batches):
        bodies = encode_activities(**columns)
        where = TopicPartition(TOPIC, number % PARTITIONS)
        sendings.append(producer.send_bodies(where, bodies, int(1000 * time.time())))
        if number >= 4 * PARTITIONS:  # a worker's bound of unacknowledged batches
            sendings[number - 4 * PARTITIONS].get(WAIT_S)
    for sending in sendings:
        sending.get(WAIT_S)
    spent = time.process_time() - started
    close_producer(producer, WAIT_S)
    return spent


def in_transactions(bootstrap_servers: str, columns: Columns, batches: int) -> float:
    """Publish a batch of each partition in a transaction; without offsets, as there is no consumer group."""
    transactions = Transactions(
        bootstrap_servers=bootstrap_servers,
        client_id="transactions",
        transactional_id="benchmark",
        timeout_s=30.0,
        deadline_s=WAIT_S,
    )
    transactions._producer.partitions_for(TOPIC)
    started = time.process_time()
    for _ in range(batches // PARTITIONS):
        transactions.begin()
        sendings = [
            transactions.send_bodies(
                TopicPartition(TOPIC, number), encode_activities(**columns), int(1000 * time.time())
            )
            for number in range(PARTITIONS)
        ]
        transactions.await_sends(sendings)
        transactions._producer.commit_transaction()
    spent = time.process_time() - started
    transactions.close(WAIT_S)
    return spent * batches / (batches // PARTITIONS * PARTITIONS)


def singly(bootstrap_servers: str, columns: Columns, batches: int) -> float:
    producer: kafka.KafkaProducer = open_producer(bootstrap_servers=bootstrap_servers, client_id="singly")
    producer.partitions_for(TOPIC)
    started = time.process_time()
    for number in range(batches):
        sent = [
            producer.send(TOPIC, key=key, value=value, headers=headers, partition=number % PARTITIONS)
            for key, value, headers in one_by_one(**columns)
        ]
        if number % PARTITIONS == PARTITIONS - 1 or number == batches - 1:
            sent[-1].get(WAIT_S)
    producer.flush()
    spent = time.process_time() - started
    close_producer(producer, WAIT_S)
    return spent


def by_confluent_kafka(bootstrap_servers: str, columns: Columns, batches: int) -> float:
    """Produce prepared bytes; each label's acknowledgement is counted, as a worker would have to."""
    labels: list[tuple[bytes, bytes, Any]] = list(unpack(encode_activities(**columns)))
    client = confluent_kafka.Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.messages": 200_000,
        }
    )
    client.list_topics(TOPIC, timeout=10)
    acknowledged = 0

    def count(error: Any, _message: Any) -> None:
        nonlocal acknowledged
        acknowledged += error is None

    started = time.process_time()
    for number in range(batches):
        for key, value, headers in labels:
            while True:
                try:
                    client.produce(TOPIC, value, key, number % PARTITIONS, on_delivery=count, headers=headers)
                    break
                except BufferError:
                    client.poll(0.05)
        client.poll(0)
    client.flush(WAIT_S)
    spent = time.process_time() - started
    if acknowledged != batches * len(labels):
        raise SystemExit("Kafka did not take all labels")
    return spent


if __name__ == "__main__":
    main()
