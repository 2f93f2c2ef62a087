"""The inference core: frames in, predictions out. It knows models, batches and devices, and nothing of their use.

One thread owns the device. When the device is idle, whatever waits leaves at once; while it is busy frames gather,
and as soon as they fill a batch that batch is prepared and launched behind the one that runs. So there is no timer,
no wait at low load, and large batches at high load. The queue between the callers and the thread is bounded.

Errors:

    CoreError
    ├── CoreClosedError     used before `start`, or after `close`
    ├── CoreFailedError     the device or the receiver of results failed; `__cause__` says how
    └── CoreTimeoutError    a wait met its deadline
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inference.batching import Block, FrameQueue, Piece
from inference.bundle import Bundle, GoldenError, Manifest, ManifestError, Precision, check_golden, served_module
from inference.devices import Device, Engine

Reason = Literal["idle", "full", "drain"]
REASONS: tuple[Reason, ...] = ("idle", "full", "drain")

# An idle thread looks up this often, though nothing depends on it: a wait without a deadline is a hang in waiting.
IDLE_WAIT_S = 1.0


class CoreError(Exception):
    """The core cannot do what was asked."""


class CoreClosedError(CoreError):
    """The core has not been started, or has been closed."""


class CoreFailedError(CoreError):
    """The core's thread has died; no result made after its error was delivered."""


class CoreTimeoutError(CoreError):
    """Something was not finished by its deadline."""


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
class Model:
    """A bundle that passed its golden check on an engine."""

    bundle: Bundle
    precision: Precision
    engine: Engine


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """What has been launched and not yet collected."""

    model: Model
    slot: int
    pieces: list[Piece]
    frames: int
    reason: Reason
    launched_at: float


