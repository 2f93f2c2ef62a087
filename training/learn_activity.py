"""Fitting the activity model to some people's recordings: what frames are drawn, the network, and what it is worth.

All runs of `stridecast train activity` are made of this: the fit of a bundle, and each round of a protocol.
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
from inference.served import served_module
from training.augment import Augmentation, Signals, draw, signals
from training.bundles import new_network
from training.calibration import familiarity_border, fit_temperature, probabilities_at
from training.files import DataError
from training.fit import fit
from training.fit_settings import FitSettings
from training.frames import rows_cut_straight, served_frames
from training.goals import STRANGER
from training.history import Epoch
from training.logits import logits_of
from training.parts import People, parts_of
from training.recipes import Recipe
from training.recordings import SIX, DataFile, Labels, Recording
from training.scores import Scores, score
from training.strangers import strangers
from training.task import Fixed, Task

ARCHITECTURE = "har-cnn"
LAST_WEIGHT, LAST_BIAS = "output.weight", "output.bias"
NORMALISATION_FRAMES = 8192
# The lowest temperature that is believed.
SURE_ENOUGH = 0.5
# A border of familiarity that one of the shipped sets' people drew alone made strangers of 0 to 43 % of the windows of
# the others. Of about fifty people so many validate.
ENOUGH_PEOPLE = 5


# --- frames --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Material:
    """What the loop learns from; its inputs are normalised already, by `mean` and `std` float32[3].

    `validating` is how many people validate, by name.
    """

    task: Task
    mean: np.ndarray
    std: np.ndarray
    validating: int


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Examples drawn anew each time: `stretch` int64[n] says which stretch of signal each comes from.

    Behind them are `strangers` more, each made of, or instead of, an example from anywhere.
    """

    signal: Signals
    stretch: np.ndarray
    how: Augmentation
    mean: np.ndarray
    std: np.ndarray
    strangers: int

    def __len__(self) -> int:
        return len(self.stretch) + self.strangers

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        strange = rows >= len(self.stretch)
        rows = rows.copy()
        rows[strange] = rng.integers(0, len(self.stretch), strange.sum())
        stretch = self.stretch[rows]
        frames = draw(self.signal, stretch, self.how, rng)
        frames[strange] = strangers(frames[strange], rng)
        activity = np.where(strange, STRANGER, self.signal.activity[stretch])
        return (frames - self.mean) / self.std, activity


def material_of(people: People, recipe: Recipe, seed: int, start: Bundle | None = None) -> Material:
    """Lay out what `people` teach by `recipe`, normalised as `start` does it (or doesn't), where there is one.

    Raises `DataError` where that is nothing.
    """
    if recipe.augmentation is None:
        return _recorded(people, recipe, seed)
    signal = signals(people.train)
    stretch = np.repeat(np.arange(len(signal.windows)), signal.windows)
    validation = served_frames(people.validation)
    if not len(stretch) or not len(validation):
        raise DataError(
            "the data hold no complete window of the training people, or none of the validation people: a window is "
            "4 s of one activity, without a gap"
        )
    if start is None:
        rng = np.random.default_rng(seed)
        sample = draw(signal, rng.choice(stretch, NORMALISATION_FRAMES), recipe.augmentation, rng)
        mean, std = _normalisation(sample)
    else:
        given = start.manifest.normalisation or Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3)
        mean, std = (np.array(values, np.float32) for values in (given.mean, given.std))
    strange = math.ceil(recipe.stranger_share * len(stretch))
    return Material(
        Task(
            people.labels.names,
            _Drawn(signal, stretch, recipe.augmentation, mean, std, strange),
            Fixed((validation.values - mean) / std, validation.activity),
            _class_weights(signal.activity[stretch], people.labels, recipe.class_weight_power),
            may_be=people.labels.may_be(),
            strangers=strange > 0,
        ),
        mean,
        std,
        len({(recording.dataset, recording.person) for recording in people.validation}),
    )


def _recorded(people: People, recipe: Recipe, seed: int) -> Material:
    frames = rows_cut_straight(people.train, people.labels)
    order = np.random.default_rng(seed).permutation(len(frames))
    held_back, learned = np.split(order, [round(recipe.validation_share * len(frames))])
    mean, std = _normalisation(frames.values[learned])
    inputs = (frames.values - mean) / std
    return Material(
        Task(
            people.labels.names,
            Fixed(inputs[learned], frames.activity[learned]),
            Fixed(inputs[held_back], frames.activity[held_back]),
        ),
        mean,
        std,
        0,
    )


