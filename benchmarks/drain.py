"""End to end through Apache Kafka: the cost of labelling a backlog of single samples, beside two plain loops.

    python -m benchmarks.drain [--samples 1000000] [--devices 500 100000] [--processes 1 2] [--json FILE]

Each contender first drains a small backlog, which compiles, imports and warms up everything. Then it is stopped
(SIGSTOP) while the measured one is written, and continued. Measured are the CPU-seconds of all its threads, and the
wall seconds from then to its last label. `constant` gives every window the same answer: the pipeline without its model.
The plain loops do less: no event time, no gaps, no late readings, no dead letters, no recovery.

Several processes of a contender share the partitions as a group, and the machine's cores: on a small machine that shows
what a process costs rather than what it gains.
"""

import argparse
import contextlib
import itertools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka
import numpy as np

from benchmarks.delivery import PARTITIONS, make_topics, send_backlog
from benchmarks.latency import OUTPUT, cpu_seconds, start_loop, start_worker
from benchmarks.record import Record, machine
from inference.architectures import build
from inference.bundle import find_bundle, load_bundle
from inference.manifest import ArchitectureChoice, Description, Input, Training
from inference.saving import save_bundle
from service.broker.node import Broker
from service.host.processes import resident_bytes

LOOPS = ("confluent-kafka", "kafka-python")
PACKAGES = ("kafka-python", "confluent-kafka", "msgspec", "numba", "numpy", "torch")
WARM_UP = 100_000
WARM_UP_EACH = 90  # of a device: its first window has closed
QUIET_S = 4.0
SESSION_S = 60  # a stopped member must not be expelled


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, nargs="+", default=[500])
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--contenders", nargs="+", default=["stridecast", *LOOPS], choices=["stridecast", *LOOPS])
    parser.add_argument("--models", nargs="+", default=["constant", "har-cnn"], help="bundles")
    parser.add_argument("--json", type=Path, help="a file for what was found")
    options = parser.parse_args()
    record = Record(options.json, machine(PACKAGES))
    print(f"{record.machine}\n{options.samples:,} samples, {PARTITIONS} partitions\n")
    columns = f"{'CPU-s a million':>17}{'samples/s':>11}{'labels':>9}{'MB':>7}"
    print(f"{'':18}{'model':>10}{'devices':>9}{'processes':>11}{columns}")
    with tempfile.TemporaryDirectory() as folder:
        bundles = {name: constant_bundle(Path(folder)) if name == "constant" else name for name in options.models}
        turns = itertools.product(
            range(options.rounds), options.devices, options.processes, bundles, options.contenders
        )
        for _, devices, processes, model, contender in turns:
            setting = Setting(contender, model, bundles[model], devices, processes, options.samples)
            row = measure(setting)
            record.add(row)
            print(
                f"{contender:18}{model:>10}{devices:9,}{processes:11}{row['CPU-s a million']:17.2f}"
                f"{row['samples/s']:11,.0f}{row['labels']:9,}{row['MB']:7.0f}",
                flush=True,
            )


@dataclass(frozen=True)
class Setting:
    """The contender, its bundle, and its number of processes."""

    contender: str
    model: str
    bundle: str
    devices: int
    processes: int
    samples: int


def measure(setting: Setting) -> dict[str, Any]:
    """Let the contender drain a backlog, once it is warm; return a row of results."""
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "kafka", port=0) as broker:
        servers = broker.bootstrap_servers
        make_topics(servers)
        with contextlib.ExitStack() as running:
            group = [
                start(setting, servers, Path(folder) / f"log-{number}", running) for number in range(setting.processes)
            ]
            output = Output(servers)
            running.callback(output.close)
            span_s = setting.samples / setting.devices / 20
            earlier = time.time() - span_s - 1
            send_backlog(servers, setting.devices, max(WARM_UP, WARM_UP_EACH * setting.devices), until=earlier)
            output.settled(group)
            signal_all(group, signal.SIGSTOP)
            send_backlog(servers, setting.devices, setting.samples, until=earlier + span_s)  # a gap would spoil windows
            before, began, spent = output.labels(), time.time(), sum(map(cpu_seconds, group))
            signal_all(group, signal.SIGCONT)
            cpu, ended = output.settled(group)
            return {
                "contender": setting.contender,
                "model": setting.model,
                "devices": setting.devices,
                "processes": setting.processes,
                "samples": setting.samples,
                "CPU-s a million": 1e6 * (cpu - spent) / setting.samples,
                "samples/s": setting.samples / (ended - began),
                "labels": output.labels() - before,
                "MB": sum(map(resident_bytes, group)) / 1e6,
            }


def start(setting: Setting, servers: str, log: Path, running: contextlib.ExitStack) -> int:
    """Start one process, which ends with ``running``; return its id."""
    if setting.contender == "stridecast":
        flags = ("--activity.bundle", setting.bundle, "--kafka.session-timeout-s", str(SESSION_S))
        process = start_worker(servers, log, setting.contender, *flags)
    else:
        process = start_loop(servers, log, setting.contender, "--bundle", setting.bundle)
    running.callback(end, process)
    return process.pid


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def signal_all(pids: Sequence[int], which: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, which)


class Output:
    """The topic of labels, observed from outside."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._client = confluent_kafka.Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "outside"})

    def labels(self) -> int:
        partitions = [confluent_kafka.TopicPartition(OUTPUT, number) for number in range(PARTITIONS)]
        return sum(self._client.get_watermark_offsets(partition, timeout=10)[1] for partition in partitions)

    def close(self) -> None:
        self._client.close()

    def settled(self, pids: Sequence[int]) -> tuple[float, float]:
        """Wait until no more labels come; return the processes' CPU-seconds and the time of the last label."""
        count, cpu, last = self.labels(), sum(map(cpu_seconds, pids)), time.time()
        while time.time() - last < QUIET_S or not count:
            time.sleep(0.02)
            now = self.labels()
            if now != count:
                count, cpu, last = now, sum(map(cpu_seconds, pids)), time.time()
        return cpu, last


def constant_bundle(folder: Path) -> str:
    """Write a bundle with the labels of the shipped one, and the same answer to every window; return its folder."""
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
