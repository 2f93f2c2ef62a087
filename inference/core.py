"""The inference core: frames in, predictions out. It knows models, batches and devices, but not what they are used for.

One thread owns the device. While the device is idle, whatever waits is launched at once. While it is busy, frames
gather; as soon as they fill a batch, that batch is prepared and launched behind the running one. So there is no timer,
no wait at low load, and large batches at high load.

Each model has a lane (`lanes.py`, with the errors): its own bounded queue. A batch holds frames of one lane, and lanes
with frames take turns batch by batch, so none can starve another. `failures.py` deals with batches that the device
cannot answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.batching import Piece
from inference.bundle import Bundle
from inference.devices import Device
from inference.failures import BatchRecovery, DeviceCalls, checked
from inference.lanes import CoreError, CoreState, CoreTimeoutError, Lane, Reason, Trouble
from inference.models import Model

# An idle thread wakes up this often. Nothing depends on it, but a wait without a timeout could hang.
IDLE_WAIT_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The answers to rows [start, stop) of the block that was submitted with `ticket`.

    `probabilities` is float32 (stop - start, labels), C-contiguous. `familiarity`, the probability that a frame belongs
    to any of the model's labels, is float32 (stop - start,) in [0, 1]; None if `bundle` doesn't have it. `queue_s` is
    the time from submission until the device starts on the batch, `inference_s` from then until its answers arrive.
    `opens_batch` is true for one result of each batch: count `batch_frames`, `reason` and `inference_s` there, once a
    batch.
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
    familiarity: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """A batch that has been launched, or failed to launch with `error`, and is not yet collected."""

    lane: Lane
    model: Model
    slot: int
    pieces: list[Piece]
    frames: int
    reason: Reason
    launched_at: float
    error: Exception | None


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """A batch's answers, (frames, columns), the model that gave them, and the times of its start and end."""

    model: Model
    columns: NDArray[np.float32]
    began_at: float
    ended_at: float


