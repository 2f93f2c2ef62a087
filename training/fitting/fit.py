"""One training loop, for any model that maps a batch of inputs to logits.

The loop knows nothing of accelerometers or texts. All randomness is a function of the seed and the epoch, so a run that
is interrupted and resumed ends with the same weights as one that is not.

    fit_settings, task    the hyperparameters, and the training problem
    history, checkpoint   the metrics of each epoch, and the state that a run resumes from
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from training.fitting.checkpoint import TrainingState, Weights, load_checkpoint, save_checkpoint
from training.fitting.fit_settings import FitError, FitSettings
from training.fitting.history import Epoch
from training.fitting.logits import predict
from training.fitting.progress import epochs_progress
from training.fitting.scores import score
from training.fitting.soft_targets import OOD, Splices, smooth_labels, splice, spliced_targets, with_ood_class
from training.fitting.task import Task

# Sort by length within this many batches' examples: enough to even out lengths, few enough that batches differ from
# epoch to epoch.
BATCHES_SORTED = 20


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
    """Fit `model` in place and return each epoch's metrics; raises `FitError`.

    With a `checkpoint` path, the run is saved after each epoch and, with `resume`, continued from there. `identity`
    names the data and the model, in values that JSON can hold, so that another run's checkpoint is refused.
    """
    if not len(task.train) or not len(task.validation):
        raise FitError(
            f"nothing to learn from: {len(task.train)} training and {len(task.validation)} validation examples; "
            "more data is needed"
        )
    console = console or Console(quiet=True)
    first = model.state_dict()
    run = TrainingState(model, _optimizer(model, settings), _cloned(first), _cloned(first), settings.best_by)
    identity = {**(identity or {}), **dataclasses.asdict(settings)}
    if checkpoint and resume:
        _resume(run, checkpoint, identity, console)
    try:
        _all_epochs(
            run, task, settings, console, lambda: save_checkpoint(run, checkpoint, identity) if checkpoint else None
        )
    except KeyboardInterrupt:
        console.print(_interrupted(run, checkpoint), soft_wrap=True)
        raise
    model.load_state_dict(run.best if settings.patience else run.average)
    return run.history


def _optimizer(model: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adadelta":
        return torch.optim.Adadelta(learned, lr=rate, rho=0.95, eps=1e-6, weight_decay=decay)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(learned, lr=rate, alpha=0.9, eps=1e-7, weight_decay=decay)
    return torch.optim.AdamW(learned, lr=rate, weight_decay=decay)


def _resume(run: TrainingState, checkpoint: Path, identity: Mapping[str, Any], console: Console) -> None:
    if not checkpoint.exists():
        console.print(f"No checkpoint at {checkpoint}: starting from the beginning", soft_wrap=True, markup=False)
        return
    load_checkpoint(run, checkpoint, identity)
    console.print(f"Resuming after epoch {len(run.history)} from {checkpoint}", soft_wrap=True, markup=False)


def _all_epochs(
    run: TrainingState, task: Task, settings: FitSettings, console: Console, save: Callable[[], None]
) -> None:
    with epochs_progress(console) as progress:
        bar = progress.add_task("Fitting", total=settings.epochs, completed=len(run.history))
        while len(run.history) < settings.epochs and not _out_of_patience(run, settings):
            epoch = _one_epoch(run, task, settings, lambda epochs: progress.update(bar, completed=epochs))
            run.history.append(epoch)
            if run.best_epoch is epoch:
                run.best = _cloned(run.average)
            save()
            console.print(_summary_line(epoch, settings), soft_wrap=True)


def _interrupted(run: TrainingState, checkpoint: Path | None) -> str:
    if not run.history:
        return "Interrupted before the end of the first epoch: nothing is kept"
    after = f"Interrupted after epoch {len(run.history)}"
    return f"{after}: --resume goes on from there" if checkpoint else after


def _one_epoch(run: TrainingState, task: Task, settings: FitSettings, on_progress: Callable[[float], None]) -> Epoch:
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
            logits, soft = _step(run, torch.from_numpy(inputs), targets, splices, rate, task, settings)
            if settings.average or step == steps - 1:
                _average(run, number * steps + step, settings)
            loss_sum += float(F.cross_entropy(logits, soft, reduction="sum"))
            hits = _correct(logits, soft, targets, splices, len(task.labels))
            correct, known = correct + int(hits.sum()), known + len(hits)
            on_progress(number + (step + 1) / steps)
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
    """Return each example once, in random order; with `lengths`, batches of examples of similar length."""
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
    run: TrainingState,
    inputs: Tensor,
    targets: Tensor,
    splices: Splices | None,
    rate: float,
    task: Task,
    settings: FitSettings,
) -> tuple[Tensor, Tensor]:
    """Train on one batch; return its logits float32[m, k] before the step, and its soft targets.

    With OOD samples both have k + 1 columns, theirs last.
    """
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
        logits: Tensor = run.model(inputs)
    logits = logits.float()
    weights = None if task.class_weights is None else torch.as_tensor(task.class_weights, dtype=torch.float32)
    if task.has_ood:
        logits = F.pad(logits, (0, 1))
        weights = None if weights is None else F.pad(weights, (0, 1), value=1.0)
        soft = spliced_targets(logits.detach(), targets, splices, with_ood_class(_candidates(task)))
        loss = F.cross_entropy(logits, smooth_labels(soft, settings.label_smoothing), weights)
    else:
        plain = task.candidates is None and splices is None
        soft = (
            targets
            if plain
            else spliced_targets(logits.detach(), targets, splices, torch.from_numpy(_candidates(task)))
        )
        loss = F.cross_entropy(logits, soft, weights, label_smoothing=settings.label_smoothing)
    if not bool(torch.isfinite(loss)):
        raise FitError("the loss is no longer finite: lower the learning rate")
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    if settings.max_norm:
        _limit_norm(run.model, settings.max_norm)
    return logits.detach(), soft


def _candidates(task: Task) -> np.ndarray:
    return np.eye(len(task.labels), dtype=bool) if task.candidates is None else task.candidates


def _correct(logits: Tensor, soft: Tensor, targets: Tensor, splices: Splices | None, labels: int) -> Tensor:
    """Return whether each known, unspliced example was predicted right, bool[counted], among the labels alone."""
    wanted = targets if soft is targets else soft[:, :labels].argmax(dim=1)
    counted = targets != OOD
    if splices is not None:
        counted &= torch.from_numpy(splices.share == 0)
    return (logits[:, :labels].argmax(dim=1) == wanted)[counted]


@torch.no_grad()
def _limit_norm(model: nn.Module, longest: float) -> None:
    weight = [module for module in model.modules() if isinstance(module, nn.Linear)][-1].weight
    weight.copy_(weight.renorm(2, 0, longest))


def learning_rate(step: int, steps: int, settings: FitSettings) -> float:
    """Return a step's learning rate; "one-cycle" rises linearly for a tenth of the run, then falls to 0 as a cosine."""
    if settings.schedule == "constant":
        return settings.learning_rate
    rise = max(1, steps // 10)
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@torch.no_grad()
def _average(run: TrainingState, step: int, settings: FitSettings) -> None:
    # The initial weights are noise: a small decay at the beginning forgets them.
    decay = min(settings.average, (1 + step) / (10 + step))
    for name, tensor in run.model.state_dict().items():
        if tensor.is_floating_point():
            run.average[name].lerp_(tensor, 1 - decay)
        else:
            run.average[name].copy_(tensor)


def _out_of_patience(run: TrainingState, settings: FitSettings) -> bool:
    best = run.best_epoch
    return bool(settings.patience) and best is not None and len(run.history) - best.epoch >= settings.patience


@contextmanager
def _seeded(seed: int, epoch: int) -> Iterator[None]:
    """Seed dropout with the seed and the epoch; the caller's generator is unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
        yield


def _cloned(weights: Mapping[str, Tensor]) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


def _summary_line(epoch: Epoch, settings: FitSettings) -> str:
    return (
        f"epoch {epoch.epoch:3d} of {settings.epochs}: training loss {epoch.train_loss:.3f}, "
        f"accuracy {epoch.train_accuracy:.3f}; validation loss {epoch.validation_loss:.3f}, "
        f"accuracy {epoch.validation_accuracy:.3f}, macro F1 {epoch.validation_macro_f1:.3f}; "
        f"{epoch.seconds:.1f} s"
    )
