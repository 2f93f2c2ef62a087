"""How to fit; `FitError` says why a run cannot start or go on, and what to do."""

from dataclasses import dataclass
from typing import Literal

FitPrecision = Literal["float32", "bfloat16"]


class FitError(RuntimeError):
    """A run that cannot start or go on."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to fit. A resumed run must have the same ones."""

    epochs: int
    batch: int = 256
    # Adadelta as Kim (2014) had it: rho 0.95, epsilon 1e-6; RMSprop with Keras' defaults: rho 0.9, epsilon 1e-7.
    optimizer: Literal["adamw", "adadelta", "rmsprop"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    spliced: float = 0.0  # share of the examples that begin with a part of another one: see `splice`
    average: float = 0.0  # decay of the exponential moving average of the weights; 0 keeps the last weights
    max_norm: float = 0.0  # longest row of the last linear layer's weight, held after each step; 0 is without bound
    patience: int = 0  # stop after so many epochs without a better one on validation, keep the best; 0 never stops
    best_by: Literal["loss", "accuracy"] = "loss"  # which epoch is the better one: less loss, or more accuracy
    seed: int = 0
    precision: FitPrecision = "float32"  # of the matrix products; weights stay in float32

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.epochs < 1 or self.batch < 1 or self.learning_rate <= 0:
            raise FitError(f"epochs, batch and learning_rate must be positive: {self}")
        if not 0 <= self.average < 1:
            raise FitError(f"average must be in [0, 1): {self.average}")
        if not 0 <= self.spliced <= 1:
            raise FitError(f"spliced must be in [0, 1]: {self.spliced}")
        if self.max_norm < 0 or self.patience < 0:
            raise FitError(f"max_norm and patience must not be negative: {self}")