def _normalisation(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each axis, float32[3], m/s²."""
    values = frames.reshape(-1, 3).astype(np.float64)
    return values.mean(axis=0).astype(np.float32), values.std(axis=0).astype(np.float32)


def _class_weights(activity: np.ndarray, labels: Labels, power: float) -> np.ndarray:
    """float64[k], of mean 1 over the frames; rarer activities weigh more, and one that doesn't occur weighs 1.

    Label smoothing takes an absent one for rare, else, and teaches to say it.
    """
    meant = labels.may_be()
    share = meant / np.maximum(1, meant.sum(axis=1, keepdims=True))  # what may be either of two counts a half for each
    counts = np.bincount(activity, minlength=len(meant)) @ share
    occurs = counts > 0
    weights = (len(activity) / np.where(occurs, counts, 1)) ** power
    return np.where(occurs, weights * len(activity) / (weights * counts).sum(), 1.0)


# --- the network ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Learned:
    """A network, and how it came about."""

    network: nn.Module
    material: Material
    history: list[Epoch]
    logits: np.ndarray  # of what validates, float32[m, k]
    temperature: float  # fitted to them, and no lower than is believed
    familiarity_shift: float  # what was added to all labels' logits when it had learned

    @property
    def validation(self) -> Scores:
        """The scores of what validates, at a temperature of 1."""
        task = self.material.task
        return score(task.labels, task.validation.targets, probabilities_at(1.0, self.logits))

    def logits_on(self, recordings: Sequence[Recording]) -> tuple[np.ndarray, np.ndarray]:
        """Activities int64[m] of windows as the service cuts them, and this network's logits float32[m, k]."""
        frames = served_frames(recordings)
        if not len(frames):
            return frames.activity, np.empty((0, len(self.material.task.labels)), np.float32)
        return frames.activity, logits_of(self.network, (frames.values - self.material.mean) / self.material.std)


def learn(
    material: Material,
    settings: FitSettings,
    *,
    start: Bundle | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    identity: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> Learned:
    """Fit a network, a new one or that of `start`, and then its temperature and the level of its familiarity.

    `settings` are the recipe's with this run's seed.

    `material` must have been made for the same `start`. Of one with other labels, the last layer's rows of labels that
    both have are taken over, and all other layers. Raises `FitError`.
    """
    labels = material.task.labels
    network = new_network(ARCHITECTURE, settings.seed, **arguments_of(labels))
    if start is not None:
        network.load_state_dict(_taken_over(start, network.state_dict(), labels))
    history = fit(
        network, material.task, settings, checkpoint=checkpoint, resume=resume, identity=identity, console=console
    )
    known = material.task.validation
    logits = logits_of(network, known.inputs)
    shift = _familiarity_shift(logits, material, start) if material.task.strangers else 0.0
    with torch.no_grad():
        network.get_parameter(LAST_BIAS).add_(shift)
    logits = logits + np.float32(shift)
    # Few people who are all right would make it certain of everything.
    least = SURE_ENOUGH if start is None else start.manifest.temperature
    temperature = max(least, fit_temperature(logits, known.targets))
    return Learned(network, material, history, logits, temperature, shift)


def _familiarity_shift(logits: np.ndarray, material: Material, start: Bundle | None) -> float:
    """What to add to all labels' `logits` float32[m, k] of who validates, so that few of these windows are strange.

    What goes on from a bundle that tells strangers finds as many of them strange as that does. Few people, who are
    alike, say too little of what all others are like: nothing is added for them.
    """
    border = familiarity_border(logits)
    if start is not None and start.manifest.tells_strangers:
        before = logits_of(served_module(start).network, material.task.validation.inputs)
        return familiarity_border(before) - border
    return -border if material.validating >= ENOUGH_PEOPLE else 0.0


def arguments_of(labels: Sequence[str]) -> dict[str, Any]:
    """What the architecture has to be told of the labels: nothing where there are as many as it has by itself."""
    return {} if len(labels) == len(SIX) else {"classes": len(labels)}


def _taken_over(start: Bundle, fresh: Mapping[str, torch.Tensor], labels: Sequence[str]) -> dict[str, torch.Tensor]:
    """The weights of `start`, with a last layer for `labels`: its rows where it has them, else those of `fresh`."""
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
    """What a checkpoint or a round's result belongs to, apart from its settings."""
    parts = [
        (part.file.dataset, sorted(part.train), sorted(part.validation), sorted(part.test))
        for part in parts_of(files, recipe)
    ]
    return {
        "labels": repr(files[0].labels.names),
        # By another rule, who tests now may have been learned from then.
        "parts": hashlib.sha256(repr(parts).encode()).hexdigest()[:12],
        "data": ", ".join(f"{file.dataset} {file.sha256[:12]}" for file in files),
        "recipe": recipe.name,
        "augmentation": repr(recipe.augmentation),
        "strangers": str(recipe.stranger_share),
        "architecture": ARCHITECTURE,
    }
