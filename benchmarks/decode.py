"""Messages and readings per second of decoding, for each form, beside a plain json.loads (or struct) loop.

    python -m benchmarks.decode [--batch 1000] [--seconds 2]

Records come as columns of positions in a batch's bytes, which the compiled loop reads, or as objects, which are read
one by one. The plain loop does less: it trusts its input, checks nothing, and reads only integer times. All decode the
same records, in batches of the same size, in turn. The best of several rounds counts, in seconds of this process's CPU
time, for the machine may be shared. Making the columns or the objects is not counted.
"""

import argparse
import json
import os
import platform
import random
import struct
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from kafka.consumer.fetcher import ConsumerRecord
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from benchmarks.publishing import predictions
from ingest.contract import BINARY_CHUNK_CONTENT_TYPE, BINARY_HEADER, JSON_CONTENT_TYPE
from ingest.messages.decode import decode, warm_up
from ingest.messages.labels import encode_activities
from ingest.record_batches.record_columns import Records
from ingest.record_batches.record_places import COLUMNS, find_records

NOW_MS = 1_700_000_000_000
MESSAGES = 10_000
WINDOWS = 500  # whose labels are encoded in one call


def record(k: int, value: bytes, content_type: str | None = None) -> Any:
    headers = [("content-type", content_type.encode())] if content_type else []
    key = b"phone-%d" % (k % 500)
    return ConsumerRecord("accelerometer", 0, 0, k, NOW_MS + k, 0, key, value, headers, None, 8, len(value), -1)


def columns_of(records: list[Any]) -> Records:
    """Return the same records, as positions in the bytes of a batch."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 2**31 - 1)
    for one in records:
        builder.append(one.offset, one.timestamp, one.key, one.value, one.headers)
    raw = bytes(builder.build())
    places = np.empty((COLUMNS, len(records)), np.int64)
    start = DefaultRecordBatch.HEADER_STRUCT.size
    found, _, _ = find_records(np.frombuffer(raw, np.uint8), start, 0, records[0].timestamp, 1, places)
    assert found == len(records)
    return Records(raw, places)


def xyz() -> list[float]:
    return [round(random.gauss(0, 5), 4) for _ in range(3)]


def sample(k: int, timestamp: int | str, **more: Any) -> bytes:
    x, y, z = xyz()
    fields = {"device_id": f"phone-{k % 500}", "timestamp": timestamp, "x": x, "y": y, "z": z}
    return json.dumps(fields | more).encode()


def float32_axes() -> dict[str, float]:
    return {name: float(np.float32(value)) for name, value in zip("xyz", xyz(), strict=True)}


def iso(k: int) -> str:
    return f"2023-11-14T22:13:{20 + k // 1000 % 40}.{k % 1000:03}+00:00"


def chunk(k: int, readings: int) -> bytes:
    rows = [xyz() for _ in range(readings)]
    return json.dumps({"device_id": f"phone-{k % 500}", "start": NOW_MS, "rate_hz": 20, "samples": rows}).encode()


def binary(readings: int) -> bytes:
    head = BINARY_HEADER.pack(1, 0, readings, 20.0, NOW_MS)
    return head + b"".join(struct.pack("<3f", *xyz()) for _ in range(readings))


def forms() -> dict[str, tuple[int, list[Any]]]:
    """Return, for each form, its readings a message and its messages."""
    unknown = {
        "battery": 0.81,
        "gyroscope": [0.1, 0.2, 0.3],
        "app": {"name": "logger", "version": "4.2.0"},
        "pad": "-" * 99,
    }
    every = range(MESSAGES)
    return {
        "sample": (1, [record(k, sample(k, NOW_MS + k)) for k in every]),
        "sample, compact": (
            1,
            [record(k, sample(k, NOW_MS + k).replace(b": ", b":").replace(b", ", b",")) for k in every],
        ),
        "sample, float32 as double": (1, [record(k, sample(k, NOW_MS + k, **float32_axes())) for k in every]),
        "sample with content-type": (1, [record(k, sample(k, NOW_MS + k), JSON_CONTENT_TYPE) for k in every]),
        "sample, ISO 8601": (1, [record(k, sample(k, iso(k))) for k in every]),
        "sample, unknown fields": (1, [record(k, sample(k, NOW_MS + k, **unknown)) for k in every]),
        "sample, wrong type": (1, [record(k, sample(k, NOW_MS + k, x="1")) for k in every]),
        "chunk of 20": (20, [record(k, chunk(k, 20)) for k in range(MESSAGES // 10)]),
        "chunk of 1000": (1000, [record(k, chunk(k, 1000)) for k in range(MESSAGES // 500)]),
        "binary chunk of 20": (20, [record(k, binary(20), BINARY_CHUNK_CONTENT_TYPE) for k in range(MESSAGES // 10)]),
        "binary chunk of 1000": (
            1000,
            [record(k, binary(1000), BINARY_CHUNK_CONTENT_TYPE) for k in range(MESSAGES // 200)],
        ),
    }


def plain_loop(records: list[Any]) -> tuple[list[str], Any, Any, Any]:
    """Decode as a first version would."""
    devices: list[str] = []
    times: list[int | str] = []
    rows: list[Any] = []
    of: list[int] = []
    for k, one in enumerate(records):
        if dict(one.headers).get("content-type") == BINARY_CHUNK_CONTENT_TYPE.encode():
            _, _, count, rate, start = BINARY_HEADER.unpack_from(one.value)
            device, new = one.key.decode(), struct.iter_unpack("<3f", one.value[BINARY_HEADER.size :])
        else:
            message = json.loads(one.value)
            device = message["device_id"]
            if "samples" not in message:
                devices.append(device)
                times.append(message["timestamp"])
                rows.append((message["x"], message["y"], message["z"]))
                of.append(k)
                continue
            count, rate, start, new = len(message["samples"]), message["rate_hz"], message["start"], message["samples"]
        devices += [device] * count
        times += [int(start + j * 1000 / rate + 0.5) for j in range(count)]
        rows += new
        of += [k] * count
    return devices, times, np.array([[float(v) for v in row] for row in rows], np.float32), np.array(of)


def rates(contenders: Sequence[Callable[[list[Any]], object]], records: list[Any], options: Any) -> list[float]:
    """Return messages per CPU second of each contender's best round, with the same records."""
    return rates_of_pairs([(work, records) for work in contenders], options)


