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

from inference.bundle import ArchitectureChoice, Bundle, DataSet, Description, Input, Normalisation, Training
from inference.saving import save_bundle
from training.bundles import described, make_room, replaced_bundle, told, with_metrics
from training.datasets import ACTIVITIES, STANDARD_GRAVITY, DataFile, Recording, read_files
from training.evaluate import Evaluation, evaluate, table
from training.fit import FitSettings, Precision, fit_temperature, predict
from training.learn_activity import ARCHITECTURE, Material, identity_of, learn, material_of, split
from training.recipes import RECIPES, Recipe, RecipeName
from training.report import TrainingReport, article_figures, beside_the_article, write_training_report
from training.scores import Scores, score
from windowing import SLOT_MS, WINDOW_SLOTS


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
    epochs: int | None = None,
    seed: int = 0,
    resume: bool = False,
    precision: Precision = "float32",
    version: str = "1",
    console: Console | None = None,
) -> Trained:
    """Fit the activity model by `recipe`; write its bundle to the folder `output` and the account to `report`.

    `training.recipes.held_out` says who of `data` tests. They are scored once, at the end. The bundle is named like
    its folder. `report` also keeps the checkpoint from which `resume` continues. `bfloat16` is about 1.5 times as
    fast on a CPU with AVX-512 BF16.
    Raises `DataError`, `FitError` or `BundleError`.
    """
    began = time.monotonic()
    chosen = RECIPES[recipe]
    settings = dataclasses.replace(
        chosen.fit, seed=seed, precision=precision, epochs=chosen.fit.epochs if epochs is None else epochs
    )
    make_room(output.parent, report)
    replaced = replaced_bundle(output)
    files = read_files(data, console)
    people = split(files, chosen)
    material = material_of(people, chosen, seed)
    description = _describe(output.name, version, files, chosen, settings, material)
    learned = learn(
        material,
        settings,
        checkpoint=report / "checkpoint.safetensors",
        resume=resume,
        identity=identity_of(files, chosen),
        console=console,
    )
    network = learned.network
    known = material.task.validation
    guesses = predict(network, known.inputs)
    temperature = fit_temperature(np.log(np.maximum(guesses, 1e-30)), known.targets)
    validation = score(ACTIVITIES, known.targets, guesses)
    bundle, tests = _save_and_test(output, network, description, temperature, validation, people.test)
    article = recipe == "article"
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
        temperature=temperature,
        history=tuple(learned.history),
        validation=validation,
        tests=tests,
        details={"recipe": recipe, "article": article_figures() if article else None},
        sections=[beside_the_article(test) for test in tests] if article else [],
    )
    write_training_report(report, account)
    if console is not None:
        for test in tests:
            console.print(table(test))
        console.print(told(bundle, output, report, replaced), soft_wrap=True)
    return Trained(bundle, tests)


def _save_and_test(
    output: Path,
    network: nn.Module,
    description: Description,
    temperature: float,
    validation: Scores,
    test_people: Sequence[tuple[DataFile, list[Recording]]],
) -> tuple[Bundle, tuple[Evaluation, ...]]:
    """Save the bundle, score it as it will be served, and save it again with its scores."""
    calibrated = description.model_copy(update={"temperature": round(temperature, 4)})
    bundle = save_bundle(output, network, calibrated, golden_frames())
    tests = [evaluate(bundle, file, held_out) for file, held_out in test_people if held_out]
    bundle = save_bundle(output, network, with_metrics(calibrated, validation, tests), golden_frames())
    return bundle, tuple(dataclasses.replace(test, bundle_digest=bundle.digest) for test in tests)


# --- the bundle ----------------------------------------------------------------------------------


def _describe(
    name: str,
    version: str,
    files: Sequence[DataFile],
    recipe: Recipe,
    settings: FitSettings,
    material: Material,
) -> Description:
    """What the bundle will say of itself, as far as it is known before the fit; raises `FitError`."""
    command = ["stridecast", "train", "activity", "--data", *(file.name for file in files)]
    command += ["--recipe", recipe.name, "--epochs", str(settings.epochs), "--seed", str(settings.seed)]
    command += ["--precision", settings.precision]
    training = Training(
        data=tuple(DataSet(name=file.name, sha256=file.sha256) for file in files),
        command=shlex.join(command),
        seed=settings.seed,
        date=datetime.datetime.now(datetime.UTC).date(),
    )
    return described(
        lambda: Description(
            name=name,
            version=version,
            architecture=ArchitectureChoice(name=ARCHITECTURE),
            input=Input(shape=(WINDOW_SLOTS, 3)),
            labels=ACTIVITIES,
            normalisation=Normalisation(
                mean=tuple(float(str(value)) for value in material.mean),
                std=tuple(float(str(value)) for value in material.std),
            ),
            training=training,
        ),
        name,
        version,
    )


def golden_frames() -> np.ndarray:
    """Eight made-up frames, float32[8, 80, 3], m/s²: nobody's recording goes into a bundle.

    Two phones at rest and six that swing about gravity at a walker's to a runner's pace.
    """
    t = np.arange(WINDOW_SLOTS)[:, None] * SLOT_MS / 1000
    postures = np.array(
        [(0, 1, 0), (0, 0.1, 1), (0, 1, 0.1), (0.2, 1, 0), (1, 0, 0.1), (0, -1, 0), (0, 1, 0), (0.7, 0.7, 0)]
    )
    hertz = np.array([0, 0, 0.9, 1.0, 0.8, 0.95, 1.35, 1.4])
    strength = np.array([0, 0, 2.0, 3.5, 3.0, 4.0, 9.0, 12.0])
    swing = np.sin(2 * np.pi * hertz[:, None, None] * t * np.array([1, 2, 2]) + np.array([0, 1, 2]))
    impact = np.sin(2 * np.pi * hertz[:, None, None] * t * np.array([3, 4, 4]) + np.array([2, 0, 1]))
    frames = STANDARD_GRAVITY * postures[:, None, :] + strength[:, None, None] * (swing + 0.5 * impact)
    return np.asarray(frames.round(2).astype(np.float32))
