"""The metrics of a run's epochs, and the choice of the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Epoch:
    """The metrics of one epoch. Training metrics are of the batches before their step.

    The training loss includes OOD and spliced examples. Both accuracies are of the other examples, among the labels
    alone.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    validation_macro_f1: float
    seconds: float


def best_epoch(history: Sequence[Epoch], by: Literal["loss", "accuracy"]) -> Epoch | None:
    """Return the first of the best epochs, or None without any. Of equal accuracies, the lower loss wins."""
    if by == "accuracy":
        return max(history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss), default=None)
    return min(history, key=lambda epoch: epoch.validation_loss, default=None)
