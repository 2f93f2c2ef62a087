"""Baselines to compare with: a plain loop from readings to labels, as a careful engineer writes it in an afternoon.

    python -m benchmarks.loops {kafka-python,confluent-kafka} --bootstrap-servers ... --bundle har-cnn

A compiled JSON parser, a list a device, windows of 80 readings every 40, the same network in batches. No event time, no
gaps, no late readings, no dead letters, no recovery: a window is labelled when 40 more readings have come.
"""

import argparse
import collections
import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import confluent_kafka
import kafka
import msgspec
import numpy as np
import torch

from inference.bundle import find_bundle, load_bundle
from inference.served_module import reference_probabilities, served_module

INPUT, OUTPUT, GROUP = "accelerometer", "activities", "plain-loop"

Record = tuple[bytes, int, int]  # value, partition, offset
Send = Callable[[bytes, bytes, list[tuple[str, bytes]], int], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("client", choices=["kafka-python", "confluent-kafka"])
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--bundle", default="har-cnn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: exit(0))
    client = with_kafka_python if options.client == "kafka-python" else with_confluent_kafka
    polls, send = client(options.bootstrap_servers)
    classify_all(polls, send, options.bundle)


def classify_all(polls: Iterator[list[Record]], send: Send, bundle_name: str) -> None:
    bundle = load_bundle(find_bundle(bundle_name))
    module, labels = served_module(bundle), bundle.manifest.labels
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    signals: dict[str, list[tuple[float, float, float]]] = collections.defaultdict(list)
    for records in polls:
        frames, closed = [], []
        for value, partition, offset in records:
            message = decode(value)
            samples = signals[message["device_id"]]
            samples.append((message["x"], message["y"], message["z"]))
            if len(samples) == 80:
                frames.append(samples.copy())
                closed.append((message["device_id"], message["timestamp"], partition, offset))
                del samples[:40]
        if not frames:
            continue
        for row, (device, end, partition, offset) in zip(
            reference_probabilities(module, np.array(frames, np.float32)), closed, strict=True
        ):
            best = int(row.argmax())
            probabilities = dict(zip(labels, row.tolist(), strict=True))
            label = {
                "device_id": device,
                "window_start": end - 3950,
                "activity": labels[best],
                "probabilities": probabilities,
            }
            headers = [("source-partition", b"%d" % partition), ("source-offset", b"%d" % offset)]
            send(device.encode(), json.dumps(label).encode(), headers, partition)


def with_kafka_python(bootstrap_servers: str) -> tuple[Iterator[list[Record]], Send]:
    consumer = kafka.KafkaConsumer(
        INPUT, bootstrap_servers=bootstrap_servers, group_id=GROUP, auto_offset_reset="earliest", max_poll_records=4000
    )
    producer = kafka.KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")

    def polls() -> Iterator[list[Record]]:
        while True:
            polled = consumer.poll(timeout_ms=100)
            yield [(each.value, each.partition, each.offset) for records in polled.values() for each in records]

    return polls(), lambda key, value, headers, partition: producer.send(
        OUTPUT, key=key, value=value, headers=headers, partition=partition
    )


def with_confluent_kafka(bootstrap_servers: str) -> tuple[Iterator[list[Record]], Send]:
    settings = {"bootstrap.servers": bootstrap_servers}
    consumer = confluent_kafka.Consumer({**settings, "group.id": GROUP, "auto.offset.reset": "earliest"})
    consumer.subscribe([INPUT])
    producer = confluent_kafka.Producer({**settings, "acks": "all", "linger.ms": 2})

    def polls() -> Iterator[list[Record]]:
        while True:
            messages = consumer.consume(4000, timeout=0.01)
            yield [(each.value() or b"", each.partition() or 0, each.offset() or 0) for each in messages]
            producer.poll(0)

    return polls(), lambda key, value, headers, partition: producer.produce(
        OUTPUT, value, key, partition, headers=list(headers)
    )


if __name__ == "__main__":
    main()
