"""The fastest way to serve a bundle on this machine: measured once, and stored.

A way is an engine at a precision. It is measured only if it reproduces the bundle's golden answers at its precision.
All such ways take turns with full batches and single frames of the golden input. The fastest turn of each counts,
because other load disturbs it least. Measurements are stored in a file for each combination of processor, versions,
architecture and settings. If the file can't be read or written, or there is no folder, each start measures. The golden
answers are checked at each load in any case.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import llvmlite.binding
import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from inference.bundle import Bundle, load_bundle
from inference.devices import Device, DeviceError, Engine, answer, load_checked
from inference.manifest import GoldenError, Precision

SECONDS = 1.0
"""The time that the turns of all ways take together; at least `ROUNDS` turns take place."""
ROUNDS = 3

# A lower precision must be this much faster: its answers are further from the golden ones, though within the tolerance.
FLOAT32_BONUS = 1.1
FILE_LIMIT = 1 << 16
MEASURING_TIMEOUT_S = 120.0
"""The time that another process may take to measure: with empty caches it compiles first."""
VECTORS = ("amx-tile", "avx512f", "avx2", "sve", "neon")
CPU_INFO = "/proc/cpuinfo"
PACKAGES = ("stridecast", "torch", "numpy", "numba", "openvino")


class Way(Device, Protocol):
    """A device with one engine and one precision."""

    @property
    def engine(self) -> str:
        """The engine's name."""

    @property
    def precision(self) -> Precision:
        """The precision."""


class Measured(BaseModel):
    """The speed of a way: `frames_per_s` in full batches, `single_ms` for one frame; or its refusal, and zeros."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    engine: str
    precision: Precision
    frames_per_s: float = 0.0
    single_ms: float = 0.0
    refusal: str = ""

    @property
    def title(self) -> str:
        """The engine and its precision."""
        return f"{self.engine} at {self.precision}"

    @property
    def worth(self) -> float:
        """The value that ways are ranked by."""
        return self.frames_per_s * (FLOAT32_BONUS if self.precision == "float32" else 1.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """The ways to serve a bundle, best first; the measurements, if any; and how they were stored."""

    ways: Sequence[Way]
    measured: Sequence[Measured] = ()
    remembered: bool = False
    """Whether the measurements were stored before."""
    note: str = ""
    """Why the measurements could not be stored for the next start."""


@runtime_checkable
class ChoosesEngine(Protocol):
    """A device with several ways to serve a bundle."""

    def choose(self, bundle: Bundle, max_batch: int) -> Choice:
        """Return the ways, best first."""


class Memory(BaseModel):
    """A stored measurement: the conditions it holds for, the bundle that was measured, and the results."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    key: dict[str, JsonValue]
    bundle_digest: str
    measured: list[Measured]

    def holds_for(self, key: dict[str, JsonValue], ways: Sequence[Way], bundle: Bundle) -> bool:
        """Return whether it applies. A refusal holds only for the bundle measured: another bundle may pass."""
        if [(each.engine, each.precision) for each in self.measured] != [(way.engine, way.precision) for way in ways]:
            return False
        refused = any(each.refusal for each in self.measured)
        return self.key == key and (not refused or self.bundle_digest == bundle.digest)


@dataclass(frozen=True, slots=True)
class Measurement:
    """How to measure: a clock in seconds, and the folder to store results in, if any.

    `anew` ignores what is in the folder. Results of this process are kept in memory in any case. `apart` measures in
    another process, so that the serving process needn't hold the memory of the slower engines. `announce` is called
    before it measures, which takes seconds.
    """

    clock: Callable[[], float]
    folder: Path | None = None
    anew: bool = False
    apart: bool = False
    announce: Callable[[Bundle], None] = lambda bundle: None
    memories: dict[str, Memory] = field(default_factory=dict)


def choose(bundle: Bundle, ways: Sequence[Way], max_batch: int, threads: int, measurement: Measurement) -> Choice:
    """Return `ways` ranked by stored or new measurements, without refused ones.

    The last of `ways` is kept as the last resort, whatever its measurement.
    """
    key = _key(bundle, ways, max_batch, threads)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = measurement.folder / f"{name}.json" if measurement.folder is not None else None
    found = measurement.memories.get(name) or (None if path is None or measurement.anew else load_memory(path))
    remembered, note = found is not None and found.holds_for(key, ways, bundle), ""
    if found is None or not remembered:
        measurement.announce(bundle)
        measured = (measure_in_process if measurement.apart else measure)(bundle, ways, max_batch, measurement.clock)
        if not measured:
            return Choice(
                ways, note="what should measure them could not start, died of it or took too long: taken unmeasured"
            )
        found = Memory(key=key, bundle_digest=bundle.digest, measured=list(measured))
        if any(not each.refusal for each in measured):
            measurement.memories[name] = found
            note = save_memory(path, found) if path is not None else ""
    by_name = {(way.engine, way.precision): way for way in ways}
    best_first = sorted((each for each in found.measured if not each.refusal), key=lambda each: -each.worth)
    chosen = [by_name[each.engine, each.precision] for each in best_first]
    return Choice([*chosen, *(way for way in ways[-1:] if way not in chosen)], found.measured, remembered, note)


