"""The inference core: frames in, predictions out. It knows models, batches and devices, and nothing of their use.

One thread owns the device. When the device is idle, whatever waits leaves at once; while it is busy frames gather,
and as soon as they fill a batch that batch is prepared and launched behind the one that runs. So there is no timer,
no wait at low load, and large batches at high load.

Each model has a lane of its own (`lanes.py`, with the errors), with a bounded queue. A batch holds frames of one lane,
and the lanes that have any take turns batch by batch, so that none can starve another.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.batching import Piece
from inference.bundle import Bundle
from inference.devices import Device
from inference.lanes import (
    REASONS,
    CoreClosedError,
    CoreError,
    CoreFailedError,
    CoreTimeoutError,
    Lane,
    Reason,
    Shared,
)
from inference.models import Model, load_model

__all__ = [
    "REASONS",
    "Core",
    "CoreClosedError",
    "CoreError",
    "CoreFailedError",
    "CoreTimeoutError",
    "Lane",
    "Reason",
    "Result",
]

# An idle thread looks up this often, though nothing depends on it: a wait without a deadline is a hang in waiting.
IDLE_WAIT_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The answers to rows [start, stop) of the block that was submitted with `ticket`.

    `probabilities` is float32 (stop - start, labels). `queue_s` is from submission until the device took the batch
    up, `inference_s` from then until its answers were there. `opens_batch` is true for one result of each batch:
    who counts batches counts `batch_frames`, `reason` and `inference_s` there.
    """

    ticket: Any
    start: int
    stop: int
    probabilities: NDArray[np.float32]
    bundle: Bundle
    queue_s: float
    inference_s: float
    batch_frames: int
    reason: Reason
    opens_batch: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """What has been launched and not yet collected."""

    lane: Lane
    model: Model
    slot: int
    pieces: list[Piece]
    frames: int
    reason: Reason
    launched_at: float


