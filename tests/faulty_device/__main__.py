"""`python -m tests.faulty_device`: the program, on a device that fails as the variable FAULT says.

memory=4 lost=50       no memory for more than 4 frames; lost from its 50th batch on
nan=50                 the answers of its 50th batch are not numbers
hang=50                its 50th batch never comes back, and neither does its driver's clean-up at the end
"""

import atexit
import ctypes
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import service.run
import service.serving.engines
from inference.bundle import Bundle
from inference.device_choice import choose_device
from inference.devices import Device, DeviceLostError, DeviceMemoryError, Engine
from inference.manifest import Precision
from service.cli import main

NEVER = 1 << 60
FAULTS = {name: int(at) for name, _, at in (word.partition("=") for word in os.environ["FAULT"].split())}


class FaultyDevice:
    """The CPU, called `cuda`, with faults."""

    name = "cuda"
    precisions: Sequence[Precision] = ("float32",)

    def load(self, bundle: Bundle, precision: Precision, max_batch: int) -> Engine:
        """Load on the CPU, which has no faults while it warms up."""
        return FaultyEngine(choose_device("cpu").load(bundle, precision, max_batch))


class FaultyEngine:
    """Another engine with faults."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._frames = [0, 0]
        self._batches = 0

    def staging(self, slot: int) -> NDArray[Any]:
        """As the engine's own."""
        return self._engine.staging(slot)

    def launch(self, slot: int, frames: int) -> None:
        """As the engine's own."""
        self._frames[slot] = frames
        self._engine.launch(slot, frames)

    def collect(self, slot: int) -> NDArray[np.float32]:
        """As the engine's own, unless it is time for a fault."""
        self._batches += 1
        if self._frames[slot] > FAULTS.get("memory", NEVER):
            raise DeviceMemoryError(f"no memory for {self._frames[slot]} frames")
        if self._batches >= FAULTS.get("lost", NEVER):
            raise DeviceLostError("the GPU has fallen off the bus")
        if self._batches >= FAULTS.get("hang", NEVER):
            never_return()
        answers = self._engine.collect(slot)
        return answers * np.float32("nan") if self._batches >= FAULTS.get("nan", NEVER) else answers


def never_return() -> None:
    """Be stuck in native code, as in a driver that waits for its kernel."""
    ctypes.CDLL(None).pause()


def choose_faulty(name: str, *_: str, threads: int, **__: object) -> Device:
    """Give the faulty device, and the CPU itself where that is asked for."""
    return choose_device("cpu", threads=threads) if name == "cpu" else FaultyDevice()


if "hang" in FAULTS:
    atexit.register(never_return)
for module in (service.serving.engines, service.run):  # the device, and its fallback
    vars(module)["choose_device"] = choose_faulty
sys.exit(main())
