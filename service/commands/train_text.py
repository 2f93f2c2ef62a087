"""``stridecast train text``."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from rich.console import Console

from service.configuration.settings import Command
from training.activity_model.recipes import RecipeName
from training.data.text_datasets import Dataset, MessagePart
from training.fitting.fit_settings import FitError, FitPrecision
from training.protocols.cross_validation import cross_validate
from training.text_model.embeddings import Variant
from training.text_model.fit_text import read_training_data
from training.text_model.text_recipes import ArchitectureName, TextRecipe, default_variant, recipe_for
from training.train_text import KIM_VARIANTS, TextTrainingRequest, train_text


class Options(Command):
    """Fit a text model; write a bundle and a report, or with --folds the table of a cross-validation.

    Reads SUBJ, MR, TREC, 20 Newsgroups and IMDb as they were published, plain or compressed, and your own CSV with
    the columns text and label. What a flag leaves out, the recipe of the data set and the network decides.
    """

    architecture: ArchitectureName = Field("text-cnn", description="network to fit")
    dataset: Dataset = Field("csv", description="which data set the files are")
    data: list[Path] = Field(min_length=1, description="files of the data set")
    strip: list[MessagePart] = Field(default=[], description="parts to remove from the messages of 20news")
    vectors: Path | None = Field(None, description="word vectors to start from, in the format of GloVe's text files")
    recipe: RecipeName = Field("default", description="how to train: our recipe, or that of the network's article")
    variant: Literal[Variant, "all"] | None = Field(
        None,
        description="how vectors are trained; all compares the four of Kim's article with ours over folds; "
        "without it projected, or as the article has it, or rand where there are no vectors",
    )
    output: Path | None = Field(
        None, description="folder to write the bundle to; its name becomes the bundle's; by default runs/DATASET"
    )
    report: Path | None = Field(
        None,
        description="folder of the report and the checkpoint; by default the output folder's name with -report",
    )
    folds: int = Field(0, ge=0, le=100, description="number of folds: cross-validate instead of writing a bundle")
    only_folds: list[int] = Field(
        default=[], description="run only these folds, counted from 0; the report shows all that are done"
    )
    baselines: bool = Field(False, description="also fit TF-IDF with logistic regression and with a linear SVM")
    test_share: float = Field(
        0.1, ge=0, le=0.5, description="share of the texts to test on, where the data set has no test part"
    )
    length: int | None = Field(None, ge=1, le=8192, description="how many words of a text the network reads")
    html: bool | None = Field(None, description="strip HTML; by default only for imdb")
    min_count: int | None = Field(None, ge=1, description="how often a word must occur to be known")
    max_words: int | None = Field(None, ge=1, le=999_998, description="most words in the vocabulary")
    epochs: int | None = Field(None, ge=1, description="passes over the data")
    batch: int | None = Field(None, ge=1, description="texts in one step")
    learning_rate: float | None = Field(None, gt=0, description="of the optimizer")
    weight_decay: float | None = Field(None, ge=0, description="of the optimizer")
    label_smoothing: float | None = Field(None, ge=0, lt=1, description="share of the target given to other labels")
    average: float | None = Field(None, ge=0, lt=1, description="decay of the moving average of the weights")
    patience: int | None = Field(
        None, ge=0, description="stop after this many epochs without improvement; 0 means never"
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout before the last layer")
    maps: int | None = Field(None, ge=1, le=512, description="filters of each width, of text-cnn and conv1d")
    seed: int = Field(0, ge=0, description="random seed of splits, weights and order")
    precision: FitPrecision = Field(
        "float32", description="precision of training; bfloat16 is faster with AMX, or on AMD since Zen 4"
    )
    threads: int | None = Field(None, ge=1, le=256, description="CPU threads; by default as many as there are cores")
    version: str | None = Field(
        None,
        description="version of the bundle; by default 1, or one more than that of a bundle in the output folder",
    )
    resume: bool = Field(False, description="continue an interrupted run, from the checkpoint or the next fold")


def run(options: Options) -> None:
    """Train."""
    _refuse_ignored(options)
    console = Console()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    recipes = _recipes(options)
    output = options.output or Path("runs") / options.dataset
    report = options.report or output.with_name(f"{output.name}-report")
    recipe = recipes[0]
    data = read_training_data(
        options.dataset, options.data, recipe, options.vectors, strip=options.strip, console=console
    )
    if options.folds:
        cross_validate(
            data,
            recipes,
            report,
            folds=options.folds,
            only=options.only_folds,
            command=command(options),
            seed=options.seed,
            baselines=options.baselines,
            resume=options.resume,
            console=console,
        )
        return
    request = TextTrainingRequest(
        data,
        recipe,
        command(options),
        seed=options.seed,
        test_share=options.test_share,
        version=options.version or "",
    )
    train_text(request, output, report, baselines=options.baselines, resume=options.resume, console=console)


def _refuse_ignored(options: Options) -> None:
    if not options.folds and options.only_folds:
        raise FitError("--only-folds chooses among folds: add --folds")
    if options.folds and "version" in options.model_fields_set:
        raise FitError("--folds writes no bundle: leave out --version")
    if options.folds and "test_share" in options.model_fields_set:
        raise FitError("--folds tests on each fold in turn: leave out --test-share")


def _recipes(options: Options) -> list[TextRecipe]:
    """What to fit: one recipe, or with `--variant all` the article's four and ours."""
    if options.variant != "all":
        usual = default_variant(options.architecture, options.recipe)
        wanted: list[tuple[RecipeName, Variant]] = [
            (options.recipe, options.variant or (usual if options.vectors else "rand"))
        ]
    elif options.folds:
        wanted = [("article", variant) for variant in KIM_VARIANTS] + [("default", "projected")]
    else:
        raise FitError("--variant all compares variants over folds: add --folds 10, or choose one of them")
    if options.vectors is None and any(variant != "rand" for _, variant in wanted):
        raise FitError(f"--variant {options.variant} starts from word vectors: name their file with --vectors")
    return [_recipe(options, name, variant) for name, variant in wanted]


def _recipe(options: Options, name: RecipeName, variant: Variant) -> TextRecipe:
    """The recipe, with what the flags say instead."""
    recipe = recipe_for(options.dataset, options.architecture, variant, name)
    fit = dataclasses.replace(recipe.fit, precision=options.precision, **_given(options, _OF_FIT))
    arguments = recipe.network.arguments | _given(options, ("dropout", "maps"))
    rules = recipe.rules.model_validate(recipe.rules.model_dump() | _given(options, ("length", "html")))
    return dataclasses.replace(
        recipe,
        fit=fit,
        network=dataclasses.replace(recipe.network, arguments=arguments),
        rules=rules,
        **_given(options, ("min_count", "max_words")),
    )


_OF_FIT = ("epochs", "batch", "learning_rate", "weight_decay", "label_smoothing", "average", "patience")


def _given(options: Options, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def command(options: Options) -> str:
    """The command line that does the same again, with files by their names alone: where they lay says nothing."""
    words = ["stridecast", "train", "text"]
    for name in sorted(options.model_fields_set, key=list(Options.model_fields).index):
        value = getattr(options, name)
        if name in ("output", "report", "resume", "threads") or value in (None, []):
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
            continue
        words.append(flag)
        words += [item.name if isinstance(item, Path) else str(item) for item in _items(value)]
    return shlex.join(words)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
