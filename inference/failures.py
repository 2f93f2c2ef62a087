"""Recovery of a batch that the device could not answer: in smaller batches, on another device, or not at all.

Out of memory: the batch is answered in parts of half the size, down to single frames. Any other failure, including
invalid answers and no memory for a single frame: the same frames, and all later ones of their lane, are answered by the
fallback device, if there is one; if not, the core dies with the reason. A batch is answered by one model as a whole,
and in its turn.
"""

from __future__ import annotations

import functools
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.bundle import Bundle
from inference.devices import Device, DeviceError, DeviceLostError, DeviceMemoryError
from inference.lanes import AnswerError, DeviceGivenUpError, Lane, Load, Trouble
from inference.models import Model, load_model

# On a CPU the rate is constant from 8 frames on; a larger batch only adds latency.
FALLBACK_BATCH = 64


class DeviceCalls:
    """Numbers the device's calls, so that a watcher sees one that hangs: its number stays the same."""

    def __init__(self) -> None:
        self.under_way: int | None = None
        self._begun = 0

    def __enter__(self) -> None:
        self._begun += 1
        self.under_way = self._begun

    def __exit__(self, _type: type[BaseException] | None, _: BaseException | None, _tb: TracebackType | None) -> None:
        self.under_way = None


class BatchRecovery:
    """Answers batches that failed; used by the core's thread only, except for `load`.

    Models are served by `device` in batches of `max_batch`, and move to `fallback` when it fails.
    """

    def __init__(self, device: Device, fallback: Device | None, max_batch: int, calls: DeviceCalls) -> None:
        self._load: Load = functools.partial(load_model, device=device, max_batch=max_batch)
        self._fallback: Load | None = None
        self._fallback_device = ""
        if fallback is not None:
            self._fallback = functools.partial(load_model, device=fallback, max_batch=min(max_batch, FALLBACK_BATCH))
            self._fallback_device = fallback.name
        self._calls = calls
        # Never freed: freeing memory calls the lost device, which may abort the process.
        self.lost: list[Model] = []

    def load(self, bundle: Bundle) -> tuple[Model, Load, DeviceError | None]:
        """Load a lane's first model; return it, its loader for later ones, and the error if it is on the fallback.

        Raises `BundleError` and, without a fallback, `DeviceError`.
        """
        try:
            return self._load(bundle), self._load, None
        except DeviceError as error:
            if self._fallback is None:
                raise
            return self._fallback(bundle), self._fallback, error

    def answer(
        self, lane: Lane, model: Model, slot: int, frames: NDArray[Any], error: Exception
    ) -> tuple[Model, NDArray[np.float32]]:
        """Answer `frames`, on which `model` failed with `error`; return the answers and the model that gave them.

        The engine's `slot` is free for it. Raises `DeviceGivenUpError`.
        """
        failed = len(frames)
        while True:
            self._degrade(lane, model, failed, error)
            model = lane.model
            failed = min(len(frames), lane.limit.frames, model.max_batch)
            try:
                return model, self._answer_in_parts(model, slot, frames, failed)
            except Exception as another:
                error = another

    def _degrade(self, lane: Lane, model: Model, failed: int, error: Exception) -> None:
        if isinstance(error, DeviceMemoryError) and failed > 1:
            lane.limit.shrink(failed)
            lane.notice(Trouble("smaller", error, model, lane.limit.frames))
        else:
            self._fall_back(lane, model, error)

    def _fall_back(self, lane: Lane, model: Model, error: Exception) -> None:
        if isinstance(error, DeviceLostError) and model not in self.lost:
            self.lost.append(model)
        if lane.model is not model:  # an earlier batch has moved the lane, or a bundle was swapped in: try that
            return
        if self._fallback is None or model.device == self._fallback_device:
            raise DeviceGivenUpError(_failure_message(model, error)) from error
        fresh = self._fallback(model.bundle)
        lane.move(model, fresh, self._fallback)
        lane.notice(Trouble("fallback", error, fresh, fresh.max_batch))

    def _answer_in_parts(self, model: Model, slot: int, frames: NDArray[Any], size: int) -> NDArray[np.float32]:
        answers = []
        for start in range(0, len(frames), size):
            part = frames[start : start + size]
            with self._calls:
                model.engine.staging(slot)[: len(part)] = part
                model.engine.launch(slot, len(part))
                answers.append(checked(model, model.engine.collect(slot), len(part)))
        return np.concatenate(answers)


def checked(model: Model, answers: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Return `answers` if they are valid for this many frames.

    Raises `AnswerError`.
    """
    wanted = (frames, model.bundle.manifest.columns)
    if answers.shape != wanted:
        raise AnswerError(f"it answered {list(answers.shape)} instead of {list(wanted)}")
    if not np.isfinite(answers).all():
        raise AnswerError("it gave probabilities that are not finite")
    return answers


def _failure_message(model: Model, error: Exception) -> str:
    advice = (
        "if it happens again on another machine, the bundle or its frames are at fault"
        if model.device == "cpu"
        else "start the worker again; with inference.fallback cpu it goes on without this device"
    )
    return f"{model.bundle.title} can't be served on {model.device} any more: {error}; {advice}"
