"""One training loop, for any model that turns a batch of inputs into logits.

Top to bottom: settings, what is trained on, the loop, scoring, checkpoints. The loop knows nothing of
accelerometers or texts. Everything random is a function of the seed and of the number of the epoch, so a run
that is interrupted and resumed ends with the same weights as one that is not.

    FitError              a run that cannot start or go on; its text says why and what to do
"""

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import rich.progress
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from training.goals import STRANGER, Splices, may_be_or_strange, smoothed, splice, spliced_goals
from training.scores import score

FitPrecision = Literal["float32", "bfloat16"]

Weights = dict[str, Tensor]

# So many batches' examples are sorted by their length among themselves: enough to even lengths out, few enough
# that batches differ from epoch to epoch.
BATCHES_SORTED = 20


class FitError(RuntimeError):
    """A run that cannot start or go on."""


# --- settings ------------------------------------------------------------------------------------


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


# --- what is trained on --------------------------------------------------------------------------


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
    `may_be` bool[t, k], where given, says which labels each class of `train` may mean: some examples are known
    to have one of several, and not which. Without it a class is a label.
    `class_weights` float[k], of mean 1 over the examples, says how much each class counts; None is the same.
    `strangers` says that some examples of `train` are of none of the labels: their class is `STRANGER`. To be one is
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
    may_be: np.ndarray | None = None
    strangers: bool = False


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


# --- the loop ------------------------------------------------------------------------------------


