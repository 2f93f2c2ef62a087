"""Training a text model: from a corpus to a bundle and a report."""

import dataclasses
import datetime
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from inference.architectures import count_parameters
from inference.bundle import Bundle
from inference.manifest import ArchitectureChoice, DataSet, Description, Input, Training
from inference.saving import save_bundle
from training.bundles import (
    checked_description,
    closing_line,
    new_folders,
    next_version,
    replaced_bundle,
    warnings_of_replaced,
    with_metrics,
)
from training.data.text_datasets import Corpus
from training.evaluation.evaluate import Evaluation, evaluate_texts, table
from training.evaluation.text_comparison import BaselineComparison, comparison_section, measure
from training.fitting.fit_settings import FitSettings
from training.reports.report import TrainingReport, write_training_report
from training.text_model.embeddings import Variant
from training.text_model.fit_text import (
    RANDOM_DIMENSIONS,
    FittedTextModel,
    Split,
    TextTrainingData,
    describe,
    fit_text,
    identity_of,
    split_off,
)
from training.text_model.text_recipes import TextRecipe
from training.text_model.text_warnings import warnings_of_test, warnings_of_texts
from training.text_model.words import FIRST_WORD
from training.wording.markdown import plain
from training.wording.markdown import table as markdown_table
from training.wording.warnings import show_warnings
from windowing.text import Framer

KIM_VARIANTS: tuple[Variant, ...] = ("rand", "static", "non-static", "multichannel")


@dataclass(frozen=True, slots=True)
class Trained:
    """The bundle that `train_text` wrote, and its test scores."""

    bundle: Bundle
    tests: tuple[Evaluation, ...]


@dataclass(frozen=True, slots=True)
class TextTrainingRequest:
    """The data and the recipe of a text model; its bundle carries `command` and `version`.

    Without `version` it is 1, or one more than that of a bundle which the output folder holds already.

    The test texts are those that the data set holds out, or `test_share` of all if it has no split.
    """

    data: TextTrainingData
    recipe: TextRecipe
    command: str
    seed: int = 0
    test_share: float = 0.1
    version: str = ""

    @property
    def settings(self) -> FitSettings:
        """The recipe's settings, with this seed."""
        return dataclasses.replace(self.recipe.fit, seed=self.seed)


def train_text(
    request: TextTrainingRequest,
    output: Path,
    report: Path,
    *,
    baselines: bool = False,
    resume: bool = False,
    console: Console | None = None,
) -> Trained:
    """Fit a text model; write its bundle to the folder `output` and the report to the folder `report`.

    The test texts are scored once, at the end, as they will be served. The bundle is named like its folder. `report`
    also holds the checkpoint from which `resume` continues. Raises `DataError`, `FitError` or `BundleError`.
    """
    began = time.monotonic()
    data, recipe = request.data, request.recipe
    with new_folders(output.parent, report):
        replaced = replaced_bundle(output)
        request = dataclasses.replace(request, version=request.version or next_version(replaced))
        split = single_split(data.corpus, recipe.validation_share, request.test_share, request.seed, data.alike)
        warnings = [
            *warnings_of_replaced(output, replaced, data.corpus.labels),
            *warnings_of_texts(data),
            *warnings_of_test(split),
        ]
        show_warnings(warnings, console)
        training = _training(request)
        # A description that no bundle can have must fail before the fit, not after it.
        _describe(output.name, request, training, *_largest_table(data, recipe))
    fitted = _fit(request, split, report / "checkpoint.safetensors", resume, console)
    description = _describe(output.name, request, training, *fitted.table_shape)
    trained = _save_and_test(output, fitted, description, request, split.test)
    comparison = measure(data.corpus, split, trained.bundle, baselines)
    seconds = time.monotonic() - began
    write_training_report(report, _report(request, split, fitted, trained, comparison, warnings, seconds))
    if console is not None:
        for test in trained.tests:
            console.print(table(test))
        console.print(closing_line(trained.bundle, output, report, replaced), soft_wrap=True, markup=False)
    return trained


def _fit(
    request: TextTrainingRequest, split: Split, checkpoint: Path, resume: bool, console: Console | None
) -> FittedTextModel:
    # The seed draws each part by its size: a checkpoint with other sizes has trained on this run's test texts.
    parts = [len(split.train), len(split.validation), len(split.test)]
    return fit_text(
        request.data,
        split,
        request.recipe,
        request.settings,
        unseen_words=True,
        checkpoint=checkpoint,
        resume=resume,
        identity=identity_of(request.data, request.recipe) | {"parts": parts},
        console=console,
    )


def _report(
    request: TextTrainingRequest,
    split: Split,
    fitted: FittedTextModel,
    trained: Trained,
    comparison: BaselineComparison,
    warnings: Sequence[str],
    seconds: float,
) -> TrainingReport:
    recipe, data = request.recipe, request.data
    return TrainingReport(
        title=f"{plain(data.corpus.name)}, {recipe.network.name}, {recipe.variant}",
        parts=_parts_section(split, data.corpus),
        warnings=warnings,
        command=request.command,
        seed=request.seed,
        seconds=seconds,
        threads=torch.get_num_threads(),
        settings=dataclasses.asdict(request.settings),
        data=[dataclasses.asdict(file) for file in data.files],
        examples={
            "training, an epoch": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
        },
        temperature=fitted.temperature,
        history=tuple(fitted.history),
        validation=fitted.validation,
        tests=trained.tests,
        unit="texts",
        details={
            "recipe": describe(recipe),
            "words": len(fitted.vocabulary),
            "parameters": count_parameters(fitted.network),
            "texts_a_second": {str(batch): rate for batch, rate in comparison.speed.items()},
            "baselines": {
                name: {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1}
                for name, scores in comparison.baselines.items()
            },
        },
        sections=[comparison_section(recipe, fitted, trained.tests, comparison)],
    )