class Core:
    """Batches frames from any thread onto one device and delivers the answers, in order of submission.

    `max_batch` bounds a batch and `capacity` the frames that wait, `clock` gives seconds, and `deliver` is called
    on the core's own thread: it should hand the result on rather than work on it, for nothing is classified
    meanwhile. Construction loads the model, holds it against its golden answers and warms it.
    Raises `BundleError` and `DeviceError`.
    """

    def __init__(
        self,
        bundle: Bundle,
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
        self._clock = clock
        self._deliver = deliver
        self._model = load_model(bundle, device, max_batch)
        self._slot = 0  # of the next batch; the core's thread alone
        self._free_at = 0.0  # when the device finished its last batch; the core's thread alone

        # All that follows belongs to the lock.
        self._lock = threading.Lock()
        self._frames_came = threading.Condition(self._lock)
        self._batch_left = threading.Condition(self._lock)
        self._queue = FrameQueue(capacity)
        self._accepted = 0
        self._answered = 0
        self._drainers = 0
        self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="inference-core", daemon=True)

    # -- for everyone

    @property
    def model(self) -> Model:
        """What answers now."""
        return self._model

    @property
    def device_name(self) -> str:
        """`cpu` or `cuda`."""
        return self._device.name

    @property
    def capacity(self) -> int:
        """How many frames may wait."""
        return self._queue.capacity

    @property
    def queued(self) -> int:
        """How many frames wait now."""
        return self._queue.frames

    @property
    def error(self) -> BaseException | None:
        """What the core died of."""
        return self._error

    @property
    def alive(self) -> bool:
        """Whether frames that are submitted will be answered."""
        return self._thread.is_alive() and self._error is None and not self._closing

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, frames: NDArray[Any], ticket: object) -> bool:
        """Queue a block of frames, (n, *shape) in the bundle's dtype; False if the queue has no room for all of it.

        Never waits. `frames` is not copied: leave it as it is until it has been answered. No frames, no results.
        Raises `CoreClosedError`, `CoreFailedError`, and `ValueError` for frames of another shape or dtype.
        """
        wanted = self._model.bundle.manifest.input
        if frames.shape[1:] != wanted.shape or frames.dtype != wanted.dtype:
            raise ValueError(
                f"frames are {frames.dtype} {list(frames.shape)}, the model takes {wanted.dtype} (n, "
                f"{', '.join(map(str, wanted.shape))})"
            )
        block = Block(frames, ticket, self._clock())
        with self._lock:
            self._raise_unless_serving()
            if not self._queue.offer(block):
                return False
            self._accepted += len(frames)
            self._frames_came.notify()
        return True

    def wait_for_room(self, frames: int, timeout_s: float) -> bool:
        """Wait until a block of so many frames would have room; False if it has none by then.

        Raises `CoreClosedError` and `CoreFailedError`.
        """
        with self._lock:
            self._batch_left.wait_for(lambda: self._stopped or self._queue.has_room(frames), timeout_s)
            self._raise_unless_serving()
            return self._queue.has_room(frames)

    def drain(self, timeout_s: float) -> None:
        """Wait until all that has been submitted so far is answered and delivered.

        Raises `CoreTimeoutError`, `CoreClosedError` and `CoreFailedError`.
        """
        with self._lock:
            target = self._accepted
            self._drainers += 1
            try:
                self._batch_left.wait_for(lambda: self._stopped or self._answered >= target, timeout_s)
            finally:
                self._drainers -= 1
            if self._answered >= target:
                return
            self._raise_unless_serving()
            left = target - self._answered
            raise CoreTimeoutError(f"{left} frames were still unanswered after {timeout_s:g} s")

    def swap(self, bundle: Bundle) -> None:
        """Load, check and warm `bundle` on the caller's thread, and serve with it from the next batch on.

        Whatever it raises, `BundleError` above all, the old one goes on serving.
        """
        _refuse_other_frames(self._model.bundle.manifest, bundle.manifest)
        model = load_model(bundle, self._device, self._max_batch)
        with self._lock:
            self._raise_unless_serving()
            self._model = model

    def close(self, timeout_s: float = 5.0) -> None:
        """Finish the batches that run, drop what waits, and end the thread; `drain` first to lose nothing.

        Raises `CoreTimeoutError` if the thread does not end; it is a daemon, and will not keep the process.
        """
        with self._lock:
            self._closing = True
            self._queue.clear()
            self._frames_came.notify_all()
            self._batch_left.notify_all()
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise CoreTimeoutError(f"the core's thread did not end within {timeout_s:g} s")

    @property
    def _stopped(self) -> bool:
        return self._closing or self._error is not None

    def _raise_unless_serving(self) -> None:
        if self._error is not None:
            raise CoreFailedError(f"inference failed: {self._error}") from self._error
        if self._closing:
            raise CoreClosedError("the inference core is closed")
        if self._thread.ident is None:
            raise CoreClosedError("the inference core has not been started")

    # -- the core's thread

    def _run(self) -> None:
        try:
            while (running := self._launch(self._wait_for_frames())) is not None:
                self._keep_busy(running)
        except BaseException as error:
            with self._lock:
                self._error = error
                self._queue.clear()
                self._batch_left.notify_all()

    def _keep_busy(self, first: _Batch) -> None:
        """Run `first` and all that gathers behind it, until nothing is left."""
        running: _Batch | None = first
        while running is not None:
            # A full batch gains nothing by waiting: it is prepared while the other runs. One that is not full goes
            # on gathering until the device is free.
            following = self._launch(self._take(full_only=True))
            answers = self._collect(running)
            if following is None:
                following = self._launch(self._take(full_only=False))
            self._deliver_answers(running, answers)
            running = following

    def _wait_for_frames(self) -> tuple[list[Piece], Reason]:
        """Return a batch as soon as anything waits; an empty one when the core closes."""
        with self._lock:
            while not self._queue.frames and not self._closing:
                self._frames_came.wait(IDLE_WAIT_S)
        return self._take(full_only=False)

    def _take(self, *, full_only: bool) -> tuple[list[Piece], Reason]:
        with self._lock:
            frames = self._queue.frames
            if full_only and frames < self._max_batch:
                return [], "idle"
            reason: Reason = "full" if frames >= self._max_batch else "drain" if self._drainers else "idle"
            pieces = self._queue.take(self._max_batch)
            self._batch_left.notify_all()
        return pieces, reason

    def _launch(self, taken: tuple[list[Piece], Reason]) -> _Batch | None:
        pieces, reason = taken
        if not pieces:
            return None
        model, slot = self._model, self._slot
        self._slot = 1 - slot
        staging = model.engine.staging(slot)
        frames = 0
        for piece in pieces:
            staging[frames : frames + len(piece)] = piece.block.frames[piece.start : piece.stop]
            frames += len(piece)
        launched_at = self._clock()
        model.engine.launch(slot, frames)
        return _Batch(model, slot, pieces, frames, reason, launched_at)

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
        with self._lock:
            self._answered += batch.frames
            self._batch_left.notify_all()


def load_model(bundle: Bundle, device: Device, max_batch: int) -> Model:
    """Load `bundle` at the first of the device's precisions at which it reproduces its golden answers.

    Raises `GoldenError`, of the last one tried, if there is none.
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
            return Model(bundle, precision, engine)
    raise refusal


def _infer(engine: Engine, max_batch: int, frames: NDArray[Any]) -> NDArray[np.float32]:
    answers = []
    for start in range(0, len(frames), max_batch):
        part = frames[start : start + max_batch]
        engine.staging(0)[: len(part)] = part
        engine.launch(0, len(part))
        answers.append(engine.collect(0))
    return np.concatenate(answers)


def _refuse_other_frames(old: Manifest, new: Manifest) -> None:
    """A worker's frames and its metrics' labels outlive a swap."""
    for field in ("input", "labels"):
        if getattr(old, field) != getattr(new, field):
            raise ManifestError(
                f"{new.name}@{new.version} has another {field} than {old.name}@{old.version}, which it would "
                f"replace: start a new worker with it"
            )
