"""The CPU, in the caller's thread, by one of several engines; `engine_choice` measures which one is the fastest.

    winograd    `har-cnn` in float32 by our own kernels with fewer multiplications (`winograd`)
    amx         `har-cnn` in bfloat16 by our own kernels for the CPU's matrix unit, where it has one (`amx`)
    avx512      `har-cnn` in bfloat16 by our own kernels for CPUs with bfloat16 dot products (`avx512`)
    openvino    `har-cnn` in float32, bfloat16 or int8, where the package is installed (`openvino`)
    pytorch     everything, in float32 or bfloat16: oneDNN's convolutions with packed weights and a fused ReLU

An engine and its dependencies are imported when it serves or is measured: PyTorch takes 3 s and 500 MB.

bfloat16 and int8 need a CPU that computes in them; elsewhere they would be emulated. int8, whose answers differ most
from float32's, is never chosen unless asked for. Text models are PyTorch's: see `texts.py`. benchmarks/tried.md says
what else was tried.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import llvmlite.binding

from inference.architectures.har_arguments import HarCnnArguments
from inference.bundle import Bundle
from inference.devices import DeviceError, Engine, EngineName, amx_support, avx512_support, openvino
from inference.engine_choice import Choice, Measurement, choose
from inference.manifest import Precision

OURS: Mapping[EngineName, str] = {
    "winograd": "inference.devices.winograd",
    "amx": "inference.devices.amx",
    "avx512": "inference.devices.avx512",
}
"""The modules of our own engines. They are imported by name, so that one that can't be imported doesn't affect the
others.
"""
BFLOAT16_ALONE: Mapping[EngineName, ModuleType] = {"amx": amx_support, "avx512": avx512_support}
"""The engines that compute in bfloat16 only, faster one first, with the module that checks the CPU for them."""

# oneDNN and OpenVINO compile kernels for each new batch size, in 1 to 5 ms. Small ones, which are frequent under light
# load, are run before serving.
WARM_BATCHES = 16


class CpuDevice:
    """Computes in the thread that collects, with `threads` threads.

    With a `measurement`, `auto` stands for the engine that is measured to be the fastest. Without one, it stands for
    `winograd` in float32, or, if bfloat16 is asked for, `amx` or `avx512`. PyTorch serves the networks that the
    `engine` doesn't know; but int8 is for OpenVINO only, and a bundle that can't be served at it is refused. Raises
    `DeviceError`.
    """

    name = "cpu"

    def __init__(
        self,
        precision: Precision | Literal["auto"] = "auto",
        threads: int = 1,
        engine: EngineName | Literal["auto"] = "auto",
        measurement: Measurement | None = None,
    ) -> None:
        if precision == "bfloat16" and not _has_native_bfloat16():
            raise DeviceError("bfloat16 needs a CPU with AVX512-BF16, and this one has none: choose precision float32")
        if precision == "int8":
            _check_int8(engine)
            engine = "openvino"
        if engine == "winograd" and precision == "bfloat16":
            raise DeviceError("the engine winograd computes in float32: choose another engine, or precision float32")
        unit = None if engine == "auto" else BFLOAT16_ALONE.get(engine)
        if unit is not None and precision == "float32":
            raise DeviceError(f"the engine {engine} computes in bfloat16: choose another engine, or precision bfloat16")
        if engine == "openvino" and (missing := openvino.missing()):
            raise DeviceError(f"{missing}, or choose another engine")
        if unit is not None and (missing := unit.missing()):
            raise DeviceError(f"{missing}: choose another engine")
        plain: Precision = "bfloat16" if unit is not None else "float32"
        self.precisions: Sequence[Precision] = (plain,) if precision == "auto" else (precision,)
        self._threads = threads
        self._measurement = measurement
        self._engines: Sequence[EngineName] = (engine,) if engine != "auto" else _ours()
        self._offered: Sequence[Precision] = self.precisions
        self._falls_back = engine == "auto"
        if measurement is not None and engine == "auto":
            installed: Sequence[EngineName] = () if openvino.missing() else ("openvino",)
            self._engines = (*_ours(), *installed, "pytorch")
        if measurement is not None and precision == "auto" and _has_native_bfloat16():
            self._offered = ("float32", "bfloat16")

    def load(self, bundle: Bundle, precision: Precision, max_batch: int) -> Engine:
        """Prepare the first engine that serves the bundle at `precision`, and run the batch sizes of light load."""
        engine: EngineName = next((name for name in self._engines if _serves(name, precision, bundle)), "pytorch")
        return CpuWay(engine, precision, self._threads).load(bundle, precision, max_batch)

    def choose(self, bundle: Bundle, max_batch: int) -> Choice:
        """Return the ways to serve a bundle, best first.

        Measures if there are several, or if asked to measure anew.
        """
        plain = CpuWay("pytorch", self._offered[0], self._threads)
        ways = [
            CpuWay(engine, precision, self._threads)
            for precision in self._offered
            for engine in self._engines
            if _serves(engine, precision, bundle)
        ]
        if self._falls_back or not ways:
            ways = [*(way for way in ways if way != plain), plain]
        if self._measurement is None or (len(ways) == 1 and not self._measurement.anew):
            return Choice(ways)
        return choose(bundle, ways, max_batch, self._threads, self._measurement)


@dataclass(frozen=True, slots=True)
class CpuWay:
    """A device with one engine and one precision."""

    engine: EngineName
    precision: Precision
    threads: int = 1
    name = "cpu"

    @property
    def precisions(self) -> Sequence[Precision]:
        """The precision."""
        return (self.precision,)

    def load(self, bundle: Bundle, precision: Precision, max_batch: int) -> Engine:
        """Prepare the engine, and warm it up."""
        if self.engine == "openvino":
            engine = openvino.load(bundle, precision, max_batch, self.threads)
        elif self.engine in OURS:
            engine = _load_ours(self.engine, bundle, max_batch, self.threads)
        else:
            from inference.devices import pytorch

            engine = pytorch.load(bundle, precision, max_batch, self.threads)
        for frames in (*range(1, min(WARM_BATCHES, max_batch) + 1), max_batch):
            engine.launch(0, frames)
            engine.collect(0)
        return engine


def _ours() -> Sequence[EngineName]:
    """Return our own engines that can run here."""
    return ("winograd", *(name for name, unit in BFLOAT16_ALONE.items() if not unit.missing()))


def _load_ours(name: EngineName, bundle: Bundle, max_batch: int, threads: int) -> Engine:
    if bundle.manifest.architecture.name != "har-cnn":
        raise DeviceError(f"the engine {name} serves har-cnn alone: choose engine auto or pytorch")
    # Checked in each process that computes: a new program does not inherit the kernel's permission.
    if name in BFLOAT16_ALONE and (missing := BFLOAT16_ALONE[name].missing()):
        raise DeviceError(f"{missing}: choose another engine")
    try:
        kernels = importlib.import_module(OURS[name])  # late: text models need no compiler
        engine: Engine = kernels.load(bundle, max_batch, threads)
        return engine
    except DeviceError:
        raise
    except Exception as error:  # a compiler may raise anything on a processor that it doesn't know
        raise DeviceError(f"the engine {name} can't be compiled here: {error}; choose engine pytorch") from error


def _serves(engine: EngineName, precision: Precision, bundle: Bundle) -> bool:
    """Return whether an engine knows a bundle's network and computes at a precision."""
    if precision == "int8":
        return engine == "openvino"  # which says what a bundle lacks
    if engine == "pytorch":
        return True
    if bundle.manifest.architecture.name != "har-cnn":
        return False
    if engine in BFLOAT16_ALONE:
        return precision == "bfloat16" and bundle.manifest.input.shape == HarCnnArguments().input_shape
    return engine == "openvino" or precision == "float32"


def _has_native_bfloat16() -> bool:
    # Other x86 processors would emulate it, slower than float32; those of ARM that have it have not been measured.
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512bf16"))


def _check_int8(engine: EngineName | Literal["auto"]) -> None:
    """Raise `DeviceError` if the CPU or the engine has no int8."""
    if not _has_native_int8():
        raise DeviceError("this CPU has no instructions for int8 (AVX512-VNNI, AVX-VNNI or AMX): choose precision auto")
    if engine not in ("auto", "openvino"):
        raise DeviceError(f"the engine {engine} doesn't compute in int8: choose engine openvino, or another precision")
    if missing := openvino.missing():
        raise DeviceError(f"int8 is by OpenVINO alone: {missing}, or choose another precision")


def _has_native_int8() -> bool:
    features = llvmlite.binding.get_host_cpu_features()
    return any(features.get(name) for name in ("avx512vnni", "avxvnni", "amx-int8"))
