"""The hyperparameters of a fit, and `FitError`."""

from dataclasses import dataclass
from typing import Literal

FitPrecision = Literal["float32", "bfloat16"]


class FitError(RuntimeError):
    """A run cannot start or continue; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """The hyperparameters. A resumed run must have the same ones."""

    epochs: int
    batch: int = 256
    # Adadelta as in Kim (2014): rho 0.95, epsilon 1e-6. RMSprop with Keras' defaults: rho 0.9, epsilon 1e-7.
    optimizer: Literal["adamw", "adadelta", "rmsprop"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    spliced: float = 0.0  # share of the examples whose beginning is replaced by another's: see `splice`
    average: float = 0.0  # decay of the exponential moving average of the weights; 0 keeps the last weights
    max_norm: float = 0.0  # bound of the row norms of the last linear layer's weight, after each step; 0 is none
    patience: int = 0  # stop after this many epochs without a better validation score, keep the best; 0 never stops
    best_by: Literal["loss", "accuracy"] = "loss"  # the validation metric that decides which epoch is better
    seed: int = 0
    precision: FitPrecision = "float32"  # of the matrix products; weights stay in float32

    def __post_init__(self) -> None:
        """Check the ranges; raises `FitError`."""
        if self.epochs < 1 or self.batch < 1 or self.learning_rate <= 0:
            raise FitError(f"epochs, batch and learning_rate must be positive: {self}")
        if not 0 <= self.average < 1:
            raise FitError(f"average must be in [0, 1): {self.average}")
        if not 0 <= self.spliced <= 1:
            raise FitError(f"spliced must be in [0, 1]: {self.spliced}")
        if self.max_norm < 0 or self.patience < 0:
            raise FitError(f"max_norm and patience must not be negative: {self}")
