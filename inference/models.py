"""A bundle on a device: loaded, held against its golden answers, and warm."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.bundle import Bundle, GoldenError, ManifestError, Precision, check_golden, served_module
from inference.devices import Device, Engine


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A bundle that passed its golden check on an engine."""

    bundle: Bundle
    precision: Precision
    engine: Engine
    device: str
    """What metrics call where it runs: `cpu` or `cuda`."""
    max_batch: int


def load_model(bundle: Bundle, device: Device, max_batch: int) -> Model:
    """Load `bundle` at the first of the device's precisions at which it reproduces its golden answers.

    Raises `GoldenError`, of the last one tried, if there is none; and `DeviceError`.
    """
    refusal = GoldenError(f"{bundle.folder}: the device {device.name} offers no precision")
    for precision in device.precisions:
        wanted = bundle.manifest.input
        engine = device.load(served_module(bundle), precision, wanted.shape, wanted.dtype, max_batch)
        try:
            check_golden(bundle, functools.partial(_infer, engine, max_batch), precision)
        except GoldenError as error:
            refusal = error
        else:
            return Model(bundle, precision, engine, device.name, max_batch)
    raise refusal


def refuse_other_frames(old: Bundle, new: Bundle) -> None:
    """Refuse to replace `old` by a bundle that its callers' frames, or their metrics' labels, would not fit.

    Raises `ManifestError` that names what differs.
    """
    for field in ("input", "labels", "framing"):
        if getattr(old.manifest, field) != getattr(new.manifest, field):
            raise _other(field, old, new)
    if old.vocabulary != new.vocabulary:
        raise _other("vocabulary", old, new)


def _other(what: str, old: Bundle, new: Bundle) -> ManifestError:
    return ManifestError(
        f"{new.title} has another {what} than {old.title}, which it would replace: start a new worker with it"
    )


def _infer(engine: Engine, max_batch: int, frames: NDArray[Any]) -> NDArray[np.float32]:
    answers = []
    for start in range(0, len(frames), max_batch):
        part = frames[start : start + max_batch]
        engine.staging(0)[: len(part)] = part
        engine.launch(0, len(part))
        answers.append(engine.collect(0))
    return np.concatenate(answers)
