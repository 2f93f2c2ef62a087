"""A lane: one model's way through the core, with a queue of its own in front of it.

Errors:

    CoreError
    ├── AnswerError         the device answered rubbish
    ├── CoreClosedError     used before `Core.start`, or after `Core.close`
    ├── CoreFailedError     the device or the receiver of results failed; `__cause__` says how
    ├── CoreTimeoutError    a wait met its deadline
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
    """What the device answered cannot be probabilities of the frames it was given."""


class CoreClosedError(CoreError):
    """The core has not been started, or has been closed."""


class CoreFailedError(CoreError):
    """The core's thread has died; no result made after its error was delivered."""


class CoreTimeoutError(CoreError):
    """Something was not finished by its deadline."""


class DeviceGivenUpError(CoreError):
    """A model cannot be served any more, on any device that may be used; the text says why, and what to do."""


Load = Callable[[Bundle], Model]
Outcome = Literal["smaller", "fallback"]
OUTCOMES: tuple[Outcome, ...] = ("smaller", "fallback")


@dataclass(frozen=True, slots=True, eq=False)
class Trouble:
    """What the device failed with, and what has been done about it.

    `smaller`: the batch is answered again in parts, and the next ones hold at most `max_batch` frames. `fallback`: the
    lane is served by `model` from now on, on the device that was named for it.
    """

    outcome: Outcome
    error: Exception
    model: Model
    max_batch: int


class CoreState:
    """What a core's thread shares with the callers of its lanes; all of it, and all queues, belong to the lock."""

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
        """Raise `CoreClosedError` or `CoreFailedError` unless frames that are submitted will be answered."""
        if self.error is not None:
            raise CoreFailedError(f"inference failed: {self.error}") from self.error
        if self.closing:
            raise CoreClosedError("the inference core is closed")
        if not self.started:
            raise CoreClosedError("the inference core has not been started")


class Lane:
    """Takes frames for one model from any thread; they are answered in order of submission. Made by `Core.open`."""

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
        self.limit = BatchLimit(model.max_batch)  # changed by the core's thread alone
        self.notice = notice
        self._queue = FrameQueue(capacity)
        self._accepted = 0
        self._answered = 0
        self._drainers = 0
        self._gathers = False

    # -- for callers

    @property
    def model(self) -> Model:
        """What answers now."""
        return self._model

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
        return self._shared.error

    def submit(self, frames: NDArray[Any], ticket: object) -> bool:
        """Queue a block of frames, (n, *shape) in the bundle's dtype; False if the queue has no room for all of it.

        Never waits. `frames` is not copied: leave it as it is until it has been answered. No frames, no results.
        Ids must be below the architecture's limit, which is not looked at here: the bundle's own vocabulary keeps it.
        Raises `CoreClosedError`, `CoreFailedError`, and `ValueError` for frames of another shape or dtype.
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
        """Wake an idle core once for all that is submitted within, so that it leaves in one batch, or when one is full.

        For one thread at a time; whoever else submits meanwhile may wait as long.
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
        """Wait until all that has been submitted here so far is answered and delivered.

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
        """Load, check and warm `bundle` on the caller's thread, and serve with it from this lane's next batch on.

        Whatever it raises, `BundleError` above all, the old one goes on serving.
        """
        check_same_frames(self._model.bundle, bundle)
        model = self._load(bundle)
        with self._shared.lock:
            self._shared.raise_unless_serving()
            self._model = model

    def move(self, failed: Model, fresh: Model, load: Load) -> None:
        """Serve with `fresh` in the place of `failed`, and load with `load` from now on; for the core's thread.

        A bundle that was swapped in meanwhile stays: it may fare better.
        """
        with self._shared.lock:
            self._load = load
            if self._model is failed:
                self._model = fresh
                self.limit = BatchLimit(fresh.max_batch)

    # -- for the core, which holds the lock

    @property
    def fills_a_batch(self) -> bool:
        """Whether so much waits that more could not leave in one batch."""
        return self._queue.frames >= self._batch_frames

    def take(self) -> tuple[list[Piece], Reason]:
        """Remove the oldest frames, as many as a batch may hold; with why they leave."""
        reason: Reason = "full" if self.fills_a_batch else "drain" if self._drainers else "idle"
        return self._queue.take(self._batch_frames), reason

    @property
    def _batch_frames(self) -> int:
        return min(self.limit.frames, self._model.max_batch)  # a model from the fallback may hold fewer

    def count_answered(self, frames: int) -> None:
        """Note that so many more frames have been delivered."""
        self._answered += frames

    def clear(self) -> None:
        """Forget what waits."""
        self._queue.clear()
