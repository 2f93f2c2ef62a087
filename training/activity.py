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

from inference.bundle import Bundle
from inference.manifest import ArchitectureChoice, DataSet, Description, Input, Normalisation, Training
from inference.saving import save_bundle
from training.asked import Asked, Plan, labels_to_learn
from training.bundles import described, make_room, replaced_bundle, told, with_metrics
from training.comparison import Comparison, compare, comparison_section, comparison_table, nothing_to_compare
from training.evaluate import Evaluation, evaluate, table
from training.figures import article_figures
from training.fit_settings import FitSettings
from training.frames import served_frames
from training.golden import golden_frames, half_familiar
from training.learn_activity import ARCHITECTURE, Learned, Material, arguments_of, identity_of, learn, material_of
from training.markdown import plain
from training.parts import People, split
from training.population import population
from training.quantisation import activation_ranges
from training.recordings import SIX, DataFile, Recording
from training.report import TrainingReport, write_training_report
from training.report_tables import beside_the_article
from training.transitions import transitions
from windowing import WINDOW_SLOTS


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train_activity` made."""

    bundle: Bundle
    tests: tuple[Evaluation, ...]


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What was planned, the files that were read, and what their people teach; `settings` have the run's seed."""

    plan: Plan
    settings: FitSettings
    files: list[DataFile]
    people: People
    material: Material


@dataclass(frozen=True, slots=True)
class _Beside:
    """What a bundle is beside the one that it began with, on each test data set; or why that can't be said."""

    comparisons: tuple[Comparison, ...] = ()
    incomparable: str | None = None


def train_activity(
    asked: Asked,
    output: Path,
    report: Path,
    *,
    version: str | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Trained:
    """Fit the activity model; write its bundle to the folder `output` and the account to `report`.

    `training.recipes.held_out` says who of the data tests. They are scored once, at the end. The bundle is named like
    its folder. `report` also keeps the checkpoint from which `resume` continues. A bundle that was gone on from is
    compared with, where its labels are the same. Raises `DataError`, `FitError` or `BundleError`.
    """
    began = time.monotonic()
    plan = asked.plan()
    make_room(output.parent, report)
    replaced = replaced_bundle(output)
    lesson = _lesson(plan, console)
    # What cannot be a bundle is refused before the fit, not after it.
    description = _describe(output.name, version or _next_version(plan.start), lesson)
    learned = _learn(lesson, report / "checkpoint.safetensors", resume, console)
    trained = _save_and_test(output, learned, description, lesson.people.test)
    beside = _compare(plan.start, trained.bundle, lesson.people.test)
    write_training_report(report, _account(lesson, learned, trained, beside, time.monotonic() - began))
    if console is not None:
        _show(console, trained, beside)
        console.print(told(trained.bundle, output, report, replaced), soft_wrap=True, markup=False)
    return trained


# --- before the fit ------------------------------------------------------------------------------


def _lesson(plan: Plan, console: Console | None) -> _Lesson:
    """Read the files, and lay out what they teach."""
    files = plan.read(console)
    people = _with_windows(split(files, plan.recipe), console)
    if console is not None and (untaught := _untaught(people)):
        console.print(f"Nobody who trains shows {', '.join(untaught)}", soft_wrap=True, markup=False)
    material = material_of(people, plan.recipe, plan.seed, plan.start)
    return _Lesson(plan, dataclasses.replace(plan.settings, seed=plan.seed), files, people, material)


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


# --- the fit, and what it is worth ----------------------------------------------------------------


def _learn(lesson: _Lesson, checkpoint: Path, resume: bool, console: Console | None) -> Learned:
    plan = lesson.plan
    return learn(
        lesson.material,
        lesson.settings,
        start=plan.start,
        checkpoint=checkpoint,
        resume=resume,
        identity=identity_of(lesson.files, plan.recipe) | ({"start": plan.start.digest} if plan.start else {}),
        console=console,
    )


def _save_and_test(
    output: Path, learned: Learned, description: Description, test_people: Sequence[tuple[DataFile, list[Recording]]]
) -> Trained:
    """Save the bundle, score it as it will be served, and save it again with its scores."""
    network, validating = learned.network, learned.material.task.validation
    ranges = activation_ranges(network, validating.inputs, description.architecture.checked().quantised)
    description = description.model_copy(
        update={"temperature": round(learned.temperature, 4), "activation_ranges": ranges}
    )
    golden = golden_frames()
    if description.tells_strangers:
        golden = np.concatenate([golden, half_familiar(network, description, golden)])
    bundle = save_bundle(output, network, description, golden)
    tests = [evaluate(bundle, file, held_out) for file, held_out in test_people]
    bundle = save_bundle(output, network, with_metrics(description, learned.validation, tests), golden)
    return Trained(bundle, tuple(dataclasses.replace(test, bundle_digest=bundle.digest) for test in tests))


def _compare(start: Bundle | None, bundle: Bundle, test_people: Sequence[tuple[DataFile, list[Recording]]]) -> _Beside:
    if start is None:
        return _Beside()
    if incomparable := nothing_to_compare(start, bundle):
        return _Beside(incomparable=incomparable)
    return _Beside(tuple(compare(start, bundle, file, held_out) for file, held_out in test_people))


# --- what is told --------------------------------------------------------------------------------


def _account(lesson: _Lesson, learned: Learned, trained: Trained, beside: _Beside, seconds: float) -> TrainingReport:
    plan = lesson.plan
    article = plan.recipe.name == "article" and plan.labels == SIX
    return TrainingReport(
        title=f"recipe `{plan.recipe.name}`",
        command=trained.bundle.manifest.training.command,
        seed=plan.seed,
        seconds=seconds,
        threads=torch.get_num_threads(),
        settings=dataclasses.asdict(lesson.settings),
        data=[
            {"name": file.name, "sha256": file.sha256, "rows": file.readings, "rows_left_out": dict(file.dropped)}
            for file in lesson.files
        ],
        examples={
            "training, an epoch": len(lesson.material.task.train),
            "validation": len(lesson.material.task.validation),
        },
        temperature=learned.temperature,
        history=tuple(learned.history),
        validation=learned.validation,
        tests=trained.tests,
        details={
            "recipe": plan.recipe.name,
            "article": article_figures() if article else None,
            "familiarity_shift": learned.familiarity_shift,
        },
        sections=[
            *map(comparison_section, beside.comparisons),
            *([f"## Nothing to compare\n\n{plain(beside.incomparable)}.\n"] if beside.incomparable else []),
            *(beside_the_article(test) for test in trained.tests if article),
        ],
    )


def _show(console: Console, trained: Trained, beside: _Beside) -> None:
    for test in trained.tests:
        console.print(table(test))
    for comparison in beside.comparisons:
        console.print(comparison_table(comparison))
    if beside.incomparable:
        console.print(beside.incomparable, soft_wrap=True, markup=False)


# --- the bundle ----------------------------------------------------------------------------------


def _describe(name: str, version: str, lesson: _Lesson) -> Description:
    """What the bundle will say of itself, as far as it is known before the fit; raises `FitError`."""
    people, material = lesson.people, lesson.material
    training = Training(
        data=_learned_from(lesson),
        command=_command(lesson),
        seed=lesson.settings.seed,
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
            population=population(_usual(people.train, lesson.files), people.labels),
            training=training,
        ),
        name,
        version,
    )


def _command(lesson: _Lesson) -> str:
    """The command line that makes the bundle again, with files by their names alone."""
    plan, settings = lesson.plan, lesson.settings
    command = ["stridecast", "train", "activity", "--data", *(file.name for file in lesson.files)]
    command += ["--recipe", plan.recipe.name, "--epochs", str(settings.epochs), "--seed", str(settings.seed)]
    command += ["--precision", settings.precision]
    if plan.labels != labels_to_learn(plan.start):
        command += ["--labels", *plan.labels.names]
    if plan.start is not None:
        command += ["--start", plan.start.manifest.name]
    return shlex.join(command)


def _learned_from(lesson: _Lesson) -> tuple[DataSet, ...]:
    start = lesson.plan.start
    files = [DataSet(name=file.name, sha256=file.sha256) for file in lesson.files]
    return (*files, *([DataSet(name=f"bundle {start.title}", sha256=start.digest)] if start else []))


def _usual(recordings: Sequence[Recording], files: Sequence[DataFile]) -> list[Recording]:
    """Without what a worker kept, where there is more: it kept the odd ones alone."""
    kept = {file.dataset for file in files if file.kind == "kept"}
    return [recording for recording in recordings if recording.dataset not in kept] or list(recordings)
