"""Training the activity model: from data files to a bundle and a report."""

import dataclasses
import datetime
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from inference.bundle import Bundle
from inference.manifest import ArchitectureChoice, DataSet, Description, Input, Normalisation, Training
from inference.saving import save_bundle
from training.bundles import described, make_room, replaced_bundle, told, with_metrics
from training.calibration import probabilities_at
from training.comparison import compare, comparison_section, comparison_table, nothing_to_compare
from training.datasets import read_files
from training.evaluate import Evaluation, evaluate, table
from training.figures import article_figures
from training.fit import FitPrecision, FitSettings
from training.frames import served_frames
from training.golden import golden_frames, half_familiar
from training.learn_activity import (
    ARCHITECTURE,
    Material,
    arguments_of,
    fit_settings,
    identity_of,
    labels_to_learn,
    learn,
    material_of,
    startable,
)
from training.markdown import plain
from training.parts import People, split
from training.population import population
from training.quantisation import activation_ranges
from training.recipes import RECIPES, Recipe, RecipeName
from training.recordings import SIX, DataFile, Labels, Recording
from training.report import TrainingReport, write_training_report
from training.report_tables import beside_the_article
from training.scores import Scores, score
from training.transitions import transitions
from windowing import WINDOW_SLOTS


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train_activity` made."""

    bundle: Bundle
    tests: tuple[Evaluation, ...]


def train_activity(
    data: Sequence[Path],
    output: Path,
    report: Path,
    *,
    recipe: RecipeName = "default",
    labels: Labels | None = None,
    start: Path | None = None,
    epochs: int | None = None,
    seed: int = 0,
    resume: bool = False,
    precision: FitPrecision = "float32",
    version: str | None = None,
    console: Console | None = None,
) -> Trained:
    """Fit the activity model by `recipe`; write its bundle to the folder `output` and the account to `report`.

    `training.recipes.held_out` says who of `data` tests. They are scored once, at the end. The bundle is named like
    its folder. `report` also keeps the checkpoint from which `resume` continues. `bfloat16` is faster on CPUs
    with AMX, and AMD's since Zen 4. `start` is the folder of a bundle whose weights to go on from, and to be compared
    with where its labels are the same. `labels` are those of `start` unless given, or the six.
    Raises `DataError`, `FitError` or `BundleError`.
    """
    began = time.monotonic()
    chosen = RECIPES[recipe]
    begun = startable(start, chosen)
    settings = dataclasses.replace(fit_settings(chosen, begun, epochs, precision), seed=seed)
    labels = labels or labels_to_learn(begun)
    make_room(output.parent, report)
    replaced = replaced_bundle(output)
    files = read_files(data, console, labels)
    people = _with_windows(split(files, chosen), console)
    if console is not None and (untaught := _untaught(people)):
        console.print(f"Nobody who trains shows {', '.join(untaught)}", soft_wrap=True, markup=False)
    material = material_of(people, chosen, seed, begun)
    description = _describe(
        output.name,
        version or _next_version(begun),
        files,
        chosen,
        settings,
        material,
        people,
        begun,
    )
    learned = learn(
        material,
        settings,
        start=begun,
        checkpoint=report / "checkpoint.safetensors",
        resume=resume,
        identity=identity_of(files, chosen) | ({"start": begun.digest} if begun else {}),
        console=console,
    )
    network = learned.network
    known = material.task.validation
    validation = score(labels.names, known.targets, probabilities_at(1.0, learned.logits))
    ranges = activation_ranges(network, known.inputs, description.architecture.checked().quantised)
    description = description.model_copy(
        update={"temperature": round(learned.temperature, 4), "activation_ranges": ranges}
    )
    bundle, tests = _save_and_test(output, network, description, validation, people.test)
    incomparable = None if begun is None else nothing_to_compare(begun, bundle)
    comparable = [] if begun is None or incomparable else people.test
    comparisons = [compare(begun, bundle, file, some) for file, some in comparable if begun is not None]
    article = recipe == "article" and labels == SIX
    account = TrainingReport(
        title=f"recipe `{recipe}`",
        command=description.training.command,
        seed=seed,
        seconds=time.monotonic() - began,
        threads=torch.get_num_threads(),
        settings=dataclasses.asdict(settings),
        data=[
            {"name": file.name, "sha256": file.sha256, "rows": file.readings, "rows_left_out": dict(file.dropped)}
            for file in files
        ],
        examples={"training, an epoch": len(material.task.train), "validation": len(known)},
        temperature=learned.temperature,
        history=tuple(learned.history),
        validation=validation,
        tests=tests,
        details={
            "recipe": recipe,
            "article": article_figures() if article else None,
            "familiarity_shift": learned.familiarity_shift,
        },
        sections=[
            *map(comparison_section, comparisons),
            *([f"## Nothing to compare\n\n{plain(incomparable)}.\n"] if incomparable else []),
            *(beside_the_article(test) for test in tests if article),
        ],
    )
    write_training_report(report, account)
    if console is not None:
        for test in tests:
            console.print(table(test))
        for comparison in comparisons:
            console.print(comparison_table(comparison))
        if incomparable:
            console.print(incomparable, soft_wrap=True, markup=False)
        console.print(told(bundle, output, report, replaced), soft_wrap=True, markup=False)
    return Trained(bundle, tests)


def _with_windows(people: People, console: Console | None) -> People:
    """Leave out data sets that nobody tests, and say so before the fit."""
    tested = []
    for file, some in people.test:
        if len(served_frames(some)):
            tested.append((file, some))
        elif console is not None:
            console.print(
                f"Nobody of {file.dataset} tests: it takes three people with complete windows, or WISDM's or "
                "MotionSense's by name",
                soft_wrap=True,
                markup=False,
            )
    return dataclasses.replace(people, test=tested)


def _untaught(people: People) -> list[str]:
    """The labels that a model would learn from nothing, if `start` doesn't know them."""
    codes = np.unique(np.concatenate([np.empty(0, np.int8), *(r.activity for r in people.train)]))
    taught = people.labels.may_be()[codes[codes >= 0]].any(axis=0)
    return [name for name, is_taught in zip(people.labels.names, taught, strict=True) if not is_taught]


def _next_version(start: Bundle | None) -> str:
    """One more than that of the bundle that is gone on from, where it is a number."""
    version = "0" if start is None else start.manifest.version
    return str(int(version) + 1) if version.isdecimal() else "1"


def _save_and_test(
    output: Path,
    network: nn.Module,
    description: Description,
    validation: Scores,
    test_people: Sequence[tuple[DataFile, list[Recording]]],
) -> tuple[Bundle, tuple[Evaluation, ...]]:
    """Save the bundle, score it as it will be served, and save it again with its scores."""
    golden = golden_frames()
    if description.tells_strangers:
        golden = np.concatenate([golden, half_familiar(network, description, golden)])
    bundle = save_bundle(output, network, description, golden)
    tests = [evaluate(bundle, file, held_out) for file, held_out in test_people]
    bundle = save_bundle(output, network, with_metrics(description, validation, tests), golden)
    return bundle, tuple(dataclasses.replace(test, bundle_digest=bundle.digest) for test in tests)


# --- the bundle ----------------------------------------------------------------------------------


def _describe(
    name: str,
    version: str,
    files: Sequence[DataFile],
    recipe: Recipe,
    settings: FitSettings,
    material: Material,
    people: People,
    start: Bundle | None,
) -> Description:
    """What the bundle will say of itself, as far as it is known before the fit; raises `FitError`."""
    command = ["stridecast", "train", "activity", "--data", *(file.name for file in files)]
    command += ["--recipe", recipe.name, "--epochs", str(settings.epochs), "--seed", str(settings.seed)]
    command += ["--precision", settings.precision]
    if people.labels != labels_to_learn(start):
        command += ["--labels", *people.labels.names]
    seen = [DataSet(name=file.name, sha256=file.sha256) for file in files]
    if start is not None:
        command += ["--start", start.manifest.name]
        seen.append(DataSet(name=f"bundle {start.title}", sha256=start.digest))
    training = Training(
        data=tuple(seen),
        command=shlex.join(command),
        seed=settings.seed,
        date=datetime.datetime.now(datetime.UTC).date(),
    )
    return described(
        lambda: Description(
            name=name,
            version=version,
            architecture=ArchitectureChoice(name=ARCHITECTURE, arguments=arguments_of(people.labels.names)),
            input=Input(shape=(WINDOW_SLOTS, 3)),
            labels=people.labels.names,
            normalisation=Normalisation(
                mean=tuple(float(str(value)) for value in material.mean),
                std=tuple(float(str(value)) for value in material.std),
            ),
            tells_strangers=material.task.strangers,
            transitions=transitions(people.train, people.labels),
            population=population(_usual(people.train, files), people.labels),
            training=training,
        ),
        name,
        version,
    )


def _usual(recordings: Sequence[Recording], files: Sequence[DataFile]) -> list[Recording]:
    """Without what a worker kept, where there is more: it kept the odd ones alone."""
    kept = {file.dataset for file in files if file.kind == "kept"}
    return [recording for recording in recordings if recording.dataset not in kept] or list(recordings)
