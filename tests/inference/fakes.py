"""A device whose duration the test sets: batches run until the test lets them finish."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.bundle import Bundle
from inference.core import Core, Result
from inference.manifest import Precision

PATIENCE_S = 10.0
"""How long a test waits for what must come; only a failing test waits so long."""


def numbered(*numbers: int) -> NDArray[np.float32]:
    """Frames (n, 2), each with its number in it."""
    return np.array([(number, -number) for number in numbers], np.float32).reshape(-1, 2)


def persist(submit: Callable[[], bool]) -> None:
    """Submit again until there is room, as a worker does each time that it polls."""
    deadline = time.monotonic() + PATIENCE_S
    while not submit():
        assert time.monotonic() < deadline, "there never was room"
        time.sleep(1e-4)


def id_frames(*numbers: int) -> NDArray[np.int32]:
    """Frames of ids (n, 3), each with its number in it."""
    return np.array([(number, 1, 0) for number in numbers], np.int32).reshape(-1, 3)


def answers_of(frames: NDArray[Any]) -> NDArray[np.float32]:
    """What the fake answers: a third, as the constant bundle's golden frame of zeros expects, and the number."""
    return np.repeat(np.float32(1 / 3) + frames[:, :1], 3, axis=1).astype(np.float32)


def numbers_in(result: Result) -> list[int]:
    """The numbers of the frames that a result answers."""
    return [round(float(row[0])) for row in result.probabilities]


class FakeDevice:
    """A device and its engines. While `held`, each batch waits in `collect` for one call of `finish`."""

    def __init__(self, precisions: Sequence[Precision] = ("float32",), name: str = "fake") -> None:
        self.name = name
        self.precisions = precisions
        self.loaded: list[Precision] = []
        self.held = False
        self.launches: list[int] = []
        self.dtypes: list[str] = []  # of the launches, to tell one lane's from another's
        self.answer: Callable[[NDArray[Any]], NDArray[np.float32]] = answers_of
        self.on_launch: Callable[[int], None] = lambda _: None
        self._finished = threading.Semaphore(0)
        self._collects = 0
        self._launched = threading.Condition()

    def load(self, bundle: Bundle, precision: Precision, max_batch: int) -> "FakeEngine":
        self.loaded.append(precision)
        frame = bundle.manifest.input
        return FakeEngine(self, np.zeros((2, max_batch, *frame.shape), frame.dtype))

    def note_launch(self, frames: int, dtype: str) -> None:
        self.on_launch(frames)
        with self._launched:
            self.launches.append(frames)
            self.dtypes.append(dtype)
            self._launched.notify_all()

    def wait_for_launches(self, count: int) -> None:
        with self._launched:
            assert self._launched.wait_for(lambda: len(self.launches) >= count, PATIENCE_S), self.launches

    def wait_until_busy(self) -> None:
        """Wait until the core waits for its first batch, and takes nothing more from its queues."""
        with self._launched:
            assert self._launched.wait_for(lambda: self._collects > 0, PATIENCE_S)

    def hold(self) -> None:
        self._collects = 0
        self.launches.clear()
        self.dtypes.clear()
        self.held = True

    def finish(self, batches: int = 1) -> None:
        self._finished.release(batches)

    def wait_until_finished(self) -> None:
        with self._launched:
            self._collects += 1
            self._launched.notify_all()
        if self.held and not self._finished.acquire(timeout=PATIENCE_S):
            raise TimeoutError("the test never let the batch finish")


class FakeEngine:
    def __init__(self, device: FakeDevice, staged: NDArray[Any]) -> None:
        self._device = device
        self._staged: list[NDArray[Any]] = list(staged)
        self._running: dict[int, int] = {}  # slot: frames

    def staging(self, slot: int) -> NDArray[Any]:
        assert slot not in self._running, "the slot is in use"
        return self._staged[slot]

    def launch(self, slot: int, frames: int) -> None:
        self._device.note_launch(frames, str(self._staged[slot].dtype))
        self._running[slot] = frames

    def collect(self, slot: int) -> NDArray[np.float32]:
        self._device.wait_until_finished()
        frames = self._running.pop(slot)
        answers = self._device.answer(self._staged[slot][:frames])
        self._staged[slot][:] = -777  # nobody may count on it any more
        return answers


class FakeSlot:
    """One slot of a GPU, in ordinary memory; it doubles what it is given."""

    def __init__(self, max_batch: int) -> None:
        self.staging: NDArray[Any] = np.zeros((max_batch, 2), np.float32)
        self.runs: list[tuple[int, int]] = []
        self._answers = np.zeros((max_batch, 2), np.float32)

    def run(self, frames: int, bucket: int) -> None:
        self.runs.append((frames, bucket))
        self._answers[:bucket] = 2 * self.staging[:bucket]

    def wait(self) -> NDArray[np.float32]:
        return self._answers


class Receiver:
    """Takes results, and lets a test wait for frames."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._changed = threading.Condition()

    def __call__(self, result: Result) -> None:
        with self._changed:
            self.results.append(result)
            self._changed.notify_all()

    @property
    def frames(self) -> int:
        return sum(result.stop - result.start for result in self.results)

    def wait_for(self, frames: int) -> list[Result]:
        with self._changed:
            assert self._changed.wait_for(lambda: self.frames >= frames, PATIENCE_S), self.frames
            return list(self.results)


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def end(core: Core, device: FakeDevice) -> None:
    """Let whatever runs finish, and close."""
    device.held = False
    device.finish(100)
    core.close(PATIENCE_S)
