"""An LSTM and a linear MLP on a lagged series: which of them learns a straight line, and why the other does not.

The series is y_i = i + 0.5 (i - 1) + 0.2 (i - 2) + 0.1 (i - 3), i from 4 to 103. David Lengacher ("How to build LSTM
neural networks in Keras", 2018) fits LSTM(8)-Dense(2)-Dense(1), which sees i-4 to i as five steps of one feature, with
Adam, and Dense(8)-Dense(2)-Dense(1), which sees i alone, with RMSprop: linear Dense layers, mean squared error, batches
of 5, 2000 epochs, the last 5 % held out. He finds the MLP virtually perfect and the LSTM drifting at the top.

Two things might explain the drift. The held-out rows are the top of the range, and the numbers are large for a cell
with saturating gates and outputs. So each model is fitted in the four `CASES`, which change one, the other, and both. A
seed's networks have the same initial weights and the same shuffling in every case, so cases can be compared seed by
seed.

Keras' default initialisers and optimisers are written out here, because PyTorch's differ in more than their defaults.
The networks are tiny, and PyTorch's call overhead exceeds their arithmetic. So all networks of a model are fitted at
once, as one more dimension of every tensor. In shapes, r counts networks, n rows, b rows of a batch.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from training.fitting.progress import epochs_progress

FIRST, LAST = 4, 103
STEPS = 5
UNITS = 8
BATCH = 5
HELD_OUT_SHARE = 0.05
EPOCHS = 2000
WATCHED_EPOCHS = 100
LEARNING_RATE = 1e-3  # Keras', of both optimisers
EPSILON = 1e-7  # likewise

Parameters = dict[str, Tensor]
ModelName = Literal["lstm", "mlp"]


# --- the series ----------------------------------------------------------------------------------


def positions() -> np.ndarray:
    """Return each i, int64[100]."""
    return np.arange(FIRST, LAST + 1)


def targets() -> np.ndarray:
    """Return each y_i, float64[100], which is 1.8 i - 1.2."""
    i = positions()
    return np.asarray(i + 0.5 * (i - 1) + 0.2 * (i - 2) + 0.1 * (i - 3))


def inputs(steps: int) -> np.ndarray:
    """Return a model's input for each row: i - steps + 1 to i, float64[100, steps]."""
    return np.asarray(positions()[:, None] + np.arange(1 - steps, 1), np.float64)


# --- the cases -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """One way to fit a model.

    `held_out` "last" holds out the last rows, as Keras' validation_split does before it shuffles; "below" holds out as
    many at random from the rows below those, so that the top of the range is trained on. `standardised` inputs and
    targets have mean 0 and standard deviation 1 over the training rows; residuals are in the series' own units in any
    case.
    """

    title: str
    held_out: Literal["last", "below"]
    standardised: bool


CASES = (
    Case("as published", "last", False),
    Case("top trained on", "below", False),
    Case("standardised", "last", True),
    Case("standardised, top trained on", "below", True),
)


def split(held_out: Literal["last", "below"], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training rows, int64[95], and the held-out rows, int64[5], each in order."""
    rows = np.arange(LAST - FIRST + 1)
    kept = math.floor(len(rows) * (1 - HELD_OUT_SHARE))
    if held_out == "last":
        return rows[:kept], rows[kept:]
    drawn = np.random.default_rng(seed).choice(kept, len(rows) - kept, replace=False)
    return np.setdiff1d(rows, drawn), np.sort(drawn)


# --- the two models ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Model:
    """A network and its optimiser.

    `create` returns the weights of one network; `predict` takes those of r networks, stacked, and inputs float32[r, b,
    steps], and returns float32[r, b].
    """

    title: str
    steps: int
    create: Callable[[torch.Generator], Parameters]
    predict: Callable[[Parameters, Tensor], Tensor]
    optimiser: "Callable[[Sequence[Tensor]], Optimiser]"


def lstm_weights(generator: torch.Generator) -> Parameters:
    """Return the weights of LSTM(8)-Dense(2)-Dense(1) as Keras initialises them; the forget gate's bias is 1."""
    bias = torch.zeros(1, 4 * UNITS)
    bias[:, UNITS : 2 * UNITS] = 1
    return {
        "lstm.kernel": glorot_uniform(1, 4 * UNITS, generator),
        "lstm.recurrent": orthogonal(UNITS, 4 * UNITS, generator),
        "lstm.bias": bias,
        **_dense_weights("dense1", UNITS, 2, generator),
        **_dense_weights("dense2", 2, 1, generator),
    }


