"""A bundle on a device: loaded, checked against its golden answers, and warmed up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.bundle import Bundle
from inference.devices import Device, Engine, load_checked
from inference.engine_choice import Choice, ChoosesEngine, Way
from inference.manifest import GoldenError, ManifestError, Precision


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A bundle that passed its golden check on an engine."""

    bundle: Bundle
    precision: Precision
    engine: Engine
    device: str
    """The device's name in metrics: `cpu` or `cuda`."""
    max_batch: int
    choice: Choice | None = None
    """For a device with several ways: all of them."""
    way: str = ""
    """The engine of the chosen way."""
    passed_over: tuple[str, ...] = ()
    """Why better ways were not chosen."""

    def split_columns(self, answers: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Split the engine's answers (n, columns) into probabilities (n, labels) and familiarity (n,) or None.

        Both are contiguous.
        """
        manifest = self.bundle.manifest
        if not manifest.tells_strangers:
            return answers, None
        labels = len(manifest.labels)
        return np.ascontiguousarray(answers[:, :labels]), answers[:, labels].copy()


def load_model(bundle: Bundle, device: Device, max_batch: int) -> Model:
    """Load `bundle` in the device's best way, or at its first precision, that reproduces its golden answers.

    Raises `GoldenError`, of the last one tried, if none does; and `DeviceError`.
    """
    if isinstance(device, ChoosesEngine):
        return _load_best_way(bundle, device.choose(bundle, max_batch), max_batch)
    refusal = GoldenError(f"{bundle.folder}: the device {device.name} offers no precision")
    for precision in device.precisions:
        try:
            engine = load_checked(bundle, device, precision, max_batch)
        except GoldenError as error:
            refusal = error
        else:
            return Model(bundle, precision, engine, device.name, max_batch)
    raise refusal


def _load_best_way(bundle: Bundle, choice: Choice, max_batch: int) -> Model:
    refusals: list[tuple[Way, Exception]] = []
    for way in choice.ways:
        try:
            engine = load_checked(bundle, way, way.precision, max_batch)
        except Exception as error:  # a package or its driver may raise anything; the other ways can still serve
            refusals.append((way, error))
        else:
            passed_over = tuple(f"{refused.engine} at {refused.precision}: {error}" for refused, error in refusals)
            return Model(bundle, way.precision, engine, way.name, max_batch, choice, way.engine, passed_over)
    raise refusals[-1][1]


def check_same_frames(old: Bundle, new: Bundle) -> None:
    """Check that `new` can replace `old`: with the same frames of its callers and the same labels of their metrics.

    Raises `ManifestError` that names the difference.
    """
    for field in ("input", "labels", "framing"):
        if getattr(old.manifest, field) != getattr(new.manifest, field):
            raise _other(field, old, new)
    if old.vocabulary != new.vocabulary:
        raise _other("vocabulary", old, new)


def _other(what: str, old: Bundle, new: Bundle) -> ManifestError:
    other = "other" if what == "labels" else "another"
    return ManifestError(
        f"{new.title} has {other} {what} than {old.title}, which it would replace: start a new worker with it"
    )