@dataclass
class _Run:
    """Everything that changes during a run, and so everything that a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: Weights
    best: Weights
    best_by: Literal["loss", "accuracy"]
    history: list[Epoch] = field(default_factory=list)

    @property
    def best_epoch(self) -> Epoch | None:
        return best_epoch(self.history, self.best_by)


def fit(
    model: nn.Module,
    task: Task,
    settings: FitSettings,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    identity: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> list[Epoch]:
    """Fit `model` in place and return what each epoch gave; raises `FitError`.

    With a `checkpoint` path the run is saved after each epoch and, with `resume`, continued from there;
    `identity` names the data and the model, in values that JSON has, so that a checkpoint of another run is not
    taken for this one's.
    """
    if not len(task.train) or not len(task.validation):
        raise FitError(
            f"nothing to learn from: {len(task.train)} training and {len(task.validation)} validation examples; "
            "more data is needed"
        )
    console = console or Console(quiet=True)
    first = model.state_dict()
    run = _Run(model, _optimizer(model, settings), _copied(first), _copied(first), settings.best_by)
    who = {**(identity or {}), **dataclasses.asdict(settings)}
    if checkpoint and resume:
        _resume(run, checkpoint, who, console)
    try:
        _all_epochs(run, task, settings, console, lambda: _save(run, checkpoint, who) if checkpoint else None)
    except KeyboardInterrupt:
        console.print(_interrupted(run, checkpoint), soft_wrap=True)
        raise
    model.load_state_dict(run.best if settings.patience else run.average)
    return run.history


def best_epoch(history: Sequence[Epoch], by: Literal["loss", "accuracy"]) -> Epoch | None:
    """The first epoch that none is better than; None where there is no epoch. Of equal accuracies, less loss wins."""
    if by == "accuracy":
        return max(history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss), default=None)
    return min(history, key=lambda epoch: epoch.validation_loss, default=None)


def _optimizer(model: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adadelta":
        return torch.optim.Adadelta(learned, lr=rate, rho=0.95, eps=1e-6, weight_decay=decay)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(learned, lr=rate, alpha=0.9, eps=1e-7, weight_decay=decay)
    return torch.optim.AdamW(learned, lr=rate, weight_decay=decay)


def _resume(run: _Run, checkpoint: Path, identity: Mapping[str, Any], console: Console) -> None:
    if not checkpoint.exists():
        console.print(f"No checkpoint at {checkpoint}: starting from the beginning", soft_wrap=True, markup=False)
        return
    _restore(run, checkpoint, identity)
    console.print(f"Resuming after epoch {len(run.history)} from {checkpoint}", soft_wrap=True, markup=False)


def _all_epochs(run: _Run, task: Task, settings: FitSettings, console: Console, save: Callable[[], None]) -> None:
    with epochs_progress(console) as progress:
        bar = progress.add_task("Fitting", total=settings.epochs, completed=len(run.history))
        while len(run.history) < settings.epochs and not _waited_enough(run, settings):
            epoch = _one_epoch(run, task, settings, lambda epochs: progress.update(bar, completed=epochs))
            run.history.append(epoch)
            if run.best_epoch is epoch:
                run.best = _copied(run.average)
            save()
            console.print(_line(epoch, settings), soft_wrap=True)


def _interrupted(run: _Run, checkpoint: Path | None) -> str:
    if not run.history:
        return "Interrupted before the end of the first epoch: nothing is kept"
    after = f"Interrupted after epoch {len(run.history)}"
    return f"{after}: --resume goes on from there" if checkpoint else after


def _one_epoch(run: _Run, task: Task, settings: FitSettings, passed: Callable[[float], None]) -> Epoch:
    began = time.monotonic()
    number = len(run.history)
    rng = np.random.default_rng((settings.seed, number))
    batches = _batches(task, settings.batch, rng)
    steps = len(batches)
    rate = loss_sum = 0.0
    correct = known = 0
    run.model.train()
    with _seeded(settings.seed, number):
        for step, rows in enumerate(batches):
            inputs, classes = task.train.batch(rows, rng)
            inputs, splices = splice(inputs, settings.spliced, rng) if settings.spliced else (inputs, None)
            targets = torch.from_numpy(classes)
            rate = learning_rate(number * steps + step, settings.epochs * steps, settings)
            logits, goal = _step(run, torch.from_numpy(inputs), targets, splices, rate, task, settings)
            if settings.average or step == steps - 1:
                _average(run, number * steps + step, settings)
            loss_sum += float(F.cross_entropy(logits, goal, reduction="sum"))
            hits = _hits(logits, goal, targets, splices, len(task.labels))
            correct, known = correct + int(hits.sum()), known + len(hits)
            passed(number + (step + 1) / steps)
    probabilities = predict(run.model, task.validation.inputs, run.average)
    scores = score(task.labels, task.validation.targets, probabilities)
    return Epoch(
        epoch=number + 1,
        learning_rate=rate,
        train_loss=loss_sum / len(task.train),
        train_accuracy=correct / max(1, known),
        validation_loss=scores.loss,
        validation_accuracy=scores.accuracy,
        validation_macro_f1=scores.macro_f1,
        seconds=time.monotonic() - began,
    )


def _batches(task: Task, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Every example once, in a random order; with `lengths`, examples of about the same length together."""
    order = rng.permutation(len(task.train))
    if task.lengths is None:
        return [order[i : i + size] for i in range(0, len(order), size)]
    batches: list[np.ndarray] = []
    for i in range(0, len(order), BATCHES_SORTED * size):
        some = order[i : i + BATCHES_SORTED * size]
        some = some[np.argsort(task.lengths[some], kind="stable")]
        batches += [some[j : j + size] for j in range(0, len(some), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _step(
    run: _Run,
    inputs: Tensor,
    targets: Tensor,
    splices: Splices | None,
    rate: float,
    task: Task,
    settings: FitSettings,
) -> tuple[Tensor, Tensor]:
    """Learn from one batch; the logits float32[m, k] that it had before, and what it should have said.

    With strangers both are of k + 1 columns, the last one theirs.
    """
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
        logits: Tensor = run.model(inputs)
    logits = logits.float()
    weights = None if task.class_weights is None else torch.as_tensor(task.class_weights, dtype=torch.float32)
    if task.strangers:
        logits = F.pad(logits, (0, 1))
        weights = None if weights is None else F.pad(weights, (0, 1), value=1.0)
        goal = spliced_goals(logits.detach(), targets, splices, may_be_or_strange(_may_be(task)))
        loss = F.cross_entropy(logits, smoothed(goal, settings.label_smoothing), weights)
    else:
        plain = task.may_be is None and splices is None
        goal = targets if plain else spliced_goals(logits.detach(), targets, splices, torch.from_numpy(_may_be(task)))
        loss = F.cross_entropy(logits, goal, weights, label_smoothing=settings.label_smoothing)
    if not bool(torch.isfinite(loss)):
        raise FitError("the loss is no longer finite: lower the learning rate")
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    if settings.max_norm:
        _hold_norm(run.model, settings.max_norm)
    return logits.detach(), goal


def _may_be(task: Task) -> np.ndarray:
    return np.eye(len(task.labels), dtype=bool) if task.may_be is None else task.may_be


def _hits(logits: Tensor, goal: Tensor, targets: Tensor, splices: Splices | None, labels: int) -> Tensor:
    """Whether each example that is known, and whole, was said to be what it is, bool[counted], by the labels alone."""
    wanted = targets if goal is targets else goal[:, :labels].argmax(dim=1)
    counted = targets != STRANGER
    if splices is not None:
        counted &= torch.from_numpy(splices.share == 0)
    return (logits[:, :labels].argmax(dim=1) == wanted)[counted]


@torch.no_grad()
def _hold_norm(model: nn.Module, longest: float) -> None:
    weight = [module for module in model.modules() if isinstance(module, nn.Linear)][-1].weight
    weight.copy_(weight.renorm(2, 0, longest))


def learning_rate(step: int, steps: int, settings: FitSettings) -> float:
    """The rate of one step; "one-cycle" rises in a line for a tenth of the run and falls as a cosine to 0."""
    if settings.schedule == "constant":
        return settings.learning_rate
    rise = max(1, steps // 10)
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@torch.no_grad()
def _average(run: _Run, step: int, settings: FitSettings) -> None:
    # The first weights are noise: a short memory at the beginning forgets them.
    decay = min(settings.average, (1 + step) / (10 + step))
    for name, tensor in run.model.state_dict().items():
        if tensor.is_floating_point():
            run.average[name].lerp_(tensor, 1 - decay)
        else:
            run.average[name].copy_(tensor)


def _waited_enough(run: _Run, settings: FitSettings) -> bool:
    best = run.best_epoch
    return bool(settings.patience) and best is not None and len(run.history) - best.epoch >= settings.patience


# --- scoring -------------------------------------------------------------------------------------


@torch.no_grad()
def logits_of(
    model: nn.Module, inputs: np.ndarray, weights: Mapping[str, Tensor] | None = None, batch: int = 256
) -> np.ndarray:
    """Logits float32[m, k] of `inputs`, by `model` with its own or other `weights`."""
    was_training = model.training
    model.eval()
    state = dict(model.state_dict() if weights is None else weights)
    logits = [
        torch.func.functional_call(model, state, (torch.from_numpy(inputs[i : i + batch]),))
        for i in range(0, len(inputs), batch)
    ]
    model.train(was_training)
    return np.asarray(torch.cat(logits).numpy())


def predict(model: nn.Module, inputs: np.ndarray, weights: Mapping[str, Tensor] | None = None) -> np.ndarray:
    """Probabilities float32[m, k], at a temperature of 1."""
    return np.asarray(torch.from_numpy(logits_of(model, inputs, weights)).softmax(dim=1).numpy())


# --- checkpoints ---------------------------------------------------------------------------------


def _save(run: _Run, path: Path, identity: Mapping[str, Any]) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in run.model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in run.average.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in run.best.items()}
    for index, slots in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in slots.items()}
    metadata = {
        "identity": json.dumps(identity),
        "history": json.dumps([dataclasses.asdict(epoch) for epoch in run.history]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    safetensors.torch.save_file({name: t.contiguous() for name, t in tensors.items()}, partial, metadata)
    os.replace(partial, path)


def _restore(run: _Run, path: Path, identity: Mapping[str, Any]) -> None:
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise FitError(f"cannot resume from {path}: {error}; delete it to start over") from error
    differing = _differing(metadata.get("identity", "{}"), identity)
    if differing:
        raise FitError(
            f"{path} belongs to another run ({differing}): resume with what that one had, "
            "or leave out --resume to start over"
        )
    groups: dict[str, Any] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    run.model.load_state_dict(groups["model"])
    run.average, run.best = groups["average"], groups["best"]
    state = run.optimizer.state_dict()
    for name, tensor in groups["optimizer"].items():
        index, _, slot = name.partition(".")
        state["state"].setdefault(int(index), {})[slot] = tensor
    run.optimizer.load_state_dict(state)
    run.history = [Epoch(**epoch) for epoch in json.loads(metadata["history"])]


def _differing(kept: str, identity: Mapping[str, Any]) -> str:
    """Say in which values the checkpoint's identity, as JSON, is not this run's; empty where it is in none."""
    try:
        theirs = dict(json.loads(kept))
    except (ValueError, TypeError):
        return "it does not say which"
    ours = json.loads(json.dumps(identity))  # tuples become lists, as in what was kept
    names = [name for name in theirs | ours if theirs.get(name) != ours.get(name)]
    return "; ".join(f"its {name} is {_short(theirs.get(name))}, now {_short(ours.get(name))}" for name in names)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"


# --- small helpers -------------------------------------------------------------------------------


@contextmanager
def _seeded(seed: int, epoch: int) -> Iterator[None]:
    """Dropout's randomness, a function of the seed and the epoch; the caller's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
        yield


def _copied(weights: Mapping[str, Tensor]) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


def epochs_progress(console: Console) -> rich.progress.Progress:
    """A bar for each fit, with its epochs and the time that it takes."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TextColumn("epoch {task.completed:.1f} of {task.total:.0f}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
        disable=console.quiet or not console.is_terminal,  # elsewhere a bar leaves an empty line
        transient=True,
    )


def _line(epoch: Epoch, settings: FitSettings) -> str:
    return (
        f"epoch {epoch.epoch:3d} of {settings.epochs}: training loss {epoch.train_loss:.3f}, "
        f"accuracy {epoch.train_accuracy:.3f}; validation loss {epoch.validation_loss:.3f}, "
        f"accuracy {epoch.validation_accuracy:.3f}, macro F1 {epoch.validation_macro_f1:.3f}; "
        f"{epoch.seconds:.1f} s"
    )
