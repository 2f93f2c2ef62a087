"""Frames (windows or texts) per second of each way to run each network, and the core's overhead.

    python -m benchmarks.inference [--device cpu cuda] [--threads 1 2] [--batch 1 16 64 256 1024] [--bundle har-cnn]
        [--network text-cnn glove-cnn conv lstm gru deep-bilstm [--length 256] [--words 256]] [--no-core]

Bundles are given by name or folder. The text networks of `--network` have random weights and 20,000 words: speed does
not depend on training.

The engines are compared with an ordinary call of the same network (`plain`), in turn, round by round, for `--seconds`
each. Results are the median of the turns, in frames a second and, in brackets, ms a batch; and the best, which other
load has disturbed least. For one CPU thread they are in CPU time, else in wall time. GFLOP/s are of the best turn and
of the network's definition, even if an engine needs fewer operations; at int8 they are integer operations, except for
the first convolution. The share is of the best matrix product at the engine's precision in the same run. The core is
measured twice: saturated by blocks of frames, and at fixed rates, from submission to delivery.
"""

import argparse
import datetime
import functools
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from inference.architectures import build
from inference.bundle import Bundle, find_bundle, load_bundle
from inference.core import Core, Result
from inference.device_choice import choose_device
from inference.devices import Device, DeviceError, Engine, EngineName, answer, cpu
from inference.engine_choice import cpu_title
from inference.lanes import Lane
from inference.manifest import ArchitectureChoice, Description, Input, Precision, Training
from inference.models import load_model
from inference.saving import save_bundle
from inference.served_module import served_module

Call = Callable[[int], object]

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
WORDS = 20_000
RETRY_S = 1e-3  # until a block that found no room is submitted again
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "text-cnn": ("text-cnn", {}),
    "text-cnn-300": ("text-cnn", {"dimensions": 300}),
    "glove-cnn": ("glove-cnn", {}),
    "conv": ("text-cnn", {"kernels": [5], "maps": 128}),
    "lstm": ("recurrent", {}),
    "gru": ("recurrent", {"cell": "gru"}),
    "deep-bilstm": ("recurrent", {"layers": 2, "bidirectional": True}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", nargs="+", default=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16, 64, 256, 1024])
    parser.add_argument("--rate", nargs="+", type=int, default=[50, 250, 1000], help="frames/s offered to the core")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--bundle", nargs="*", default=[], help="names or folders; har-cnn if nothing is named")
    parser.add_argument("--network", nargs="*", default=[], choices=NETWORKS, help="text networks, untrained")
    parser.add_argument("--length", type=int, default=256, help="of the frames of --network")
    parser.add_argument("--words", type=int, default=8192, help="of each text, unless its frame is shorter")
    parser.add_argument("--core", action=argparse.BooleanOptionalAction, default=True, help="measure the core, too")
    options = parser.parse_args()
    bundles = [load_bundle(find_bundle(name)) for name in options.bundle or ([] if options.network else ["har-cnn"])]
    with tempfile.TemporaryDirectory() as scratch:
        bundles += [untrained(name, options.length, Path(scratch)) for name in options.network]
    describe_machine()
    for bundle in bundles:
        print(f"\n{bundle.title}, {sum(values.size for values in bundle.weights.values()):,} parameters")
        frames = example(bundle, max(*options.batch, 256), options.words)
        work = operations(bundle, frames[:1])
        print(f"{work / 1e6:.1f} MFLOP a frame")
        for name in options.device:
            for threads in options.threads if name == "cpu" else options.threads[:1]:
                print(f"{name}, {threads} thread(s)" if name == "cpu" else f"{torch.cuda.get_device_name()}")
                measure_engines(bundle, frames, name, threads, options.batch, options.seconds, work)
                if options.core:
                    measure_core(bundle, frames, choose_device(name, threads=threads), options.rate, options.seconds)


def untrained(name: str, length: int, folder: Path) -> Bundle:
    architecture, arguments = NETWORKS[name]
    arguments = {"tokens": WORDS + 2, "length": length, "classes": 2, **arguments}
    description = Description(
        name=name,
        version="0",
        architecture=ArchitectureChoice(name=architecture, arguments=arguments),
        input=Input(shape=(length,), dtype="int32"),
        labels=("a", "b"),
        training=Training(data=(), command="none", seed=0, date=datetime.date(2026, 1, 1)),
    )
    words = [f"w{number}" for number in range(WORDS)]
    frames = np.random.default_rng(0).integers(1, WORDS + 2, (4, length))
    return save_bundle(folder / name, build(architecture, **arguments), description, frames, vocabulary=words)


def describe_machine() -> None:
    print(f"{platform.platform()}, {cpu_title()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    versions = ", ".join(f"{package} {installed(package)}" for package in ("torch", "numpy", "numba", "openvino"))
    print(f"Python {platform.python_version()}, {versions}, {torch.backends.cpu.get_cpu_capability()}")


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"


def operations(bundle: Bundle, frame: np.ndarray) -> int:
    """Return the multiplications and additions of the convolutions and dense layers."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        served_module(bundle)(torch.from_numpy(frame))
    return int(counter.get_total_flops())


def measure_engines(
    bundle: Bundle, frames: np.ndarray, name: str, threads: int, batches: list[int], seconds: float, work: int
) -> None:
    calls = contenders(bundle, frames, name, threads)
    clock = time.process_time if name == "cpu" and threads == 1 else time.perf_counter
    peaks = {precision: peak(name, precision, clock) for precision in PRECISIONS}
    print(f"  a matrix product: {', '.join(f'{each} {peaks[each]:,.0f} GFLOP/s' for each in peaks if peaks[each])}")
    for batch in batches:
        took = take_turns(calls, batch, seconds, clock)
        for label, call in calls.items():
            median, best = float(np.median(took[label])), min(took[label])
            flops = batch * work / 1e9 / best
            share = f", {flops / peaks[call[1]]:.0%} of the peak" if peaks[call[1]] else ""
            print(
                f"  batch {batch:5}  {label:20}{batch / median:10,.0f}/s ({1e3 * median:8.3f} ms), at best"
                f"{batch / best:10,.0f}/s, {flops:7,.1f} GFLOP/s{share}",
                flush=True,
            )


def take_turns(
    calls: dict[str, tuple[Call, Precision]], batch: int, seconds: float, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return the seconds of each call of each contender."""
    took: dict[str, list[float]] = {label: [] for label in calls}
    for call, _ in calls.values():
        for _ in range(3):
            call(batch)
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(next(iter(took.values()))) < 5:
        for label, (call, _) in calls.items():
            begun = clock()
            call(batch)
            took[label].append(clock() - begun)
    return took


def peak(name: str, precision: Precision, clock: Callable[[], float]) -> float:
    """Return the GFLOP/s of the largest matrix products; 0 for a precision that is emulated, or not asked for."""
    if name == "cpu" and precision == "bfloat16" and not cpu._has_native_bfloat16():
        return 0.0
    if precision == "int8" and (name != "cpu" or not cpu._has_native_int8()):
        return 0.0
    best = 0.0
    product = torch._int_mm if precision == "int8" else torch.mm
    for size in (512, 1024, 2048):
        a, b = ((20 * torch.randn(size, size, device=name)).to(getattr(torch, precision)) for _ in range(2))
        for _ in range(6):
            begun = clock()
            product(a, b)
            if name == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2e-9 * size**3 / (clock() - begun))
    return best


def contenders(bundle: Bundle, frames: np.ndarray, name: str, threads: int) -> dict[str, tuple[Call, Precision]]:
    """Return each way to run a bundle, with its precision."""
    calls: dict[str, tuple[Call, Precision]] = {"plain float32": (plain(bundle, frames, name), "float32")}
    engines: list[EngineName] = ["winograd", "amx", "avx512", "openvino", "pytorch"] if name == "cpu" else ["pytorch"]
    for engine in engines:
        for precision in PRECISIONS:
            try:
                device = choose_device(name, precision, threads=threads, engine=engine)  # type: ignore[arg-type]
                model = load_model(bundle, device, len(frames))
            except DeviceError as error:
                print(f"  {engine} {precision}: {error}")
            else:
                if model.way in ("", engine):
                    calls[f"{engine} {precision}"] = (functools.partial(served, model.engine, frames), precision)
    return calls


def served(engine: Engine, frames: np.ndarray, batch: int) -> object:
    return answer(engine, frames[:batch], batch)


def plain(bundle: Bundle, frames: np.ndarray, name: str) -> Call:
    module = served_module(bundle).to(name)

    def call(batch: int) -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(frames[:batch]).to(name)).cpu().numpy()

    return call


