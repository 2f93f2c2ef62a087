"""End to end through Apache Kafka: what a backlog of single samples costs to label, beside two plain loops.

    python -m benchmarks.drain [--samples 1000000] [--devices 500] [--rounds 1]

Each contender first drains a small backlog, which compiles, imports and warms everything; then it is stopped (SIGSTOP)
while the measured one is written, and let go. Counted are its CPU-seconds, of all its threads, and the wall seconds
from there to its last label. `constant` answers every window alike: it is the pipeline without its model. The plain
loops do less: no event time, no gaps, no late readings, no dead letters, no recovery.
"""

import argparse
import os
import platform
import signal
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path

import confluent_kafka
import numpy as np

from benchmarks.delivery import PARTITIONS, make_topics, send_backlog
from benchmarks.latency import OUTPUT, cpu_seconds, start_loop, start_worker
from inference.architectures import build
from inference.bundle import ArchitectureChoice, Description, Input, Training, find_bundle, load_bundle, save_bundle
from service.broker import Broker
from service.processes import resident_bytes

LOOPS = ("confluent-kafka", "kafka-python")
WARM_UP = 100_000
QUIET_S = 4.0
SESSION_S = 60  # a stopped member must not be expelled


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--contenders", nargs="+", default=["stridecast", *LOOPS], choices=["stridecast", *LOOPS])
    parser.add_argument("--models", nargs="+", default=["constant", "har-cnn"], help="bundles")
    options = parser.parse_args()
    packages = ("kafka-python", "confluent-kafka", "msgspec", "numba", "numpy", "torch")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    print(f"{options.samples:,} samples of {options.devices:,} devices, {PARTITIONS} partitions\n")
    print(f"{'':18}{'model':>12}{'CPU-s a million':>17}{'samples/s':>12}{'labels':>9}{'MB':>7}")
    with tempfile.TemporaryDirectory() as folder:
        bundles = {name: constant_bundle(Path(folder)) if name == "constant" else name for name in options.models}
        for _ in range(options.rounds):
            for model, bundle in bundles.items():
                for contender in options.contenders:
                    measure(contender, model, bundle, options)


def measure(contender: str, model: str, bundle: str, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "kafka", port=0) as broker:
        make_topics(broker.bootstrap_servers)
        process = start(contender, broker.bootstrap_servers, Path(folder) / "log", bundle)
        output = Output(broker.bootstrap_servers)
        try:
            span_s = options.samples / options.devices / 20
            earlier = time.time() - span_s - 1
            warm_up = max(WARM_UP, 130 * options.devices)
            send_backlog(broker.bootstrap_servers, options.devices, warm_up, until=earlier)
            output.settled(process.pid)
            process.send_signal(signal.SIGSTOP)
            send_backlog(broker.bootstrap_servers, options.devices, options.samples, until=earlier + span_s + 1)
            before, began, spent = output.labels(), time.time(), cpu_seconds(process.pid)
            process.send_signal(signal.SIGCONT)
            cpu, ended = output.settled(process.pid)
            megabytes = resident_bytes(process.pid) / 1e6
        finally:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        cost, rate = 1e6 * (cpu - spent) / options.samples, options.samples / (ended - began)
        labels = output.labels() - before
        print(f"{contender:18}{model:>12}{cost:17.2f}{rate:12,.0f}{labels:9,}{megabytes:7.0f}", flush=True)


def start(contender: str, bootstrap_servers: str, log: Path, bundle: str) -> subprocess.Popen[bytes]:
    if contender == "stridecast":
        flags = ("--activity.bundle", bundle, "--kafka.session-timeout-s", str(SESSION_S))
        return start_worker(bootstrap_servers, log, contender, *flags)
    return start_loop(bootstrap_servers, log, contender, "--bundle", bundle)


class Output:
    """The topic of labels, seen from outside."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._client = confluent_kafka.Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "outside"})

    def labels(self) -> int:
        partitions = [confluent_kafka.TopicPartition(OUTPUT, number) for number in range(PARTITIONS)]
        return sum(self._client.get_watermark_offsets(partition, timeout=10)[1] for partition in partitions)

    def settled(self, pid: int) -> tuple[float, float]:
        """Wait until no more labels come; return the process's CPU-seconds and the time when the last one came."""
        count, cpu, last = self.labels(), cpu_seconds(pid), time.time()
        while time.time() - last < QUIET_S or not count:
            time.sleep(0.02)
            now = self.labels()
            if now != count:
                count, cpu, last = now, cpu_seconds(pid), time.time()
        return cpu, last


def constant_bundle(folder: Path) -> str:
    """Write a bundle with the labels of the shipped one, which answers every window alike; return its folder."""
    shipped = load_bundle(find_bundle("har-cnn")).manifest
    arguments = {"classes": len(shipped.labels), "shape": list(shipped.input.shape)}
    description = Description(
        name="constant",
        version="1",
        architecture=ArchitectureChoice(name="constant", arguments=arguments),
        input=Input(shape=shipped.input.shape),
        labels=shipped.labels,
        training=Training(data=(), command="python -m benchmarks.drain", seed=0, date=shipped.training.date),
    )
    save_bundle(folder / "constant", build("constant", **arguments), description, np.zeros((1, 80, 3), np.float32))
    return str(folder / "constant")


if __name__ == "__main__":
    main()