def rates_of_pairs(contenders: Sequence[tuple[Callable[[Any], object], Any]], options: Any) -> list[float]:
    """Return messages per CPU second of the best round of each, with its own records.

    They take turns, so that other load affects all alike.
    """
    starts = range(0, len(contenders[0][1]), options.batch)
    batches = [[records[at : at + options.batch] for at in starts] for _, records in contenders]
    best = [0.0] * len(contenders)
    until = time.perf_counter() + options.seconds
    while not best[-1] or time.perf_counter() < until:
        for turn, (work, records) in enumerate(contenders):
            started = time.process_time()
            for part in batches[turn]:
                work(part)
            best[turn] = max(best[turn], len(records) / (time.process_time() - started))
    return best


def label_rate(options: Any) -> float:
    columns = predictions(WINDOWS)
    return rates([lambda _: encode_activities(**columns)], [None] * WINDOWS, options)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=1000, help="records a call")
    parser.add_argument("--seconds", type=float, default=2, help="for each form")
    options = parser.parse_args()
    random.seed(0)
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "msgspec", "pydantic"))
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {packages}")
    print(f"batches of {options.batch}; per second of one core\n")
    print(f"{'messages of the form':28}{'columns':>12}{'readings':>12}{'objects':>12}{'plain loop':>12}{'ratios':>12}")
    warm_up()
    for name, (readings, records) in forms().items():
        columns = columns_of(records)
        ours, objects, plain = rates_of_pairs([(decode, columns), (decode, records), (plain_loop, records)], options)
        ratios = f"{ours / objects:>6.1f}{ours / plain:>6.1f}"
        print(f"{name:28}{ours:>12,.0f}{ours * readings:>12,.0f}{objects:>12,.0f}{plain:>12,.0f}{ratios}", flush=True)
    print(f"{'labels encoded':28}{label_rate(options):>12,.0f}")


if __name__ == "__main__":
    main()