class Core:
    """Batches frames from any thread onto one device, and delivers answers in order of submission to each lane.

    `max_batch` bounds a batch, and `capacity` the waiting frames of each lane. `clock` returns seconds. `deliver` is
    called on the core's thread and should only hand the result on, since nothing is classified meanwhile. Models that
    `device` fails to serve move to `fallback`.
    """

    def __init__(
        self,
        device: Device,
        *,
        max_batch: int = 64,
        capacity: int = 4096,
        clock: Callable[[], float],
        deliver: Callable[[Result], None],
        fallback: Device | None = None,
    ) -> None:
        if max_batch < 1 or capacity < 1:
            raise ValueError(f"max_batch {max_batch} and capacity {capacity} must be at least 1")
        self._device = device
        self._capacity = capacity
        self._clock = clock
        self._deliver = deliver
        self._calls = DeviceCalls()
        self._recovery = BatchRecovery(device, fallback, max_batch, self._calls)
        self._given_up = False
        self._shared = CoreState()
        self._lanes: list[Lane] = []  # the next in turn comes first; guarded by the lock
        self._slot = 0  # of the next batch; used by the core's thread only
        self._free_at = 0.0  # when the device finished its last batch; used by the core's thread only
        self._thread = threading.Thread(target=self._run, name="inference-core", daemon=True)

    # -- for everyone

    @property
    def device_name(self) -> str:
        """`cpu` or `cuda`."""
        return self._device.name

    @property
    def call_under_way(self) -> int | None:
        """The number of the device call in progress; None if there is none."""
        return self._calls.under_way

    @property
    def ended_cleanly(self) -> bool:
        """Whether, once closed, no thread is still in the device, and no memory of a lost device is held."""
        return not self._thread.is_alive() and not self._recovery.lost

    def open(self, bundle: Bundle, notice: Callable[[Trouble], None] = lambda _: None) -> Lane:
        """Load a model, check its golden answers, warm it up, and return a lane for it; before or after `start`.

        `notice` is called when the core survives a failure of the device, mostly on the core's own thread. Raises
        `BundleError` and `DeviceError`.
        """
        model, load, error = self._recovery.load(bundle)
        lane = Lane(model, load, capacity=self._capacity, clock=self._clock, shared=self._shared, notice=notice)
        if error is not None:
            notice(Trouble("fallback", error, model, model.max_batch))
        with self._shared.lock:
            self._lanes.append(lane)
        return lane

    def start(self) -> None:
        """Start the thread."""
        with self._shared.lock:
            self._shared.started = True
        self._thread.start()

    def give_up(self, error: CoreError) -> None:
        """Fail all callers with `error`, although the core's thread is still in a call that does not return."""
        with self._shared.lock:
            self._given_up = True
            self._shared.error = self._shared.error or error
            self._clear_queues()
            self._shared.frames_available.notify_all()

    def close(self, timeout_s: float = 5.0) -> None:
        """Finish the running batches, drop what waits, and end the thread; call `Lane.drain` first to lose nothing.

        Raises `CoreTimeoutError` if the thread does not end; as a daemon thread it won't keep the process alive.
        """
        with self._shared.lock:
            self._shared.closing = True
            self._clear_queues()
            self._shared.frames_available.notify_all()
        if self._thread.ident is None or self._given_up:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise CoreTimeoutError(f"the core's thread did not end within {timeout_s:g} s")

    def _clear_queues(self) -> None:
        for lane in self._lanes:
            lane.clear()
        self._shared.answers_delivered.notify_all()

    # -- the core's thread

    def _run(self) -> None:
        try:
            while (running := self._wait_for_frames()) is not None:
                self._keep_busy(running)
        except BaseException as error:
            with self._shared.lock:
                self._shared.error = self._shared.error or error
                self._clear_queues()

    def _wait_for_frames(self) -> _Batch | None:
        """Launch a batch as soon as frames wait; return None when the core closes."""
        with self._shared.lock:
            while not any(lane.queued for lane in self._lanes) and not self._shared.stopped:
                self._shared.frames_available.wait(IDLE_WAIT_S)
        return self._launch_next(full_only=False)

    def _keep_busy(self, first: _Batch) -> None:
        """Run `first` and all that gathers behind it, until nothing is left."""
        running: _Batch | None = first
        while running is not None:
            # A full batch gains nothing by waiting, so it is prepared while the other runs. One that is not full keeps
            # gathering until the device is free.
            following = self._launch_next(full_only=True)
            answers = self._collect(running)
            if following is None:
                following = self._launch_next(full_only=False)
            self._deliver_answers(running, answers)
            running = following

    def _launch_next(self, *, full_only: bool) -> _Batch | None:
        """Launch a batch of the first lane in turn that has frames; return None if it has no (full) batch."""
        with self._shared.lock:
            lane = next((lane for lane in self._lanes if lane.queued), None)
            if lane is None or (full_only and not lane.fills_a_batch):
                return None
            self._lanes.remove(lane)
            self._lanes.append(lane)
            model = lane.model
            pieces, reason = lane.take()
        return self._launch(lane, model, pieces, reason)

    def _launch(self, lane: Lane, model: Model, pieces: list[Piece], reason: Reason) -> _Batch:
        slot = self._slot
        self._slot = 1 - slot
        frames, row, failure = sum(map(len, pieces)), 0, None
        launched_at = self._clock()
        try:
            with self._calls:
                staging = model.engine.staging(slot)
                for piece in pieces:
                    staging[row : row + len(piece)] = piece.block.frames[piece.start : piece.stop]
                    row += len(piece)
                model.engine.launch(slot, frames)
        except Exception as error:  # handled in the batch's turn: another one runs before it
            failure = error
        return _Batch(lane, model, slot, pieces, frames, reason, launched_at, failure)

    def _collect(self, batch: _Batch) -> _Answers:
        """Return a batch's answers, recovered if necessary."""
        model, answers = batch.model, self._fetch(batch)
        if isinstance(answers, Exception):
            frames = np.concatenate([piece.block.frames[piece.start : piece.stop] for piece in batch.pieces])
            model, answers = self._recovery.answer(batch.lane, model, batch.slot, frames, answers)
        else:
            batch.lane.limit.record_success()
        began_at = max(batch.launched_at, self._free_at)
        self._free_at = self._clock()
        return _Answers(model, answers, began_at, self._free_at)

    def _fetch(self, batch: _Batch) -> NDArray[np.float32] | Exception:
        """Return the device's answers or its error; raised, it would become the context of the next error."""
        if batch.error is not None:
            return batch.error
        try:
            with self._calls:
                return checked(batch.model, batch.model.engine.collect(batch.slot), batch.frames)
        except Exception as error:
            return error

    def _deliver_answers(self, batch: _Batch, answers: _Answers) -> None:
        if self._shared.error is not None:  # it was given up meanwhile
            return
        row = 0
        probabilities, familiarity = answers.model.split_columns(answers.columns)
        for piece in batch.pieces:
            rows = slice(row, row + len(piece))
            self._deliver(
                Result(
                    ticket=piece.block.ticket,
                    start=piece.start,
                    stop=piece.stop,
                    probabilities=probabilities[rows],
                    bundle=answers.model.bundle,
                    queue_s=max(0.0, answers.began_at - piece.block.submitted_at),
                    inference_s=answers.ended_at - answers.began_at,
                    batch_frames=batch.frames,
                    reason=batch.reason,
                    opens_batch=row == 0,
                    familiarity=None if familiarity is None else familiarity[rows],
                )
            )
            row += len(piece)
        with self._shared.lock:
            batch.lane.count_answered(batch.frames)
            self._shared.answers_delivered.notify_all()
