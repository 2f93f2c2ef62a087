"""What the epochs of a run gave, and which was the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave. Training figures are of the batches as they were learned from.

    The training loss is of strangers and of spliced examples too; the accuracy, as validation's, of the others and by
    the labels alone.
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
    """The first epoch that none is better than; None where there is no epoch. Of equal accuracies, less loss wins."""
    if by == "accuracy":
        return max(history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss), default=None)
    return min(history, key=lambda epoch: epoch.validation_loss, default=None)
