"""The cost of exactly once beside at least once: throughput of a backlog, and latency at a steady rate.

    python -m benchmarks.delivery --rounds 3

Starts a new Apache Kafka for each run. A read_committed reader of another client library (librdkafka) records when it
receives each label. A label's latency is that time minus the broker's timestamp of the record that closed its window.
"""

import argparse
import multiprocessing
import os
import platform
import signal
import tempfile
import time
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path

import confluent_kafka
import numpy as np

from benchmarks.latency import DEAD, INPUT, OUTPUT, cpu_seconds, produce, read, start_worker
from service.broker.node import Broker
from service.kafka_admin.topics import TopicSpec, ensure_topics

MODES = ("at_least_once", "exactly_once")
PARTITIONS = 8
SETTLED_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30, help="of the steady rate")
    parser.add_argument("--warm-up", type=float, default=10, help="seconds at its start that are not counted")
    parser.add_argument("--backlog", type=int, default=400_000, help="samples of the backlog")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("kafka-python", "numba", "numpy", "torch"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(options.rounds):
        for mode in MODES if number % 2 == 0 else reversed(MODES):
            rates[mode].append(drain(mode, options))
            steady(mode, options)
    ratio = np.median(np.array(rates["exactly_once"]) / np.array(rates["at_least_once"]))
    print(f"throughput of exactly_once / at_least_once, median of {options.rounds} pairs: {ratio:.2f}")


def drain(mode: str, options: argparse.Namespace) -> float:
    """Label a backlog; return samples a second from the first label to the last."""
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "kafka", port=0) as broker:
        make_topics(broker.bootstrap_servers)
        send_backlog(broker.bootstrap_servers, options.devices, options.backlog)
        with Reader(broker.bootstrap_servers) as reader:
            process = start_worker(broker.bootstrap_servers, Path(folder) / "log", "", "--delivery", mode)
            labels = reader.settled()
            cpu = cpu_seconds(process.pid)
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        seen = np.sort(labels[:, 0])
        rate = options.backlog / (seen[-1] - seen[0])
        print(
            f"{mode:14} backlog: {len(seen)} labels, {rate:,.0f} samples/s, "
            f"{1e6 * cpu / options.backlog:.1f} CPU-seconds a million (start included)"
        )
        return float(rate)


def steady(mode: str, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "kafka", port=0) as broker:
        make_topics(broker.bootstrap_servers)
        with Reader(broker.bootstrap_servers) as reader:
            process = start_worker(broker.bootstrap_servers, Path(folder) / "log", "", "--delivery", mode)
            before = cpu_seconds(process.pid)
            produce(broker.bootstrap_servers, options.devices, options.seconds)
            labels = reader.settled()
            cpu = cpu_seconds(process.pid) - before
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        stamps = {(m.partition(), m.offset()): m.timestamp()[1] for m in read(broker.bootstrap_servers, INPUT)}
        count_from = min(stamps.values()) + 1000 * options.warm_up
        closed = np.array([stamps[int(partition), int(offset)] for _, partition, offset in labels])
        taken = (1000 * labels[:, 0] - closed)[closed >= count_from]
        p50, p90, p99 = np.percentile(taken, [50, 90, 99])
        print(
            f"{mode:14} steady: {len(taken)} labels  latency ms p50 {p50:.0f}  p90 {p90:.0f}  p99 {p99:.0f}  "
            f"max {taken.max():.0f}  CPU-seconds a million messages {1e6 * cpu / len(stamps):.1f}"
        )


def make_topics(bootstrap_servers: str) -> None:
    stamped = {"message.timestamp.type": "LogAppendTime"}
    topics = [TopicSpec(name, PARTITIONS, stamped) for name in (INPUT, OUTPUT)]
    ensure_topics(bootstrap_servers, [*topics, TopicSpec(DEAD, 1)])


def send_backlog(bootstrap_servers: str, devices: int, samples: int, *, until: float | None = None) -> None:
    """Send samples of devices at 20 Hz, the last ones taken now, or at another epoch second."""
    client = confluent_kafka.Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 20})
    random = np.random.default_rng(0)
    values = [f'"x":{x:.4f},"y":{y:.4f},"z":{z:.4f}}}' for x, y, z in random.normal(0, 5, (997, 3))]
    start = int(1000 * (until or time.time())) - 50 * (samples // devices)
    for number in range(samples):
        beat, device = divmod(number, devices)
        value = f'{{"device_id":"device-{device:05d}","timestamp":{start + 50 * beat},{values[number % 997]}'
        while True:
            try:
                client.produce(INPUT, value, partition=device % PARTITIONS)
                break
            except BufferError:
                client.poll(0.1)
    client.flush(60)


class Reader:
    """A read_committed reader in its own process."""

    def __init__(self, bootstrap_servers: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_note, args=(bootstrap_servers, there))

    def __enter__(self) -> "Reader":
        self._process.start()
        assert self._here.recv() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def settled(self) -> np.ndarray:
        """Return (received at, source partition, source offset) of each label, once none has come for some seconds."""
        self._here.send("when settled")
        labels: np.ndarray = self._here.recv()
        return labels


def _note(bootstrap_servers: str, pipe: Connection) -> None:
    settings = {"group.id": "bench", "isolation.level": "read_committed", "fetch.wait.max.ms": 10}
    client = confluent_kafka.Consumer({"bootstrap.servers": bootstrap_servers, **settings})
    client.assign([confluent_kafka.TopicPartition(OUTPUT, number, 0) for number in range(PARTITIONS)])
    pipe.send("ready")
    labels: list[tuple[float, int, int]] = []
    asked, last = False, time.time()
    while not (asked and labels and time.time() - last > SETTLED_S):
        asked = asked or pipe.poll()
        for message in client.consume(1000, timeout=0.002):
            if not message.error():
                last = time.time()
                headers: dict[str, bytes] = dict(message.headers() or ())  # type: ignore[arg-type]
                labels.append((last, int(headers["source-partition"]), int(headers["source-offset"])))
    pipe.send(np.array(labels))


if __name__ == "__main__":
    main()
