"""Real-time latency: devices at 20 Hz in single-sample JSON, from broker clock to broker clock.

    python -m benchmarks.latency --devices 500 1000 --seconds 60 --beside kafka-python confluent-kafka

Starts Apache Kafka and one worker; a producer of another client library (librdkafka) sends. Both topics are stamped
by the broker (LogAppendTime), so a label's latency is its timestamp minus that of the record that closed its window.
"""

import argparse
import itertools
import multiprocessing
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import confluent_kafka
import numpy as np

from benchmarks.record import Record, machine
from service.broker.node import Broker
from service.broker.ports import free_port
from service.host.processes import cpu_seconds as cpu_seconds
from service.kafka_admin.topics import TopicSpec, ensure_topics

INPUT, OUTPUT, DEAD = "accelerometer", "activities", "accelerometer.dead-letters"
TICK_S = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[500])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--warm-up", type=float, default=10, help="seconds at the start that are not counted")
    parser.add_argument(
        "--beside", nargs="*", choices=["kafka-python", "confluent-kafka"], default=[], help="plain loops"
    )
    parser.add_argument("--json", type=Path, help="a file for what was found")
    options = parser.parse_args()
    record = Record(options.json, machine(("kafka-python", "confluent-kafka", "numba", "numpy", "torch")))
    print(f"{record.machine}\ndevices at 20 Hz for {options.seconds:g} s, the first {options.warm_up:g} s not counted")
    for devices, contender in itertools.product(options.devices, ["stridecast", *options.beside]):
        row = {"contender": contender, "devices": devices, **measure(contender, devices, options)}
        record.add(row)
        shown = "  ".join(f"{name} {row[name]:.0f}" for name in ("p50", "p90", "p99", "p99.9", "max"))
        told = f"{contender:16} {devices:6,} devices  {row['labels']:7,} labels  latency ms {shown}"
        print(f"{told}  CPU-seconds a million messages {row['CPU-s a million']:.1f}", flush=True)


def measure(contender: str, devices: int, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "kafka", port=0) as broker:
        stamped = {"message.timestamp.type": "LogAppendTime"}
        topics = [TopicSpec(name, options.partitions, stamped) for name in (INPUT, OUTPUT)]
        ensure_topics(broker.bootstrap_servers, [*topics, TopicSpec(DEAD, 1)])
        start = start_worker if contender == "stridecast" else start_loop
        process = start(broker.bootstrap_servers, Path(folder) / "log", contender)
        try:
            cpu_before = cpu_seconds(process.pid)
            produce(broker.bootstrap_servers, devices, options.seconds)
            cpu = cpu_seconds(process.pid) - cpu_before
            time.sleep(2)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        return report(broker.bootstrap_servers, options.warm_up, cpu)


def start_loop(bootstrap_servers: str, log: Path, client: str, *flags: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.loops", client, "--bootstrap-servers", bootstrap_servers, *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    time.sleep(15)  # it can't signal that it is ready
    if process.poll() is not None:
        raise SystemExit(f"the loop ended:\n{log.read_text()}")
    return process


def start_worker(bootstrap_servers: str, log: Path, _name: str, *flags: str) -> subprocess.Popen[bytes]:
    port = free_port()
    command = [sys.executable, "-m", "service", "worker", "activity", "--kafka.bootstrap-servers", bootstrap_servers]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--http.port", str(port), *flags], stdout=output, stderr=output)
    for _ in range(400):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
            return process
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise SystemExit(f"the worker did not get ready:\n{log.read_text()}")


def produce(bootstrap_servers: str, devices: int, seconds: float) -> None:
    """Send from a separate process, so that it doesn't share a lock with anything measured."""
    process = multiprocessing.get_context("spawn").Process(target=send, args=(bootstrap_servers, devices, seconds))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the producer failed")


def send(bootstrap_servers: str, devices: int, seconds: float) -> None:
    client = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap_servers, "linger.ms": 2, "partitioner": "murmur2"}
    )
    random = np.random.default_rng(0)
    due = np.sort(random.uniform(0, 0.05, devices))
    first = random.integers(0, 80, devices)  # devices come one by one: else all plain windows close in the same 50 ms
    ids = [f"device-{number:05d}" for number in range(devices)]
    values = [f'"x":{x:.4f},"y":{y:.4f},"z":{z:.4f}}}' for x, y, z in random.normal(0, 5, (997, 3))]
    started = time.time()
    for beat in itertools.count():
        begin = started + beat * 0.05
        if begin - started >= seconds:
            break
        at = 0
        while at < devices:
            now = time.time() - begin
            until = int(np.searchsorted(due, now, side="right"))
            for device in range(at, until):
                if beat < first[device]:
                    continue
                stamp = int(1000 * (begin + due[device]))
                value = f'{{"device_id":"{ids[device]}","timestamp":{stamp},{values[(beat * 7 + device) % 997]}'
                while True:
                    try:
                        client.produce(INPUT, value, key=ids[device])
                        break
                    except BufferError:  # the broker is behind
                        client.poll(0.1)
            at = max(at, until)
            client.poll(0)
            time.sleep(TICK_S)
    client.flush(30)


def read(bootstrap_servers: str, topic: str) -> list[confluent_kafka.Message]:
    client = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "bench",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    partitions = client.list_topics(topic, timeout=10).topics[topic].partitions
    client.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in partitions])
    messages, ended = [], 0
    while ended < len(partitions):
        for message in client.consume(10_000, timeout=1):
            if message.error():
                ended += 1
            else:
                messages.append(message)
    client.close()
    return messages


def report(bootstrap_servers: str, warm_up_s: float, cpu: float) -> dict[str, Any]:
    stamps = {(m.partition(), m.offset()): m.timestamp()[1] for m in read(bootstrap_servers, INPUT)}
    count_from = min(stamps.values()) + 1000 * warm_up_s
    latencies = []
    for label in read(bootstrap_servers, OUTPUT):
        headers: dict[str, bytes] = dict(label.headers() or ())  # type: ignore[arg-type]
        closed = stamps[int(headers["source-partition"]), int(headers["source-offset"])]
        if closed >= count_from:
            latencies.append(label.timestamp()[1] - closed)
    names, percentiles = ("p50", "p90", "p99", "p99.9", "max"), np.percentile(latencies, [50, 90, 99, 99.9, 100])
    taken = dict(zip(names, percentiles.tolist(), strict=True))
    return {"labels": len(latencies), **taken, "CPU-s a million": 1e6 * cpu / len(stamps)}


if __name__ == "__main__":
    main()
