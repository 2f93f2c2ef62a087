"""Smoothed labels, from a device's last windows together: they change less often than the raw ones.

A hidden Markov model (Rabiner, "A Tutorial on Hidden Markov Models and Selected Applications in Speech Recognition",
Proceedings of the IEEE, 1989): the wearer's activity is the state, and a window's probabilities stand for the
likelihoods of the observation. It filters, using no later window, so no label waits for it. It uses `WINDOWS` windows
and none before, so the answer is the same whichever worker gives it and however often one was restarted: each of these
windows was seen, or there is no answer.

Numba's cache tracks changes by file: all compiled code stays in this one, and whoever changes a constant of `grid` has
to change this file too.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from windowing.compiled import entry, first_call
from windowing.grid import SLOT_MS, STRIDE_SLOTS

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Float32s = npt.NDArray[np.float32]

# Ten seconds in all. With three, labels flip a little more often; five gain nothing.
WINDOWS: Final = 4
STRIDE_MS: Final = STRIDE_SLOTS * SLOT_MS
# A lower bound, so that three windows can outvote one, however confident.
MIN_PROBABILITY: Final = 1e-6
UNKNOWN: Final = -1
_MIN_ROWS: Final = 64


class _History(NamedTuple):
    """The last windows of devices, one row a device; n rows.

    device: uint64[n], which device.
    newest_ms: int64[n], when its newest window starts.
    consecutive: int64[n], how many came one stride after the other; window i of them is at place i mod `WINDOWS`.
    probabilities: float32[n, WINDOWS, k].
    """

    device: UInt64s
    newest_ms: Int64s
    consecutive: Int64s
    probabilities: Float32s


class Smoother:
    """The last windows of one partition's devices: 24 + 16 k bytes a device, for k labels.

    Windows must come in the order in which a `Windower` cut them, each once. Not thread-safe.
    """

    def __init__(self) -> None:
        self._history = _new_history(0, 1)

    def smooth(
        self, row: Int64s, device: UInt64s, start_ms: Int64s, probabilities: Float32s, transitions: Float32s
    ) -> Int64s:
        """Return the smoothed label of each window, or `UNKNOWN` if too few consecutive windows precede it.

        Args:
            row: int64[m], the row of each window's device in the `Windower`.
            device: uint64[m], a number that tells it from other devices that have had this row.
            start_ms: int64[m], epoch ms.
            probabilities: float32[m, k].
            transitions: float32[k, k], transition probabilities from label (row) to label (column), one stride later.
        """
        windows, labels = probabilities.shape
        if transitions.shape != (labels, labels):
            raise ValueError(f"transitions of shape {transitions.shape} for {labels} labels")
        if not (len(row) == len(device) == len(start_ms) == windows and row.min(initial=0) >= 0):
            raise ValueError(f"columns of {len(row)}, {len(device)} and {len(start_ms)} rows for {windows} windows")
        self._reserve(int(row.max(initial=-1)) + 1, labels)
        return _filter(row, device, start_ms, probabilities, transitions, self._history)

    @property
    def nbytes(self) -> int:
        """Bytes reserved for devices, whether they still send or not."""
        return sum(column.nbytes for column in self._history)

    def _reserve(self, rows: int, labels: int) -> None:
        old = self._history
        if labels != old.probabilities.shape[2]:
            old = _new_history(0, labels)
        if rows > len(old.consecutive) or old is not self._history:
            self._history = _new_history(max(_MIN_ROWS, 1 << (rows - 1).bit_length()), labels)
            for column in _History._fields:
                getattr(self._history, column)[: len(old.consecutive)] = getattr(old, column)


def _new_history(rows: int, labels: int) -> _History:
    return _History(
        device=np.zeros(rows, np.uint64),
        newest_ms=np.zeros(rows, np.int64),
        consecutive=np.zeros(rows, np.int64),
        probabilities=np.zeros((rows, WINDOWS, labels), np.float32),
    )


@entry
def _filter(
    row: Int64s,
    device: UInt64s,
    start_ms: Int64s,
    probabilities: Float32s,
    transitions: Float32s,
    history: _History,
) -> Int64s:
    """Add the windows one after the other, and return the label of each by it and those before it: int64[m]."""
    labels = probabilities.shape[1]
    answers = np.full(len(row), UNKNOWN, np.int64)
    belief, before = np.empty(labels), np.empty(labels)
    for i in range(len(row)):
        at = row[i]
        if history.device[at] != device[i] or start_ms[i] - history.newest_ms[at] != STRIDE_MS:
            history.consecutive[at] = 0
        history.device[at] = device[i]
        history.newest_ms[at] = start_ms[i]
        place = history.consecutive[at] % WINDOWS
        for k in range(labels):
            history.probabilities[at, place, k] = max(probabilities[i, k], MIN_PROBABILITY)
        history.consecutive[at] += 1
        if history.consecutive[at] < WINDOWS:
            continue
        belief[:] = 1.0
        for window in range(WINDOWS):
            place = (place + 1) % WINDOWS
            before[:] = belief
            total = 0.0
            for k in range(labels):
                if window:
                    belief[k] = 0.0
                    for j in range(labels):
                        belief[k] += before[j] * transitions[j, k]
                belief[k] *= history.probabilities[at, place, k]
                total += belief[k]
            belief /= total
        answers[i] = np.argmax(belief)
    return answers


def warm_up() -> None:
    """Compile the loop, or load it from its cache, so that the first windows don't wait for it."""
    no_rows, one = np.empty(0, np.int64), np.ones((1, 1), np.float32)
    smoother = Smoother()
    first_call(lambda: smoother.smooth(no_rows, np.empty(0, np.uint64), no_rows, one[:0], one), entries=1)