def example(bundle: Bundle, frames: int, words: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if not bundle.vocabulary:
        return rng.normal(0.0, 5.0, (frames, *bundle.manifest.input.shape)).astype(np.float32)
    texts = rng.integers(1, len(bundle.vocabulary) + 2, (frames, *bundle.manifest.input.shape), np.int32)
    texts[:, words:] = 0
    return texts


def measure_core(bundle: Bundle, frames: np.ndarray, device: Device, rates: list[int], seconds: float) -> None:
    delivered: list[tuple[Result, float]] = []
    core = Core(
        device,
        max_batch=64 if device.name == "cpu" else 1024,
        capacity=8192,
        clock=time.perf_counter,
        deliver=lambda result: delivered.append((result, time.perf_counter())),
    )
    lane = core.open(bundle)
    core.start()
    rate, cpu = saturate(lane, frames[:256], seconds)
    print(
        f"  core at {lane.model.precision}: saturated {rate:,.0f} frames/s, {1e6 * cpu / rate:,.0f} us of CPU a frame"
    )
    for rate in rates:
        delivered.clear()
        took = offer(lane, frames, rate, seconds, delivered)
        p50, p99 = np.percentile(took, [50, 99])
        sizes = [result.batch_frames for result, _ in delivered if result.opens_batch]
        print(
            f"    at {rate:,} frames/s, singly: p50 {1e3 * p50:.2f} ms, p99 {1e3 * p99:.2f} ms from submission to "
            f"delivery, {np.mean(sizes):.1f} frames a batch"
        )
    core.close()


def saturate(lane: Lane, frames: np.ndarray, seconds: float) -> tuple[float, float]:
    """Return the frames answered a second, and the CPU-seconds a second."""
    begun, cpu, submitted = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < begun + seconds:
        if lane.submit(frames, None):
            submitted += len(frames)
        else:
            time.sleep(RETRY_S)
    lane.drain(60.0)
    took = time.perf_counter() - begun
    return submitted / took, (time.process_time() - cpu) / took


def offer(
    lane: Lane, frames: np.ndarray, rate: float, seconds: float, delivered: list[tuple[Result, float]]
) -> list[float]:
    """Return the seconds from each frame's due time to its delivery; frames arrive at random, `rate` a second."""
    rng = np.random.default_rng(0)
    begun = due = time.perf_counter()
    while due < begun + seconds:
        due += rng.exponential(1.0 / rate)
        time.sleep(max(0.0, due - time.perf_counter()))
        lane.submit(frames[:1], due)
    lane.drain(60.0)
    return [at - result.ticket for result, at in delivered]


if __name__ == "__main__":
    main()
