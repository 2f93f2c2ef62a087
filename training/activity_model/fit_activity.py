"""Fit the activity model to some people's recordings: the training data, the network, and its calibration.

All runs of `stridecast train activity` use this: the fit of a bundle, and each round of a protocol.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from inference.bundle import Bundle
from inference.manifest import Normalisation
from inference.served_module import served_module
from training.activity_model.augment import Augmentation, draw
from training.activity_model.ood_samples import ood_samples
from training.activity_model.recipes import Recipe
from training.activity_model.splits import RecordingSplit, split_files
from training.data.files import DataError
from training.data.frames import served_frames, windows_by_row
from training.data.recordings import DEFAULT_LABELS, DataFile, Labels, Recording
from training.data.sampling import and_why_incomplete
from training.data.signals import Signals, signals
from training.fitting.calibration import energy_threshold, fit_temperature, probabilities_at
from training.fitting.fit import fit
from training.fitting.fit_settings import FitSettings
from training.fitting.history import Epoch
from training.fitting.logits import logits_of
from training.fitting.networks import new_network
from training.fitting.scores import Scores, score
from training.fitting.soft_targets import OOD
from training.fitting.task import Fixed, Task

ARCHITECTURE = "har-cnn"
LAST_WEIGHT, LAST_BIAS = "output.weight", "output.bias"
NORMALISATION_FRAMES = 8192
# The lowest temperature that a fit may set.
MIN_TEMPERATURE = 0.5
# A familiarity threshold set on a single person of the shipped sets rejected 0 to 43 % of the other people's windows.
# Of about fifty people, this many are for validation.
MIN_VALIDATION_PEOPLE = 5


# --- frames --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ActivityTrainingData:
    """The training and validation data, normalised by `mean` and `std` float32[3].

    `validation_people` counts the validation people.
    """

    task: Task
    mean: np.ndarray
    std: np.ndarray
    validation_people: int


@dataclass(frozen=True, slots=True)
class _AugmentedExamples:
    """Examples drawn anew each time: `segment` int64[n] is the segment of signal that each comes from.

    `ood_count` OOD samples follow, each made from, or in place of, a random example.
    """

    signal: Signals
    segment: np.ndarray
    augmentation: Augmentation
    mean: np.ndarray
    std: np.ndarray
    ood_count: int

    def __len__(self) -> int:
        return len(self.segment) + self.ood_count

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        is_ood = rows >= len(self.segment)
        rows = rows.copy()
        rows[is_ood] = rng.integers(0, len(self.segment), is_ood.sum())
        segment = self.segment[rows]
        frames = draw(self.signal, segment, self.augmentation, rng)
        frames[is_ood] = ood_samples(frames[is_ood], rng)
        activity = np.where(is_ood, OOD, self.signal.activity[segment])
        return (frames - self.mean) / self.std, activity


def prepare_training_data(
    split: RecordingSplit, recipe: Recipe, seed: int, start: Bundle | None = None
) -> ActivityTrainingData:
    """Prepare the training data of `split` by `recipe`, with the normalisation of the `start` bundle, if there is one.

    Raises `DataError` if there is no training or no validation window.
    """
    if recipe.augmentation is None:
        return _without_augmentation(split, recipe, seed)
    signal = signals(split.train)
    segment = np.repeat(np.arange(len(signal.windows)), signal.windows)
    validation = served_frames(split.validation)
    if not len(segment) or not len(validation):
        raise DataError(
            "the data hold no complete window of the training people, or none of the validation people: a window is "
            f"4 s of one activity, without a gap{and_why_incomplete([*split.train, *split.validation])}"
        )
    if start is None:
        rng = np.random.default_rng(seed)
        sample = draw(signal, rng.choice(segment, NORMALISATION_FRAMES), recipe.augmentation, rng)
        mean, std = _normalisation(sample)
    else:
        given = start.manifest.normalisation or Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3)
        mean, std = (np.array(values, np.float32) for values in (given.mean, given.std))
    ood_count = math.ceil(recipe.ood_share * len(segment))
    return ActivityTrainingData(
        Task(
            split.labels.names,
            _AugmentedExamples(signal, segment, recipe.augmentation, mean, std, ood_count),
            Fixed((validation.values - mean) / std, validation.activity),
            _class_weights(signal.activity[segment], split.labels, recipe.class_weight_power),
            candidates=split.labels.candidates(),
            has_ood=ood_count > 0,
        ),
        mean,
        std,
        len({(recording.dataset, recording.person) for recording in split.validation}),
    )


def _without_augmentation(split: RecordingSplit, recipe: Recipe, seed: int) -> ActivityTrainingData:
    frames = windows_by_row(split.train, split.labels)
    order = np.random.default_rng(seed).permutation(len(frames))
    validation, train = np.split(order, [round(recipe.validation_share * len(frames))])
    mean, std = _normalisation(frames.values[train])
    inputs = (frames.values - mean) / std
    return ActivityTrainingData(
        Task(
            split.labels.names,
            Fixed(inputs[train], frames.activity[train]),
            Fixed(inputs[validation], frames.activity[validation]),
        ),
        mean,
        std,
        0,
    )


def _normalisation(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each axis, float32[3], m/s²."""
    values = frames.reshape(-1, 3).astype(np.float64)
    return values.mean(axis=0).astype(np.float32), values.std(axis=0).astype(np.float32)


