"""Where a model runs. What the core needs of a device is four methods; all else about it stays behind them.

Errors:

    DeviceError             the device is not there, or cannot do what was asked
    ├── DeviceMemoryError   it has no memory for this; for fewer frames it may have
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
"""What a CPU can compute with; see `cpu`."""

SLOTS = 2
"""Batches that an engine holds at once: one that runs and one that is being prepared."""


class DeviceError(Exception):
    """The device that was asked for is not there, or cannot do what was asked; the text says what to choose."""


class DeviceMemoryError(DeviceError):
    """The device has no memory for what was asked; it goes on working, and may have some for a smaller batch."""


class DeviceLostError(DeviceError):
    """The device has failed, and will answer nothing more in this process."""


class Engine(Protocol):
    """One model on a device, warm, for batches of at most `max_batch` frames.

    A batch goes through one of `SLOTS` slots: its frames are written to the slot's staging array, it is launched,
    and it is collected before the slot is used again. A batch whose launch or collection raised has left its slot,
    which may then be used while the other slot's batch still runs. One thread uses an engine at a time.

    What `launch` and `collect` raise: `DeviceMemoryError` where fewer frames might go; anything else means that this
    engine is not to be trusted any more.
    """

    def staging(self, slot: int) -> NDArray[Any]:
        """Return the slot's input, (max_batch, *frame shape), to write the first rows of."""

    def launch(self, slot: int, frames: int) -> None:
        """Begin to classify the slot's first `frames` rows; returns without waiting where the device can."""

    def collect(self, slot: int) -> NDArray[np.float32]:
        """Wait for the slot's answers, and raise what the device raised: float32 (frames, columns) of their own memory.

        The columns are the bundle's labels' probabilities and, if it `tells_strangers`, the familiarity.
        """


class Device(Protocol):
    """Makes engines."""

    @property
    def name(self) -> str:
        """What metrics call it: `cpu` or `cuda`."""

    @property
    def precisions(self) -> Sequence[Precision]:
        """What to serve at, best first; the core takes the first that passes the bundle's golden check."""

    def load(self, bundle: Bundle, precision: Precision, max_batch: int) -> Engine:
        """Prepare and warm an engine for the bundle's frames."""


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
    """Load an engine and hold it against the bundle's golden answers. Raises `GoldenError`."""
    engine = device.load(bundle, precision, max_batch)
    check_golden(bundle, functools.partial(answer, engine, max_batch=max_batch), precision)
    return engine
