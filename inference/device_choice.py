"""The device that the settings select."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from inference.devices import Device, EngineName, cpu
from inference.engine_choice import Measurement
from inference.manifest import Precision

# Paths that NVIDIA's driver creates (also in WSL and on Jetson boards), the tool that creates its devices on first use,
# and AMD's path.
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
    """Return the device of the settings; `auto` takes a GPU if there is one. The other arguments are for the CPU only.

    Raises `DeviceError`.
    """
    if name == "cuda" or (name == "auto" and may_have_gpu()):
        from inference.devices import cuda  # late: importing PyTorch takes seconds and 500 MB

        if name == "cuda" or cuda.is_available():
            return cuda.CudaDevice(precision)
    return cpu.CpuDevice(precision, threads, engine, measurement)


def may_have_gpu() -> bool:
    """Return whether importing PyTorch to look for a GPU is worthwhile: not without a GPU driver, nor on macOS."""
    return sys.platform not in ("linux", "darwin") or any(Path(driver).exists() for driver in GPUS)
