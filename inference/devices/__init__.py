"""Devices, on which models run. The core uses four methods of an engine and a device; everything else is internal.

Errors:

    DeviceError             the device is not there, or cannot do what was asked
    ├── DeviceMemoryError   it has no memory for this; fewer frames may fit
    └── DeviceLostError     it answers nothing more in this process
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.bundle import Bundle, check_golden
from inference.manifest import Precision

EngineName = Literal["winograd", "amx", "avx512", "openvino", "pytorch"]
"""The engines of a CPU; see `cpu`."""

SLOTS = 2
"""Batches that an engine holds at once: one running, and one being prepared."""


class DeviceError(Exception):
    """The selected device is not there, or cannot do what was asked; the text says what to choose."""


class DeviceMemoryError(DeviceError):
    """The device has no memory for what was asked; it keeps working, and a smaller batch may fit."""


class DeviceLostError(DeviceError):
    """The device has failed, and will answer nothing more in this process."""


class Engine(Protocol):
    """One model on a device, warmed up, for batches of at most `max_batch` frames.

    A batch goes through one of `SLOTS` slots: its frames are written to the slot's staging array, it is launched, and
    it is collected before the slot is used again. If a launch or a collection raises, the batch has left its slot,
    which may then be used while the other slot's batch still runs. One thread uses an engine at a time.

    `launch` and `collect` raise `DeviceMemoryError` if fewer frames might fit; after any other error this engine must
    not be used any more.
    """

    def staging(self, slot: int) -> NDArray[Any]:
        """Return the slot's input array, (max_batch, *frame shape), whose first rows are to be written."""

    def launch(self, slot: int, frames: int) -> None:
        """Start to classify the slot's first `frames` rows; returns without waiting if the device can."""

    def collect(self, slot: int) -> NDArray[np.float32]:
        """Wait for the slot's answers, or raise the device's error: float32 (frames, columns), in memory of their own.

        The columns are the probabilities of the bundle's labels and, if it `tells_strangers`, the familiarity.
        """


class Device(Protocol):
    """Makes engines."""

    @property
    def name(self) -> str:
        """The name in metrics: `cpu` or `cuda`."""

    @property
    def precisions(self) -> Sequence[Precision]:
        """The precisions to try, best first; the core takes the first that passes the bundle's golden check."""

    def load(self, bundle: Bundle, precision: Precision, max_batch: int) -> Engine:
        """Prepare an engine for the bundle's frames, and warm it up."""


def answer(engine: Engine, frames: NDArray[Any], max_batch: int) -> NDArray[np.float32]:
    """Answer frames (n, *shape) through one slot of an engine, in batches of at most `max_batch`."""
    answers = []
    for start in range(0, len(frames), max_batch):
        part = frames[start : start + max_batch]
        engine.staging(0)[: len(part)] = part
        engine.launch(0, len(part))
        answers.append(engine.collect(0))
    return np.concatenate(answers)


def load_checked(bundle: Bundle, device: Device, precision: Precision, max_batch: int) -> Engine:
    """Load an engine and check the bundle's golden answers with it. Raises `GoldenError`."""
    engine = device.load(bundle, precision, max_batch)
    check_golden(bundle, functools.partial(answer, engine, max_batch=max_batch), precision)
    return engine
