"""Windows per second of each way to run the HAR network, and what the core around it adds.

    python -m benchmarks.inference [--device cpu cuda] [--threads 1 2] [--batch 1 8 64 256] [--bundle har-cnn]

The engines stand beside the same network called as it is (`plain`) and, on the CPU, frozen by the deprecated
`torch.jit` (`frozen`). Each figure is the median of the calls within `--seconds`, with the best in brackets. The core
is measured twice: saturated by blocks of frames, and at fixed rates, from submission to delivery.
"""

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch

from inference.bundle import Bundle, find_bundle, load_bundle, served_module
from inference.core import Core, Result, load_model
from inference.devices import Device, DeviceError, choose_device

Call = Callable[[int], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", nargs="+", default=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 2, 8, 64, 256])
    parser.add_argument("--rate", nargs="+", type=int, default=[50, 250, 1000], help="frames/s offered to the core")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--bundle", default="har-cnn", help="name or folder")
    options = parser.parse_args()
    bundle = load_bundle(find_bundle(options.bundle))
    describe_machine(bundle)
    for name in options.device:
        for threads in options.threads if name == "cpu" else options.threads[:1]:
            print(f"\n{name}, {threads} thread(s)" if name == "cpu" else f"\n{torch.cuda.get_device_name()}")
            measure_engines(bundle, name, threads, options.batch, options.seconds)
            measure_core(bundle, choose_device(name, threads=threads), options.rate, options.seconds)


def describe_machine(bundle: Bundle) -> None:
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "numpy"))
    print(f"Python {platform.python_version()}, {versions}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{bundle.title}, {sum(tensor.numel() for tensor in bundle.weights.values()):,} parameters")


def measure_engines(bundle: Bundle, name: str, threads: int, batches: list[int], seconds: float) -> None:
    print(f"  {'':18}" + "".join(f"{f'batch {batch}':>28}" for batch in batches))
    for label, call in contenders(bundle, name, threads, max(batches)).items():
        cells = []
        for batch in batches:
            took = durations(call, batch, seconds)
            median, best = float(np.median(took)), min(took)
            cells.append(f"{batch / median:9,.0f}/s {1e3 * median:7.3f} ({1e3 * best:6.3f}) ms")
        print(f"  {label:18}" + "".join(f"{cell:>28}" for cell in cells), flush=True)


def durations(call: Call, batch: int, seconds: float) -> list[float]:
    for _ in range(3):
        call(batch)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while len(took) < 5 or time.perf_counter() < end:
        begun = time.perf_counter()
        call(batch)
        took.append(time.perf_counter() - begun)
    return took


def contenders(bundle: Bundle, name: str, threads: int, max_batch: int) -> dict[str, Call]:
    calls = {"plain float32": plain(bundle, name, max_batch)}
    if name == "cpu":
        calls["frozen float32"] = frozen(bundle, max_batch)
    for precision in ("float32", "bfloat16"):
        try:
            device = choose_device(name, precision, threads=threads)  # type: ignore[arg-type]
        except DeviceError as error:
            print(f"  {precision}: {error}")
        else:
            calls[f"engine {precision}"] = engine(bundle, device, max_batch)
    return calls


def plain(bundle: Bundle, name: str, max_batch: int) -> Call:
    module, frames = served_module(bundle).to(name), example(bundle, max_batch)

    def call(batch: int) -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(frames[:batch]).to(name)).cpu().numpy()

    return call


def frozen(bundle: Bundle, max_batch: int) -> Call:
    frames = example(bundle, max_batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(served_module(bundle), torch.from_numpy(frames[:1]))  # type: ignore[no-untyped-call]
        module = torch.jit.optimize_for_inference(torch.jit.freeze(traced))

    def call(batch: int) -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(frames[:batch])).numpy()

    return call


def engine(bundle: Bundle, device: Device, max_batch: int) -> Call:
    engine, frames = load_model(bundle, device, max_batch).engine, example(bundle, max_batch)

    def call(batch: int) -> object:
        engine.staging(0)[:batch] = frames[:batch]
        engine.launch(0, batch)
        return engine.collect(0)

    return call


def example(bundle: Bundle, frames: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(0.0, 5.0, (frames, *bundle.manifest.input.shape)).astype(bundle.manifest.input.dtype)


def measure_core(bundle: Bundle, device: Device, rates: list[int], seconds: float) -> None:
    delivered: list[tuple[Result, float]] = []
    core = Core(
        bundle,
        device,
        max_batch=64 if device.name == "cpu" else 1024,
        capacity=8192,
        clock=time.perf_counter,
        deliver=lambda result: delivered.append((result, time.perf_counter())),
    )
    core.start()
    frames = example(bundle, 256)
    rate, cpu = saturate(core, frames, seconds)
    print(
        f"  core at {core.model.precision}: saturated {rate:,.0f} frames/s, {1e6 * cpu / rate:,.0f} us of CPU a frame"
    )
    for rate in rates:
        delivered.clear()
        took = offer(core, frames, rate, seconds, delivered)
        p50, p99 = np.percentile(took, [50, 99])
        sizes = [result.batch_frames for result, _ in delivered if result.opens_batch]
        print(
            f"    at {rate:,} frames/s, singly: p50 {1e3 * p50:.2f} ms, p99 {1e3 * p99:.2f} ms from submission to "
            f"delivery, {np.mean(sizes):.1f} frames a batch"
        )
    core.close()


def saturate(core: Core, frames: np.ndarray, seconds: float) -> tuple[float, float]:
    """Frames answered a second, and seconds of CPU a second."""
    begun, cpu, submitted = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < begun + seconds:
        if core.submit(frames, None):
            submitted += len(frames)
        else:
            core.wait_for_room(len(frames), 1.0)
    core.drain(60.0)
    took = time.perf_counter() - begun
    return submitted / took, (time.process_time() - cpu) / took


def offer(
    core: Core, frames: np.ndarray, rate: float, seconds: float, delivered: list[tuple[Result, float]]
) -> list[float]:
    """Seconds from when each frame was due to its delivery; frames come at random moments, `rate` a second."""
    rng = np.random.default_rng(0)
    begun = due = time.perf_counter()
    while due < begun + seconds:
        due += rng.exponential(1.0 / rate)
        time.sleep(max(0.0, due - time.perf_counter()))
        core.submit(frames[:1], due)
    core.drain(60.0)
    return [at - result.ticket for result, at in delivered]


if __name__ == "__main__":
    main()
