"""A lane: one model's path through the core, with its own queue.

Errors:

    CoreError
    ├── AnswerError         the device's answer is invalid
    ├── CoreClosedError     used before `Core.start`, or after `Core.close`
    ├── CoreFailedError     the device or the receiver of results failed; `__cause__` says how
    ├── CoreTimeoutError    a wait timed out
    └── DeviceGivenUpError  a model cannot be served any more: the core dies of it
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from inference.batching import BatchLimit, Block, FrameQueue, Piece
from inference.bundle import Bundle
from inference.models import Model, check_same_frames

Reason = Literal["idle", "full", "drain"]
REASONS: tuple[Reason, ...] = ("idle", "full", "drain")


class CoreError(Exception):
    """The core cannot do what was asked."""


class AnswerError(CoreError):
    """The device's answers can't be the probabilities of the frames it was given."""


class CoreClosedError(CoreError):
    """The core has not been started, or has been closed."""


class CoreFailedError(CoreError):
    """The core's thread has died; no results are delivered after its error."""


class CoreTimeoutError(CoreError):
    """A wait timed out."""


class DeviceGivenUpError(CoreError):
    """A model cannot be served any more on any allowed device; the text says why, and what to do."""


Load = Callable[[Bundle], Model]
Outcome = Literal["smaller", "fallback"]
OUTCOMES: tuple[Outcome, ...] = ("smaller", "fallback")


@dataclass(frozen=True, slots=True, eq=False)
class Trouble:
    """A failure of the device, and how the core dealt with it.

    `smaller`: the batch is answered again in parts, and the next ones hold at most `max_batch` frames. `fallback`: the
    lane is served by `model` on the fallback device from now on.
    """

    outcome: Outcome
    error: Exception
    model: Model
    max_batch: int


class CoreState:
    """State shared by a core's thread and the callers of its lanes; it and all queues are guarded by the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.frames_available = threading.Condition(self.lock)
        self.answers_delivered = threading.Condition(self.lock)
        self.started = False
        self.closing = False
        self.error: BaseException | None = None

    @property
    def stopped(self) -> bool:
        """Whether nothing more will be answered."""
        return self.closing or self.error is not None

    def raise_unless_serving(self) -> None:
        """Raise `CoreClosedError` or `CoreFailedError` unless submitted frames will be answered."""
        if self.error is not None:
            raise CoreFailedError(f"inference failed: {self.error}") from self.error
        if self.closing:
            raise CoreClosedError("the inference core is closed")
        if not self.started:
            raise CoreClosedError("the inference core has not been started")


class Lane:
    """Takes frames for one model from any thread; answers come in order of submission. Made by `Core.open`."""

    def __init__(
        self,
        model: Model,
        load: Load,
        *,
        capacity: int,
        clock: Callable[[], float],
        shared: CoreState,
        notice: Callable[[Trouble], None],
    ) -> None:
        self._load = load
        self._clock = clock
        self._shared = shared
        self._model = model
        self.limit = BatchLimit(model.max_batch)  # changed by the core's thread only
        self.notice = notice
        self._queue = FrameQueue(capacity)
        self._accepted = 0
        self._answered = 0
        self._drainers = 0
        self._gathers = False

    # -- for callers

    @property
    def model(self) -> Model:
        """The model that answers now."""
        return self._model

    @property
    def capacity(self) -> int:
        """The most frames that may wait."""
        return self._queue.capacity

    @property
    def queued(self) -> int:
        """The number of waiting frames."""
        return self._queue.frames

    @property
    def error(self) -> BaseException | None:
        """The error that the core died of."""
        return self._shared.error

    def submit(self, frames: NDArray[Any], ticket: object) -> bool:
        """Queue a block of frames, (n, *shape) in the bundle's dtype; return False if the queue has no room for it.

        Never waits. `frames` is not copied: don't change it until it has been answered. An empty block has no result.
        Ids must be below the architecture's limit, which is not checked here; the bundle's own vocabulary guarantees
        it. Raises `CoreClosedError`, `CoreFailedError`, and `ValueError` for frames of another shape or dtype.
        """
        wanted = self._model.bundle.manifest.input
        if frames.shape[1:] != wanted.shape or frames.dtype != wanted.dtype:
            raise ValueError(
                f"frames are {frames.dtype} {list(frames.shape)}, the model takes {wanted.dtype} (n, "
                f"{', '.join(map(str, wanted.shape))})"
            )
        block = Block(frames, ticket, self._clock())
        with self._shared.lock:
            self._shared.raise_unless_serving()
            if not self._queue.offer(block):
                return False
            self._accepted += len(frames)
            if not self._gathers or self.fills_a_batch:
                self._shared.frames_available.notify()
        return True

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Wake an idle core once for all blocks submitted within, or when a batch is full, so that they form one batch.

        For one thread at a time; blocks of other threads may wait as long.
        """
        self._gathers = True
        try:
            yield
        finally:
            with self._shared.lock:
                self._gathers = False
                if self.queued:
                    self._shared.frames_available.notify()

    def drain(self, timeout_s: float) -> None:
        """Wait until all frames submitted here so far have been answered and delivered.

        Raises `CoreTimeoutError`, `CoreClosedError` and `CoreFailedError`.
        """
        shared = self._shared
        with shared.lock:
            target = self._accepted
            self._drainers += 1
            try:
                shared.answers_delivered.wait_for(lambda: shared.stopped or self._answered >= target, timeout_s)
            finally:
                self._drainers -= 1
            if self._answered >= target:
                return
            shared.raise_unless_serving()
            left = target - self._answered
            raise CoreTimeoutError(f"{left} frames were still unanswered after {timeout_s:g} s")

    def swap(self, bundle: Bundle) -> None:
        """Load, check and warm up `bundle` on the caller's thread, and serve with it from this lane's next batch on.

        If it raises, `BundleError` in particular, the old bundle keeps serving.
        """
        check_same_frames(self._model.bundle, bundle)
        model = self._load(bundle)
        with self._shared.lock:
            self._shared.raise_unless_serving()
            self._model = model

    def move(self, failed: Model, fresh: Model, load: Load) -> None:
        """Replace the model `failed` by `fresh`, and load with `load` from now on; called on the core's thread.

        A bundle that was swapped in meanwhile stays: it may succeed.
        """
        with self._shared.lock:
            self._load = load
            if self._model is failed:
                self._model = fresh
                self.limit = BatchLimit(fresh.max_batch)

    # -- for the core, which holds the lock

    @property
    def fills_a_batch(self) -> bool:
        """Whether the waiting frames fill a batch."""
        return self._queue.frames >= self._batch_frames

    def take(self) -> tuple[list[Piece], Reason]:
        """Remove the oldest frames, as many as a batch may hold; return them and why they leave."""
        reason: Reason = "full" if self.fills_a_batch else "drain" if self._drainers else "idle"
        return self._queue.take(self._batch_frames), reason

    @property
    def _batch_frames(self) -> int:
        return min(self.limit.frames, self._model.max_batch)  # the fallback's batches may be smaller

    def count_answered(self, frames: int) -> None:
        """Count frames that have been delivered."""
        self._answered += frames

    def clear(self) -> None:
        """Drop the waiting frames."""
        self._queue.clear()
