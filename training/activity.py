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
from training.augment import Augmentation, Signals, draw, signals
from training.bundles import described, make_room, new_network, replaced_bundle, told, with_metrics
from training.datasets import ACTIVITIES, STANDARD_GRAVITY, DataFile, Recording, read_files
from training.evaluate import Evaluation, evaluate, table
from training.files import DataError
from training.fit import FitSettings, Fixed, Precision, Task, fit, fit_temperature, predict
from training.frames import rows_cut_straight, served_frames
from training.recipes import RECIPES, Recipe, RecipeName
from training.report import TrainingReport, article_figures, beside_the_article, write_training_report
from training.scores import Scores, score
from windowing import SLOT_MS, WINDOW_SLOTS

ARCHITECTURE = "har-cnn"
NORMALISATION_FRAMES = 8192


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

    `data` are WISDM and MotionSense files; the recipe says who of them is held out. The test people are scored
    once, at the end. The bundle is named like its folder. `report` also keeps the checkpoint from which `resume`
    continues. `bfloat16` is about 1.5 times as fast on a CPU with AVX-512 BF16.
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
    people = _split(files, chosen)
    material = _material(people, chosen, seed)
    description = _describe(output.name, version, files, chosen, settings, material)
    network = new_network(ARCHITECTURE, seed)
    history = fit(
        network,
        material.task,
        settings,
        checkpoint=report / "checkpoint.safetensors",
        resume=resume,
        identity=_identity(files, chosen),
        console=console,
    )
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
        history=tuple(history),
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


# --- who learns, who validates, who tests --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _People:
    """The recordings of each part; the test people's by file, for each data set is scored by itself."""

    train: list[Recording]
    validation: list[Recording]
    test: list[tuple[DataFile, list[Recording]]]


def _split(files: Sequence[DataFile], recipe: Recipe) -> _People:
    parts = _People([], [], [])
    for file in files:
        if file.kind not in recipe.test_people:
            raise DataError(
                f"the recipe {recipe.name!r} does not say who of {file.dataset} is held out; it knows "
                f"{' and '.join(recipe.test_people)}"
            )
        tested = recipe.test_people[file.kind]
        validating = recipe.validation_people.get(file.kind, frozenset())
        parts.test.append((file, [r for r in file.recordings if r.person in tested]))
        parts.validation.extend(r for r in file.recordings if r.person in validating)
        parts.train.extend(r for r in file.recordings if r.person not in tested | validating)
    return parts


# --- frames --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Material:
    """What the loop learns from; its inputs are normalised already, by `mean` and `std` float32[3]."""

    task: Task
    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Examples drawn anew each time: `stretch` int64[n] says which stretch of signal each comes from."""

    signal: Signals
    stretch: np.ndarray
    how: Augmentation
    mean: np.ndarray
    std: np.ndarray

    def __len__(self) -> int:
        return len(self.stretch)

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        stretch = self.stretch[rows]
        frames = draw(self.signal, stretch, self.how, rng)
        return (frames - self.mean) / self.std, self.signal.activity[stretch]


def _material(people: _People, recipe: Recipe, seed: int) -> _Material:
    if recipe.augmentation is None:
        return _recorded(people, recipe, seed)
    signal = signals(people.train)
    stretch = np.repeat(np.arange(len(signal.windows)), signal.windows)
    validation = served_frames(people.validation)
    if not len(stretch) or not len(validation):
        raise DataError("the data hold no complete window of the training people, or none of the validation people")
    rng = np.random.default_rng(seed)
    sample = draw(signal, rng.choice(stretch, NORMALISATION_FRAMES), recipe.augmentation, rng)
    mean, std = _normalisation(sample)
    return _Material(
        Task(
            ACTIVITIES,
            _Drawn(signal, stretch, recipe.augmentation, mean, std),
            Fixed((validation.values - mean) / std, validation.activity),
            _class_weights(signal.activity[stretch], recipe.class_weight_power),
        ),
        mean,
        std,
    )


def _recorded(people: _People, recipe: Recipe, seed: int) -> _Material:
    frames = rows_cut_straight(people.train)
    order = np.random.default_rng(seed).permutation(len(frames))
    held_back, learned = np.split(order, [round(recipe.validation_share * len(frames))])
    mean, std = _normalisation(frames.values[learned])
    inputs = (frames.values - mean) / std
    return _Material(
        Task(
            ACTIVITIES,
            Fixed(inputs[learned], frames.activity[learned]),
            Fixed(inputs[held_back], frames.activity[held_back]),
        ),
        mean,
        std,
    )


def _normalisation(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each axis, float32[3], m/s²."""
    values = frames.reshape(-1, 3).astype(np.float64)
    return values.mean(axis=0).astype(np.float32), values.std(axis=0).astype(np.float32)


def _class_weights(activity: np.ndarray, power: float) -> np.ndarray:
    """float64[6], of mean 1 over the frames; rarer activities weigh more."""
    counts = np.bincount(activity, minlength=len(ACTIVITIES))
    weights = (len(activity) / np.maximum(1, counts)) ** power
    return np.asarray(weights * len(activity) / (weights * counts).sum())


# --- the bundle ----------------------------------------------------------------------------------


def _identity(files: Sequence[DataFile], recipe: Recipe) -> dict[str, str]:
    return {
        "data": ", ".join(f"{file.dataset} {file.sha256[:12]}" for file in files),
        "recipe": recipe.name,
        "augmentation": repr(recipe.augmentation),
        "architecture": ARCHITECTURE,
    }


def _describe(
    name: str,
    version: str,
    files: Sequence[DataFile],
    recipe: Recipe,
    settings: FitSettings,
    material: _Material,
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