class Core:
    """Batches frames from any thread onto one device and delivers the answers, in order of submission to each lane.

    `max_batch` bounds a batch and `capacity` the frames that wait in each lane, `clock` gives seconds, and `deliver`
    is called on the core's own thread: it should hand the result on rather than work on it, for nothing is
    classified meanwhile.
    """

    def __init__(
        self,
        device: Device,
        *,
        max_batch: int = 64,
        capacity: int = 4096,
        clock: Callable[[], float],
        deliver: Callable[[Result], None],
    ) -> None:
        if max_batch < 1 or capacity < 1:
            raise ValueError(f"max_batch {max_batch} and capacity {capacity} must be at least 1")
        self._device = device
        self._max_batch = max_batch
        self._capacity = capacity
        self._clock = clock
        self._deliver = deliver
        self._shared = Shared()
        self._lanes: list[Lane] = []  # the one whose turn is next comes first; belongs to the lock
        self._slot = 0  # of the next batch; the core's thread alone
        self._free_at = 0.0  # when the device finished its last batch; the core's thread alone
        self._thread = threading.Thread(target=self._run, name="inference-core", daemon=True)

    # -- for everyone

    @property
    def device_name(self) -> str:
        """`cpu` or `cuda`."""
        return self._device.name

    @property
    def error(self) -> BaseException | None:
        """What the core died of."""
        return self._shared.error

    @property
    def alive(self) -> bool:
        """Whether frames that are submitted will be answered."""
        return self._thread.is_alive() and not self._shared.stopped

    def open(self, bundle: Bundle) -> Lane:
        """Load a model, hold it against its golden answers, warm it, and give it a lane; before or after `start`.

        Raises `BundleError` and `DeviceError`.
        """
        load = functools.partial(load_model, device=self._device, max_batch=self._max_batch)
        lane = Lane(bundle, load, capacity=self._capacity, clock=self._clock, shared=self._shared)
        with self._shared.lock:
            self._lanes.append(lane)
        return lane

    def start(self) -> None:
        """Start the thread."""
        with self._shared.lock:
            self._shared.started = True
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Finish the batches that run, drop what waits, and end the thread; `Lane.drain` first to lose nothing.

        Raises `CoreTimeoutError` if the thread does not end; it is a daemon, and will not keep the process.
        """
        with self._shared.lock:
            self._shared.closing = True
            self._forget_waiting()
            self._shared.frames_came.notify_all()
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise CoreTimeoutError(f"the core's thread did not end within {timeout_s:g} s")

    def _forget_waiting(self) -> None:
        for lane in self._lanes:
            lane.clear()
        self._shared.batch_left.notify_all()

    # -- the core's thread

    def _run(self) -> None:
        try:
            while (running := self._wait_for_frames()) is not None:
                self._keep_busy(running)
        except BaseException as error:
            with self._shared.lock:
                self._shared.error = error
                self._forget_waiting()

    def _wait_for_frames(self) -> _Batch | None:
        """Launch a batch as soon as anything waits; return None when the core closes."""
        with self._shared.lock:
            while not any(lane.queued for lane in self._lanes) and not self._shared.closing:
                self._shared.frames_came.wait(IDLE_WAIT_S)
        return self._launch_next(full_only=False)

    def _keep_busy(self, first: _Batch) -> None:
        """Run `first` and all that gathers behind it, until nothing is left."""
        running: _Batch | None = first
        while running is not None:
            # A full batch gains nothing by waiting: it is prepared while the other runs. One that is not full goes
            # on gathering until the device is free.
            following = self._launch_next(full_only=True)
            answers = self._collect(running)
            if following is None:
                following = self._launch_next(full_only=False)
            self._deliver_answers(running, answers)
            running = following

    def _launch_next(self, *, full_only: bool) -> _Batch | None:
        """Launch a batch of the lane whose turn it is, the first that has frames; None if it has no (full) batch."""
        with self._shared.lock:
            lane = next((lane for lane in self._lanes if lane.queued), None)
            if lane is None or (full_only and lane.queued < self._max_batch):
                return None
            self._lanes.remove(lane)
            self._lanes.append(lane)
            model = lane.model
            pieces, reason = lane.take(self._max_batch)
            self._shared.batch_left.notify_all()
        return self._launch(lane, model, pieces, reason)

    def _launch(self, lane: Lane, model: Model, pieces: list[Piece], reason: Reason) -> _Batch:
        slot = self._slot
        self._slot = 1 - slot
        staging = model.engine.staging(slot)
        frames = 0
        for piece in pieces:
            staging[frames : frames + len(piece)] = piece.block.frames[piece.start : piece.stop]
            frames += len(piece)
        launched_at = self._clock()
        model.engine.launch(slot, frames)
        return _Batch(lane, model, slot, pieces, frames, reason, launched_at)

    def _collect(self, batch: _Batch) -> tuple[NDArray[np.float32], float, float]:
        """Return a batch's answers, and when the device began and ended with it."""
        answers = batch.model.engine.collect(batch.slot)
        began_at = max(batch.launched_at, self._free_at)
        self._free_at = self._clock()
        wanted = (batch.frames, len(batch.model.bundle.manifest.labels))
        if answers.shape != wanted:
            raise CoreError(f"the device answered {list(answers.shape)} instead of {list(wanted)}")
        if not np.isfinite(answers).all():
            raise CoreError(
                f"{batch.model.bundle.title} gave probabilities that are not finite: a frame it was given is not "
                f"either, or the device is faulty"
            )
        return answers, began_at, self._free_at

    def _deliver_answers(self, batch: _Batch, collected: tuple[NDArray[np.float32], float, float]) -> None:
        answers, began_at, ended_at = collected
        row = 0
        for piece in batch.pieces:
            self._deliver(
                Result(
                    ticket=piece.block.ticket,
                    start=piece.start,
                    stop=piece.stop,
                    probabilities=answers[row : row + len(piece)],
                    bundle=batch.model.bundle,
                    queue_s=max(0.0, began_at - piece.block.submitted_at),
                    inference_s=ended_at - began_at,
                    batch_frames=batch.frames,
                    reason=batch.reason,
                    opens_batch=row == 0,
                )
            )
            row += len(piece)
        with self._shared.lock:
            batch.lane.count_answered(batch.frames)
            self._shared.batch_left.notify_all()
