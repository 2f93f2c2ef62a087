"""Readings and windows per second of the ring buffers, beside a plain loop with a NumPy array for each device.

    python -m benchmarks.windows [--devices 500 100000] [--batch 500 10000]

The plain loop does less: no grid, no lateness, no gaps, no silence; it takes readings in order and copies the last 80
every 40. Both get the same batches, in turn, and are measured once every ring is full, in CPU time of their single
thread.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from windowing import Windower, warm_up

FILL_TICKS = 130
MEASURED_TICKS = 80

Batch = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]
ID = b"phone-%06d"
ID_BYTES = len(ID % 0)


class PlainLoop:
    """A first version: a dictionary, an array a device, a loop."""

    def __init__(self) -> None:
        self.buffers: dict[bytes, npt.NDArray[np.float32]] = {}
        self.counts: dict[bytes, int] = {}

    def push(self, ids: bytes, batch: Batch) -> int:
        device, _, xyz, _ = batch
        windows = []
        for i, row in enumerate(device.tolist()):
            device_id = ids[ID_BYTES * row : ID_BYTES * (row + 1)]
            buffer = self.buffers.get(device_id)
            if buffer is None:
                buffer = self.buffers[device_id] = np.zeros((80, 3), dtype=np.float32)
                self.counts[device_id] = 0
            count = self.counts[device_id]
            buffer[count % 80] = xyz[i]
            self.counts[device_id] = count = count + 1
            if count >= 80 and count % 40 == 0:
                windows.append(np.roll(buffer, -(count % 80), axis=0))
        return len(windows)


class Rings:
    """The service's windowing, called as a worker does."""

    def __init__(self) -> None:
        self.windower = Windower()
        self.now = 0.0

    def push(self, ids: bytes, batch: Batch) -> int:
        device, timestamp_ms, xyz, offset = batch
        id_at = ID_BYTES * device.astype(np.int64)
        columns = np.frombuffer(ids, np.uint8), id_at, id_at + ID_BYTES, timestamp_ms, xyz, offset
        windows, start, more = 0, 0, True
        while more:
            step = self.windower.push(*columns, self.now, start)
            windows, start, more = windows + len(step.frames), step.consumed, step.more
        return windows


def ticks(devices: int, count: int, batch: int) -> Iterator[list[Batch]]:
    """Yield every device's next reading, in batches; device clocks jitter by up to 10 ms."""
    rng = np.random.default_rng(0)
    everyone = np.arange(devices, dtype=np.int32)
    xyz = rng.normal(size=(devices, 3)).astype(np.float32)
    for tick in range(count):
        timestamp_ms = 1_700_000_000_000 + 50 * tick + rng.integers(-10, 11, devices)
        offset = tick * devices + everyone.astype(np.int64)
        yield [
            (everyone[i : i + batch], timestamp_ms[i : i + batch], xyz[i : i + batch], offset[i : i + batch])
            for i in range(0, devices, batch)
        ]


def ids_of(devices: int) -> bytes:
    return b"".join(ID % i for i in range(devices))


def measure(push: Callable[[bytes, Batch], int], devices: int, batch: int) -> tuple[float, float]:
    """Return readings/s and windows/s. A batch names only its own devices, as a decoder would."""
    windows, seconds, ids = 0, 0.0, ids_of(devices)
    for tick, batches in enumerate(ticks(devices, FILL_TICKS + MEASURED_TICKS, batch)):
        for device, *columns in batches:
            named = ids[ID_BYTES * device[0] : ID_BYTES * (device[-1] + 1)]
            own: Batch = (device - device[0], *columns)
            began = time.thread_time()
            cut = push(named, own)
            if tick >= FILL_TICKS:
                seconds += time.thread_time() - began
                windows += cut
    return devices * MEASURED_TICKS / seconds, windows / seconds


def measure_silence(devices: int) -> float:
    """Return the microseconds to find that none of this many devices is silent."""
    rings, ids = Rings(), ids_of(devices)
    for batches in ticks(devices, 1, devices):
        rings.push(ids, batches[0])
    began = time.thread_time()
    for _ in range(100):
        rings.windower.fall_silent(30.0)
    return (time.thread_time() - began) / 100 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[500, 100_000])
    parser.add_argument("--batch", type=int, nargs="+", default=[10, 500, 10_000], help="readings a push")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.system()}", end="; ")
    print(f"Python {platform.python_version()}, NumPy {version('numpy')}, numba {version('numba')}; one thread")
    warm_up()
    print(f"{'devices':>8} {'batch':>6} {'':>10} {'readings/s':>11} {'windows/s':>10}")
    for devices in options.devices:
        for batch in sorted({min(batch, devices) for batch in options.batch}):
            for name, push in (("rings", Rings().push), ("plain loop", PlainLoop().push)):
                readings, windows = measure(push, devices, batch)
                print(f"{devices:>8} {batch:>6} {name:>10} {readings:>11,.0f} {windows:>10,.0f}", flush=True)
        print(f"{devices:>8} devices looked over for silence in {measure_silence(devices):,.0f} us", flush=True)


if __name__ == "__main__":
    main()