def _class_weights(activity: np.ndarray, labels: Labels, power: float) -> np.ndarray:
    """Return float64[k] class weights, of mean 1 over the frames; rarer activities weigh more, absent ones weigh 1.

    With a larger weight for an absent label, label smoothing would teach the network to predict it.
    """
    meant = labels.candidates()
    share = meant / np.maximum(1, meant.sum(axis=1, keepdims=True))  # one of two candidates counts as half of each
    counts = np.bincount(activity, minlength=len(meant)) @ share
    occurs = counts > 0
    weights = (len(activity) / np.where(occurs, counts, 1)) ** power
    return np.where(occurs, weights * len(activity) / (weights * counts).sum(), 1.0)


# --- the network ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FittedActivityModel:
    """A fitted network with its data, history and calibration."""

    network: nn.Module
    data: ActivityTrainingData
    history: list[Epoch]
    logits: np.ndarray  # of the validation windows, float32[m, k]
    temperature: float  # fitted to them, with a lower bound
    familiarity_shift: float  # added to all labels' logits after the fit

    @property
    def validation(self) -> Scores:
        """The validation scores, at a temperature of 1."""
        task = self.data.task
        return score(task.labels, task.validation.targets, probabilities_at(1.0, self.logits))

    def logits_on(self, recordings: Sequence[Recording]) -> tuple[np.ndarray, np.ndarray]:
        """Return the activities int64[m] of windows as the service cuts them, and their logits float32[m, k]."""
        frames = served_frames(recordings)
        if not len(frames):
            return frames.activity, np.empty((0, len(self.data.task.labels)), np.float32)
        return frames.activity, logits_of(self.network, (frames.values - self.data.mean) / self.data.std)


def fit_activity(
    data: ActivityTrainingData,
    settings: FitSettings,
    *,
    start: Bundle | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    identity: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> FittedActivityModel:
    """Fit a new network, or fine-tune that of `start`; then calibrate its temperature and familiarity.

    `settings` are the recipe's with this run's seed. `data` must have been prepared for the same `start`. If its labels
    differ, the last layer keeps the rows of the labels that both have; all other layers are kept. Raises `FitError`.
    """
    labels = data.task.labels
    network = new_network(ARCHITECTURE, settings.seed, **architecture_arguments(labels))
    if start is not None:
        network.load_state_dict(_transferred_weights(start, network.state_dict(), labels))
    history = fit(
        network, data.task, settings, checkpoint=checkpoint, resume=resume, identity=identity, console=console
    )
    known = data.task.validation
    logits = logits_of(network, known.inputs)
    shift = _familiarity_shift(logits, data, start) if data.task.has_ood else 0.0
    with torch.no_grad():
        network.get_parameter(LAST_BIAS).add_(shift)
    logits = logits + np.float32(shift)
    # On few validation people, all predicted right, the fitted temperature would be far too low.
    least = MIN_TEMPERATURE if start is None else start.manifest.temperature
    temperature = max(least, fit_temperature(logits, known.targets))
    return FittedActivityModel(network, data, history, logits, temperature, shift)


def _familiarity_shift(logits: np.ndarray, data: ActivityTrainingData, start: Bundle | None) -> float:
    """Return the offset to add to all `logits` float32[m, k], so that few validation windows count as OOD.

    After fine-tuning a bundle that has familiarity, as many of them do as before. A few people, who resemble each
    other, say too little about everybody else: then the offset is 0.
    """
    border = energy_threshold(logits)
    if start is not None and start.manifest.tells_strangers:
        before = logits_of(served_module(start).network, data.task.validation.inputs)
        return energy_threshold(before) - border
    return -border if data.validation_people >= MIN_VALIDATION_PEOPLE else 0.0


def architecture_arguments(labels: Sequence[str]) -> dict[str, Any]:
    """Return the architecture's arguments for these labels: none where their number is its default."""
    return {} if len(labels) == len(DEFAULT_LABELS) else {"classes": len(labels)}


def _transferred_weights(
    start: Bundle, fresh: Mapping[str, torch.Tensor], labels: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Return the weights of `start`, with a last layer for `labels`: its rows if it has the label, else `fresh`."""
    weights = {name: torch.from_numpy(values.copy()) for name, values in start.weights.items()}
    rows = {name.casefold(): row for row, name in enumerate(start.manifest.labels)}
    known = [(row, rows[name.casefold()]) for row, name in enumerate(labels) if name.casefold() in rows]
    to, of = (list(places) for places in zip(*known, strict=True)) if known else ([], [])
    for name in (LAST_WEIGHT, LAST_BIAS):
        layer = fresh[name].clone()
        layer[to] = weights[name][of]
        weights[name] = layer
    return weights


def identity_of(files: Sequence[DataFile], recipe: Recipe) -> dict[str, str]:
    """Return what a checkpoint or a round's result belongs to, apart from its settings."""
    parts = [
        (part.file.dataset, sorted(part.train), sorted(part.validation), sorted(part.test))
        for part in split_files(files, recipe)
    ]
    return {
        "labels": repr(files[0].labels.names),
        # Under another splitting rule, today's test people may have been trained on.
        "parts": hashlib.sha256(repr(parts).encode()).hexdigest()[:12],
        "data": ", ".join(f"{file.dataset} {file.sha256[:12]}" for file in files),
        "recipe": recipe.name,
        "augmentation": repr(recipe.augmentation),
        "strangers": str(recipe.ood_share),
        "architecture": ARCHITECTURE,
    }