def lstm(weights: Parameters, x: Tensor) -> Tensor:
    """Return predictions float32[r, b] for x float32[r, b, 5], the steps of one feature."""
    hidden = cell = x.new_zeros(*x.shape[:2], UNITS)
    from_input = x[..., None] * weights["lstm.kernel"][:, None] + weights["lstm.bias"][:, None]
    for step in from_input.unbind(dim=2):
        enter, forget, candidate, leave = (step + hidden @ weights["lstm.recurrent"]).chunk(4, dim=2)
        cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * cell.tanh()
    return _dense(weights, "dense2", _dense(weights, "dense1", hidden)).squeeze(2)


def mlp_weights(generator: torch.Generator) -> Parameters:
    """Return the weights of Dense(8)-Dense(2)-Dense(1) as Keras initialises them."""
    return {
        **_dense_weights("dense1", 1, UNITS, generator),
        **_dense_weights("dense2", UNITS, 2, generator),
        **_dense_weights("dense3", 2, 1, generator),
    }


def mlp(weights: Parameters, x: Tensor) -> Tensor:
    """Return predictions float32[r, b] for x float32[r, b, 1]."""
    return _dense(weights, "dense3", _dense(weights, "dense2", _dense(weights, "dense1", x))).squeeze(2)


def glorot_uniform(fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    """Return float32[fan_in, fan_out], uniform in ±sqrt(6 / (fan_in + fan_out)): Glorot and Bengio, AISTATS 2010."""
    limit = math.sqrt(6 / (fan_in + fan_out))
    return torch.empty(fan_in, fan_out).uniform_(-limit, limit, generator=generator)


def orthogonal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Return float32[rows, columns] with orthonormal rows (rows <= columns): Saxe et al., ICLR 2014."""
    q, r = torch.linalg.qr(torch.randn(columns, rows, generator=generator))
    signs = torch.sign(torch.diagonal(r))  # makes the distribution uniform over rotations
    return torch.mul(q, signs).T.contiguous()


def _dense_weights(name: str, fan_in: int, fan_out: int, generator: torch.Generator) -> Parameters:
    return {f"{name}.kernel": glorot_uniform(fan_in, fan_out, generator), f"{name}.bias": torch.zeros(1, fan_out)}


def _dense(weights: Parameters, name: str, x: Tensor) -> Tensor:
    return torch.matmul(x, weights[f"{name}.kernel"]) + weights[f"{name}.bias"]


# --- Keras' optimisers ---------------------------------------------------------------------------


class Optimiser(Protocol):
    """Updates weights by their gradients."""

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Update the weights in place; `gradients` are in their order."""


class Adam:
    """Keras' Adam (Kingma and Ba, ICLR 2015, with the epsilon of the text before its section 2.1)."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = weights
        self._mean = [torch.zeros_like(tensor) for tensor in weights]
        self._square = [torch.zeros_like(tensor) for tensor in weights]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Update the weights in place."""
        self._steps += 1
        rate = LEARNING_RATE * math.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        for weight, mean, square, gradient in zip(self._weights, self._mean, self._square, gradients, strict=True):
            mean.lerp_(gradient, 1 - 0.9)
            square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
            weight.addcdiv_(mean, square.sqrt().add_(EPSILON), value=-rate)


class RMSprop:
    """Keras' RMSprop (Tieleman and Hinton, 2012): unlike PyTorch's, epsilon is inside the root, and rho is 0.9."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = weights
        self._square = [torch.zeros_like(tensor) for tensor in weights]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Update the weights in place."""
        for weight, square, gradient in zip(self._weights, self._square, gradients, strict=True):
            square.mul_(0.9).addcmul_(gradient, gradient, value=1 - 0.9)
            weight.addcdiv_(gradient, square.add(EPSILON).sqrt_(), value=-LEARNING_RATE)


MODELS: dict[ModelName, Model] = {
    "lstm": Model("LSTM", STEPS, lstm_weights, lstm, Adam),
    "mlp": Model("linear MLP", 1, mlp_weights, mlp, RMSprop),
}


# --- fitting -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fitted:
    """One fitted network: `residuals` float64[100], prediction minus y, and the rows held out, int64[5].

    `top` float64[100] holds the last row's residual after each of the last 100 epochs (or fewer): with a constant
    learning rate the weights never settle, so the final residual is one sample of where they move.
    """

    model: ModelName
    case: Case
    seed: int
    residuals: np.ndarray
    held_out: np.ndarray
    top: np.ndarray


def study(epochs: int, seeds: int, console: Console) -> list[Fitted]:
    """Fit both models in every case, from `seeds` seeds each; results are by model, case and seed."""
    fitted: list[Fitted] = []
    with epochs_progress(console) as progress, _fit_for_tiny_networks():
        bars = {model_name: progress.add_task(model.title, total=epochs) for model_name, model in MODELS.items()}
        for model_name, bar in bars.items():
            fitted += fit_all(model_name, epochs, seeds, functools.partial(progress.advance, bar))
    return fitted


def fit_all(model_name: ModelName, epochs: int, seeds: int, on_epoch: Callable[[], None]) -> list[Fitted]:
    """Fit one model in every case from every seed, all at once; `on_epoch` is called after each epoch."""
    model = MODELS[model_name]
    runs = [(case, seed) for case in CASES for seed in range(seeds)]
    splits = [split(case.held_out, seed) for case, seed in runs]
    learned = torch.from_numpy(np.stack([train for train, _ in splits]))
    scales = [_scale(model.steps, train, case.standardised) for (case, _), (train, _) in zip(runs, splits, strict=True)]
    x = _stacked([(inputs(model.steps) - scale.x_mean) / scale.x_std for scale in scales])
    y = _stacked([(targets() - scale.y_mean) / scale.y_std for scale in scales])

    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    weights = _repeated([model.create(generator) for generator in generators])
    optimiser = model.optimiser(list(weights.values()))
    network = torch.arange(len(runs))[:, None]
    top = []
    for epoch in range(epochs):
        order = torch.stack([torch.randperm(learned.shape[1], generator=generator) for generator in generators])
        rows = learned.gather(1, order.repeat(len(CASES), 1))
        for start in range(0, learned.shape[1], BATCH):
            batch = (network, rows[:, start : start + BATCH])
            # The networks are independent, so the gradient of the summed loss is each network's own.
            loss = (model.predict(weights, x[batch]) - y[batch]).square().mean(dim=1).sum()
            optimiser.step(torch.autograd.grad(loss, list(weights.values())))
        if epoch >= epochs - WATCHED_EPOCHS:
            top.append(_predictions(model, weights, x[:, -1:], scales) - targets()[-1])
        on_epoch()
    residuals = _predictions(model, weights, x, scales) - targets()
    watched = np.concatenate([np.empty((len(runs), 0)), *top], axis=1)
    return [
        Fitted(model_name, case, seed, residuals[run], splits[run][1], watched[run])
        for run, (case, seed) in enumerate(runs)
    ]


@torch.no_grad()
def _predictions(model: Model, weights: Parameters, x: Tensor, scales: Sequence["_Scale"]) -> np.ndarray:
    """Return predictions float64[r, n] in units of y."""
    y_mean = np.array([[scale.y_mean] for scale in scales])
    y_std = np.array([[scale.y_std] for scale in scales])
    return np.asarray(model.predict(weights, x).double().numpy() * y_std + y_mean)


@dataclass(frozen=True, slots=True)
class _Scale:
    x_mean: float = 0.0
    x_std: float = 1.0
    y_mean: float = 0.0
    y_std: float = 1.0


def _scale(steps: int, train: np.ndarray, standardised: bool) -> _Scale:
    if not standardised:
        return _Scale()
    x, y = inputs(steps)[train], targets()[train]
    return _Scale(float(x.mean()), float(x.std()), float(y.mean()), float(y.std()))


def _stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).float()


def _repeated(of_seeds: Sequence[Parameters]) -> Parameters:
    """Stack the weights of each seed's network, and copy them for every case."""
    stacked = {name: torch.stack([weights[name] for weights in of_seeds]) for name in of_seeds[0]}
    return {name: tensor.repeat(len(CASES), 1, 1).requires_grad_() for name, tensor in stacked.items()}


@contextmanager
def _fit_for_tiny_networks() -> Iterator[None]:
    """Compute on one thread, and flush denormal numbers (below 1e-38) to 0.

    Saturated gates have such gradients, and CPUs are slow on them; several threads cost more than they save.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
