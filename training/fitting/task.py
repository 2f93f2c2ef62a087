"""A classification problem to train on; it knows nothing of accelerometers or texts."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Examples(Protocol):
    """Training examples; an implementation may draw an example anew each time it is asked for."""

    def __len__(self) -> int:
        """Examples in an epoch."""

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs [m, ...] and classes int64[m] of `rows` int64[m]."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Examples that never change: `inputs` [n, ...] and classes `targets` int64[n]."""

    inputs: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows unchanged."""
        return self.inputs[rows], self.targets[rows]


@dataclass(frozen=True, slots=True)
class Task:
    """A classification problem with the given `labels`.

    `validation` scores each epoch, and chooses the one whose weights are kept if `patience` is set.

    `candidates` bool[t, k], if given, says which labels each class of `train` may mean, for examples whose label is
    only known to be one of several. Without it a class is a label.

    `class_weights` float[k], of mean 1 over the examples; None weighs all classes the same.

    `has_ood` says that some examples of `train` are out of distribution: their class is `OOD`. They are taught as a
    further label, of weight 1, whose logit is the constant 0, so the network needs no parameter for it: the other
    logits are above or below it. Validation examples all have a label.

    `lengths` int[n], if given, are the lengths of the training examples. A batch then holds examples of similar length,
    which is faster with a model that skips padding.
    """

    labels: tuple[str, ...]
    train: Examples
    validation: Fixed
    class_weights: np.ndarray | None = None
    lengths: np.ndarray | None = None
    candidates: np.ndarray | None = None
    has_ood: bool = False