def measure(bundle: Bundle, ways: Sequence[Way], max_batch: int, clock: Callable[[], float]) -> list[Measured]:
    """Measure each way that reproduces the golden answers; return results in the order of `ways`."""
    found: dict[int, Measured] = {}
    engines: dict[int, Engine] = {}
    for index, way in enumerate(ways):
        try:
            engines[index] = load_checked(bundle, way, way.precision, max_batch)
        except Exception as error:  # a package or its driver may raise anything; the other ways can still serve
            message = str(error) if isinstance(error, GoldenError | DeviceError) else f"{type(error).__name__}: {error}"
            found[index] = Measured(engine=way.engine, precision=way.precision, refusal=message or type(error).__name__)
    golden = bundle.manifest.golden_frames()
    frames = np.resize(golden, (max_batch, *golden.shape[1:]))
    full, single = dict.fromkeys(engines, float("inf")), dict.fromkeys(engines, float("inf"))
    rounds, end = 0, clock() + SECONDS
    while engines and (rounds < ROUNDS or clock() < end):
        rounds += 1
        for index, engine in engines.items():
            full[index] = min(full[index], _duration(engine, frames, clock))
            single[index] = min(single[index], _duration(engine, frames[:1], clock))
    for index in engines:
        rate = max_batch / max(full[index], 1e-9)
        engine_name, precision = ways[index].engine, ways[index].precision
        found[index] = Measured(
            engine=engine_name, precision=precision, frames_per_s=rate, single_ms=1e3 * single[index]
        )
    return [found[index] for index in range(len(ways))]


def measure_in_process(
    bundle: Bundle, ways: Sequence[Way], max_batch: int, clock: Callable[[], float]
) -> Sequence[Measured]:
    """Measure in another process; return nothing if it dies or takes too long."""
    context = multiprocessing.get_context("spawn")
    answers, answer_to = context.Pipe(duplex=False)
    arguments = (answer_to, bundle.folder, ways, max_batch, clock)
    process = context.Process(target=_measure_and_send, args=arguments, name="measuring engines", daemon=True)
    try:
        process.start()
    except OSError:  # there may be no room for another process
        return ()
    answer_to.close()
    try:
        return answers.recv() if answers.poll(MEASURING_TIMEOUT_S) else ()
    except EOFError:
        return ()
    finally:
        process.kill()
        process.join()


def _measure_and_send(
    answer_to: Connection, folder: Path, ways: Sequence[Way], max_batch: int, clock: Callable[[], float]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the waiting process handles it, and then ends this one
    answer_to.send(measure(load_bundle(folder), ways, max_batch, clock))


def load_memory(path: Path) -> Memory | None:
    """Read a stored measurement; return None if there is none, or it can't be read."""
    try:
        with path.open("rb") as file:
            return Memory.model_validate_json(file.read(FILE_LIMIT))
    except (OSError, ValidationError):
        return None


def memories(bundle: Bundle, folder: Path | None) -> list[Memory]:
    """Return the measurements stored for this processor and this bundle's architecture, oldest first."""
    found = [load_memory(path) for path in sorted(folder.glob("*.json"), key=_age)] if folder is not None else []
    here = {"cpu": cpu_title(), "architecture": bundle.manifest.architecture.model_dump(mode="json")}
    return [memory for memory in found if memory is not None and here.items() <= memory.key.items()]


def _age(path: Path) -> tuple[float, str]:
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name


def other_versions(memory: Memory) -> dict[str, str]:
    """Return the packages that a measurement was made with other versions of than are installed, and those."""
    measured = memory.key.get("versions")
    if not isinstance(measured, dict):
        return {}
    return {name: str(version) for name, version in measured.items() if version != _version(name)}


def save_memory(path: Path, memory: Memory) -> str:
    """Store a measurement atomically; return why it can't be stored, or an empty text."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            whole = Path(scratch) / path.name
            whole.write_text(memory.model_dump_json(indent=1) + "\n", encoding="utf-8")
            whole.replace(path)
    except OSError as error:
        return f"{path.parent} can't be written ({error.strerror or error}), so each start measures again"
    return ""


def _duration(engine: Engine, frames: Any, clock: Callable[[], float]) -> float:
    begun = clock()
    answer(engine, frames, len(frames))
    return clock() - begun


def _key(bundle: Bundle, ways: Sequence[Way], max_batch: int, threads: int) -> dict[str, JsonValue]:
    """Return the conditions that a measurement depends on; of the bundle, only its architecture."""
    return {
        "cpu": cpu_title(),
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in PACKAGES},
        "architecture": bundle.manifest.architecture.model_dump(mode="json"),
        "ways": [f"{way.engine} {way.precision}" for way in ways],
        "max_batch": max_batch,
        "threads": threads,
    }


@functools.cache
def cpu_title() -> str:
    """Return the processor's name, and the widest vector instructions that it has."""
    # LLVM's name for it, such as neoverse-v1: on ARM the system gives none, and "aarch64" would stand for all of them.
    name = llvmlite.binding.get_host_cpu_name()
    model = name if name not in ("", "generic") else platform.processor() or platform.machine()
    try:
        with open(CPU_INFO, encoding="utf-8") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    features = llvmlite.binding.get_host_cpu_features()
    vectors = next((name for name in VECTORS if features.get(name)), "")
    return f"{model} ({vectors.upper()})" if vectors else model


@functools.cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
