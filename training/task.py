"""What a model is to learn, and from what: knows nothing of accelerometers or texts."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Examples(Protocol):
    """What to learn from; an implementation may draw an example anew each time it is asked for."""

    def __len__(self) -> int:
        """Examples an epoch."""

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [m, ...] and classes int64[m] of `rows` int64[m]."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Examples that are always the same: `inputs` [n, ...] and classes `targets` int64[n]."""

    inputs: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The rows as they are."""
        return self.inputs[rows], self.targets[rows]


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is to learn: to tell `labels` apart.

    `validation` scores each epoch, and chooses the one whose weights are kept where `patience` is set.
    `candidates` bool[t, k], where given, says which labels each class of `train` may mean: some examples are known
    to have one of several, and not which. Without it a class is a label.
    `class_weights` float[k], of mean 1 over the examples, says how much each class counts; None is the same.
    `has_ood` says that some examples of `train` are of none of the labels: their class is `OOD`. To be one is
    taught as a further label, of weight 1, whose logit is the constant 0, so that the network needs no parameter for
    it: the other logits are above it or below it. Validation is of labels alone.
    `lengths` int[n], where given, says how long each training example is: a batch then holds examples of about
    the same length, which a model that skips padding is faster on.
    """

    labels: tuple[str, ...]
    train: Examples
    validation: Fixed
    class_weights: np.ndarray | None = None
    lengths: np.ndarray | None = None
    candidates: np.ndarray | None = None
    has_ood: bool = False
