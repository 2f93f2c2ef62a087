"""The device that the settings ask for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from inference.devices import Device, EngineName, cpu
from inference.engine_choice import Measurement
from inference.manifest import Precision

# What a driver of NVIDIA's puts there (in Windows' Linux too, and on its small boards), what makes its devices when
# they are first asked for, and what AMD's puts there.
NVIDIA = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/usr/bin/nvidia-modprobe", "/dev/dxg")
GPUS = (*NVIDIA, "/dev/nvhost-ctrl-gpu", "/dev/nvgpu", "/dev/kfd")


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
    if name == "cuda" or (name == "auto" and may_have_gpu()):
        from inference.devices import cuda  # late: it takes PyTorch seconds and 500 MB to find out

        if name == "cuda" or cuda.is_available():
            return cuda.CudaDevice(precision)
    return cpu.CpuDevice(precision, threads, engine, measurement)


def may_have_gpu() -> bool:
    """Tell whether it is worth PyTorch's while to look for a GPU: not where Linux has no driver for one."""
    return sys.platform != "linux" or any(Path(driver).exists() for driver in GPUS)
