"""What a run of `stridecast train activity` is asked to do, and the plan made from it before any file is read."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from inference.bundle import Bundle, load_bundle
from training.activity_model.fit_activity import ARCHITECTURE
from training.activity_model.recipes import FINE_TUNING_FACTOR, RECIPES, Recipe, RecipeName
from training.data.datasets import read_files
from training.data.label_check import refuse_mostly_other_activities
from training.data.recordings import DEFAULT_LABELS, DataFile, Labels
from training.evaluation.evaluate import labels_of
from training.fitting.fit_settings import FitError, FitPrecision, FitSettings
from windowing import WINDOW_SLOTS


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train on which files, and how; `start` is the bundle to continue from, if any.

    `seed` is not in `settings` yet: each round of a protocol derives its own from it. `labels_chosen` says that the
    labels were asked for: without it, data that mostly show other activities are refused.
    """

    data: Sequence[Path]
    recipe: Recipe
    labels: Labels
    start: Bundle | None
    settings: FitSettings
    seed: int
    labels_chosen: bool

    def read(self, console: Console | None = None) -> list[DataFile]:
        """Read the files with the plan's labels; raises `DataError`."""
        files = read_files(self.data, console, self.labels)
        if not self.labels_chosen:
            refuse_mostly_other_activities(files)
        return files


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What to train on, and how, as given on the command line.

    `start` is the folder of a bundle to continue from. `labels` default to that bundle's, or to the six. `bfloat16` is
    faster on CPUs with AMX, and on AMD's since Zen 4.
    """

    data: Sequence[Path]
    recipe: RecipeName = "default"
    labels: Labels | None = None
    start: Path | None = None
    epochs: int | None = None
    seed: int = 0
    precision: FitPrecision = "float32"

    def plan(self) -> Plan:
        """Look up the recipe and the bundle, and check them; raises `DataError`, `FitError` or `BundleError`."""
        recipe = RECIPES[self.recipe]
        start = _startable(self.start, recipe)
        settings = _fit_settings(recipe, start, self.epochs, self.precision)
        labels = self.labels or default_labels(start)
        return Plan(self.data, recipe, labels, start, settings, self.seed, labels_chosen=self.labels is not None)


def default_labels(start: Bundle | None) -> Labels:
    """Return the labels of the bundle to continue from, or the six."""
    return DEFAULT_LABELS if start is None else labels_of(start)


def _startable(folder: Path | None, recipe: Recipe) -> Bundle | None:
    """Load the bundle to continue from; raises `BundleError`, or `FitError` if training can't continue from it."""
    if folder is None:
        return None
    bundle = load_bundle(folder)
    if bundle.manifest.architecture.name != ARCHITECTURE or bundle.manifest.input.shape != (WINDOW_SLOTS, 3):
        raise FitError(f"{bundle.title} is no {ARCHITECTURE} of windows of activities: it can't be gone on from")
    if recipe.augmentation is None:
        raise FitError(
            f"the recipe {recipe.name!r} has a normalisation of its own: a bundle can't be gone on from with it"
        )
    return bundle


def _fit_settings(recipe: Recipe, start: Bundle | None, epochs: int | None, precision: FitPrecision) -> FitSettings:
    """Return the recipe's settings, with `epochs` if given, and a lower learning rate to fine-tune a `start` bundle."""
    settings = dataclasses.replace(
        recipe.fit, precision=precision, epochs=recipe.fit.epochs if epochs is None else epochs
    )
    if start is None:
        return settings
    return dataclasses.replace(settings, learning_rate=FINE_TUNING_FACTOR * settings.learning_rate)
