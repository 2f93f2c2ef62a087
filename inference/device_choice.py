"""The device that the settings ask for."""

from __future__ import annotations

from typing import Literal

from inference.bundle import Precision
from inference.devices import Device, EngineName, cpu, cuda
from inference.engine_choice import Measurement


def choose_device(
    name: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision | Literal["auto"] = "auto",
    *,
    threads: int = 1,
    engine: EngineName | Literal["auto"] = "auto",
    measurement: Measurement | None = None,
) -> Device:
    """Return the device of the settings; `auto` takes a GPU where there is one. The rest is for the CPU alone.

    Raises `DeviceError`.
    """
    if name == "cuda" or (name == "auto" and cuda.is_available()):
        return cuda.CudaDevice(precision)
    return cpu.CpuDevice(precision, threads, engine, measurement)