def _parts_section(split: Split, corpus: Corpus) -> str:
    """Return as Markdown how many texts of each label train, validate and test."""
    parts = {"training": split.train, "validation": split.validation, "test": split.test}
    counts = [np.bincount(corpus.targets[texts], minlength=len(corpus.labels)) for texts in parts.values()]
    rows = [(label, *(f"{count:,}" for count in each)) for label, *each in zip(corpus.labels, *counts, strict=True)]
    return "\n".join(["## Texts\n", *markdown_table(("label", *parts), rows)]) + "\n"


def single_split(
    corpus: Corpus, validation_share: float, test_share: float, seed: int, alike: np.ndarray | None = None
) -> Split:
    """Split off the data set's own test part, or `test_share` of all; of the rest, `validation_share` validates.

    Texts that are `alike` int64[n] stay together.
    """
    rng = np.random.default_rng(seed)
    if corpus.test is not None:
        test, others = np.flatnonzero(corpus.test), np.flatnonzero(~corpus.test)
    else:
        test, others = split_off(np.arange(len(corpus)), test_share, rng, alike)
    validation, train = split_off(others, validation_share, rng, alike)
    return Split(train, validation, test)


def _largest_table(data: TextTrainingData, recipe: TextRecipe) -> tuple[int, int]:
    """Return the largest possible number of tokens in the table of vectors, and its dimensions."""
    vectors = None if recipe.variant == "rand" else data.vectors
    words = len(data.tokens.words) + (len(vectors.rows) if vectors else 0)
    return min(words, recipe.max_words) + FIRST_WORD, vectors.dimensions if vectors else RANDOM_DIMENSIONS


def _training(request: TextTrainingRequest) -> Training:
    return Training(
        data=tuple(DataSet(name=file.name, sha256=file.sha256) for file in request.data.files),
        command=request.command,
        seed=request.seed,
        date=datetime.datetime.now(datetime.UTC).date(),
    )


def _describe(name: str, request: TextTrainingRequest, training: Training, tokens: int, dimensions: int) -> Description:
    """Return the manifest's description; raises `FitError`."""
    recipe, labels = request.recipe, request.data.corpus.labels
    arguments = recipe.network.sized(
        tokens=tokens, dimensions=dimensions, length=recipe.rules.length, classes=len(labels)
    )
    return checked_description(
        lambda: Description(
            name=name,
            version=request.version,
            architecture=ArchitectureChoice(name=recipe.network.architecture, arguments=arguments),
            input=Input(shape=(recipe.rules.length,), dtype="int32"),
            framing=recipe.rules.model_dump(),
            labels=labels,
            training=training,
        ),
        name,
        request.version,
    )


def _save_and_test(
    output: Path, fitted: FittedTextModel, description: Description, request: TextTrainingRequest, test: np.ndarray
) -> Trained:
    """Save the bundle beside its place, score it as it will be served, and save it in its place with its scores.

    A worker that serves the folder would take up both.
    """

    def save(folder: Path, told: Description) -> Bundle:
        # In another language all golden texts would be unknown words, so one consists of the vocabulary's first words.
        known = " ".join(fitted.vocabulary[:GOLDEN_WORDS])
        golden = Framer(request.recipe.rules, fitted.vocabulary).frame((*GOLDEN_TEXTS, known))
        return save_bundle(
            folder, fitted.network, told, golden, vocabulary=fitted.vocabulary, half=("embedding.weight",)
        )

    calibrated = description.model_copy(update={"temperature": round(fitted.temperature, 4)})
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as beside:
        untested = save(Path(beside) / output.name, calibrated)
        tests = [evaluate_texts(untested, request.data.corpus, test)] if len(test) else []
    bundle = save(output, with_metrics(calibrated, fitted.validation, tests))
    return Trained(bundle, tuple(dataclasses.replace(one, bundle_digest=bundle.digest) for one in tests))


GOLDEN_WORDS = 50
# Synthetic: nobody's text goes into a bundle.
GOLDEN_TEXTS = (
    "a boy finds an old map and leaves his village to look for the island where his father was lost .",
    "this is a warm and funny film , though its last half hour is far too long !",
    "two sisters who have not spoken for years must share the house that their aunt has left them .",
    "i could not stop laughing , but i wouldn't call it good ; it's clever , and it doesn't last .",
    "Does anyone know which driver the new video card needs? Windows hangs when I open a second window.",
    "The goalkeeper saved two penalties and the team won the game 3-2 in the last minute of the season.",
    "For sale: a mountain bike, hardly used, with lights and a spare wheel. Asking 150 or best offer, please e-mail.",
    "The orbit of the satellite decays by a few metres a day, so the engine is fired every other month.",
)
