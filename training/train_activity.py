"""Training the activity model: from data files to a bundle and a report."""

import dataclasses
import datetime
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from inference.bundle import Bundle
from inference.manifest import ArchitectureChoice, DataSet, Description, Input, Normalisation, Training
from inference.saving import save_bundle
from training.activity_model.fit_activity import (
    ARCHITECTURE,
    ActivityTrainingData,
    FittedActivityModel,
    architecture_arguments,
    fit_activity,
    identity_of,
    prepare_training_data,
)
from training.activity_model.golden import golden_frames, half_familiar
from training.activity_model.population import population
from training.activity_model.quantisation import activation_ranges
from training.activity_model.splits import RecordingSplit, split_recordings
from training.activity_model.transitions import transitions
from training.bundles import (
    checked_description,
    closing_line,
    new_folders,
    next_version,
    replaced_bundle,
    warnings_of_replaced,
    with_metrics,
)
from training.data.datasets import warnings_of_files
from training.data.frames import LabelledFrames, served_frames
from training.data.held_out import FEWEST_PEOPLE, has_numbered_people, held_out_people
from training.data.label_check import ONE_WINDOW, labels_learned, labels_shown, refuse_fewer_than_two
from training.data.minutes import minutes_of
from training.data.recordings import DEFAULT_LABELS, DataFile, Recording, natural_order
from training.evaluation.comparison import Comparison, compare, comparison_section, comparison_table, why_incomparable
from training.evaluation.evaluate import Evaluation, evaluate, table
from training.evaluation.learned_people import STARTED_FROM
from training.fitting.fit_settings import FitSettings
from training.plan import Plan, TrainingRequest, default_labels
from training.reports.report import TrainingReport, write_training_report
from training.reports.report_json import article_json
from training.reports.report_tables import article_section
from training.wording.markdown import plain
from training.wording.markdown import table as markdown_table
from training.wording.phrases import in_people, some_of
from training.wording.warnings import show_warnings
from windowing import WINDOW_SLOTS

FEW_TO_TEST = 3  # people


@dataclass(frozen=True, slots=True)
class Trained:
    """The bundle that `train_activity` wrote, and its test scores."""

    bundle: Bundle
    tests: tuple[Evaluation, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    """The plan, the files read, the split of their people, and the training data; `settings` include the run's seed.

    `warnings` are those of the files, and of what of them can't be learned or tested.
    """

    plan: Plan
    settings: FitSettings
    files: list[DataFile]
    split: RecordingSplit
    data: ActivityTrainingData
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class _StartComparison:
    """The comparison with the start bundle on each test data set, or why there is none."""

    comparisons: tuple[Comparison, ...] = ()
    incomparable: str | None = None


def train_activity(
    request: TrainingRequest,
    output: Path,
    report: Path,
    *,
    version: str | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Trained:
    """Fit the activity model; write its bundle to the folder `output` and the report to the folder `report`.

    `training.data.held_out` chooses the test people. They are scored once, at the end. The bundle is named like its
    folder. Without `version` it is one more than the start bundle's, and than that of a bundle which `output` holds.
    `report` also holds the checkpoint from which `resume` continues. With a start bundle of the same labels, the report
    compares the new bundle with it. Raises `DataError`, `FitError` or `BundleError`.
    """
    began = time.monotonic()
    plan = request.plan()
    with new_folders(output.parent, report):
        replaced = replaced_bundle(output)
        job = _prepare(plan, warnings_of_replaced(output, replaced, plan.labels.names), console)
        # A description that no bundle can have must fail before the fit, not after it.
        description = _describe(output.name, version or next_version(replaced, plan.start), job)
    fitted = _fit(job, report / "checkpoint.safetensors", resume, console)
    trained = _save_and_test(output, fitted, description, job.split.test)
    against_start = _compare(plan.start, trained.bundle, job.split.test)
    write_training_report(report, _report(job, fitted, trained, against_start, time.monotonic() - began))
    if console is not None:
        _show(console, trained, against_start)
        console.print(closing_line(trained.bundle, output, report, replaced), soft_wrap=True, markup=False)
    return trained


# --- before the fit ------------------------------------------------------------------------------


def _prepare(plan: Plan, warnings: list[str], console: Console | None) -> _Job:
    """Read the files, split them and prepare the training data."""
    files = plan.read(console)
    split = split_recordings(files, plan.recipe)
    refuse_fewer_than_two(split.labels, split.train, files)
    windows = [served_frames(some) for _, some in split.test]
    tested = [part for part, found in zip(split.test, windows, strict=True) if len(found)]
    warnings += [_why_no_test(*part) for part, found in zip(split.test, windows, strict=True) if not len(found)]
    warnings += [*_unlearned(split, plan), *_untested(split, windows)]
    show_warnings(warnings, console)
    data = prepare_training_data(split, plan.recipe, plan.seed, plan.start)
    return _Job(
        plan,
        dataclasses.replace(plan.settings, seed=plan.seed),
        files,
        dataclasses.replace(split, test=tested),
        data,
        warnings_of_files(files) + warnings,
    )


def _unlearned(split: RecordingSplit, plan: Plan) -> Iterator[str]:
    """Yield what to say of labels that are not learned: of those without data, and of those with too little."""
    shown, learned = (found(split.labels, split.train) for found in (labels_shown, labels_learned))
    short = [name for name in shown if name not in learned]
    for why, names in (
        ("No training data for {}", [name for name in split.labels.names if name not in shown]),
        (f"No complete window of {{}} by anybody who trains, which takes {ONE_WINDOW}", short),
    ):
        known = [] if plan.start is None else [name.casefold() for name in plan.start.manifest.labels]
        old, new = ([name for name in names if (name.casefold() in known) is is_old] for is_old in (True, False))
        for some, will in ((old, "may forget"), (new, "will not know")):
            if some:
                it = "it" if len(some) == 1 else "them"
                yield f"{why.format(', '.join(some))}: the new model {will} {it}; --labels can leave {it} out."


def _untested(split: RecordingSplit, windows: Sequence[LabelledFrames]) -> Iterator[str]:
    """Yield what to say of labels that are learned and that no test window shows, and of a test of few people."""
    shown = {split.labels.names[code] for found in windows for code in np.unique(found.activity)}
    people = {person for found in windows for person in found.person}
    if not people:
        return
    if names := [name for name in labels_learned(split.labels, split.train) if name not in shown]:
        it = "it" if len(names) == 1 else "them"
        yield f"Nobody who tests shows {', '.join(names)}: how well the model tells {it} is not known"
    if len(people) < FEW_TO_TEST:
        yield (
            f"The test is of {in_people(len(people))}: its scores say little about others; --protocol people tests on "
            "everybody in turn"
        )


def _why_no_test(file: DataFile, test: Sequence[Recording]) -> str:
    if people := sorted({recording.person for recording in test}, key=natural_order):
        why = f"shows no complete window of {some_of(people)}, who would test: it takes 4 s of one activity"
    elif has_numbered_people(file):
        why = f"has none of the people of {file.dataset} who test: {some_of(held_out_people(file).test)}"
    elif len(file.people) < FEWEST_PEOPLE:
        why = f"has {in_people(len(file.people))}, and it takes three: to train, to validate and to test"
    else:
        why = "has nobody who tests: all of its people train or validate, by a public set's list or with other files"
    return f"No test score: {file.name} {why}."


# --- the fit, and its test ------------------------------------------------------------------------


def _fit(job: _Job, checkpoint: Path, resume: bool, console: Console | None) -> FittedActivityModel:
    plan = job.plan
    return fit_activity(
        job.data,
        job.settings,
        start=plan.start,
        checkpoint=checkpoint,
        resume=resume,
        identity=identity_of(job.files, plan.recipe) | ({"start": plan.start.digest} if plan.start else {}),
        console=console,
    )


def _save_and_test(
    output: Path,
    fitted: FittedActivityModel,
    description: Description,
    test_people: Sequence[tuple[DataFile, list[Recording]]],
) -> Trained:
    """Save the bundle beside its place, score it as it will be served, and save it in its place with its scores.

    A worker that serves the folder would take up both.
    """
    network, validating = fitted.network, fitted.data.task.validation
    ranges = activation_ranges(network, validating.inputs, description.architecture.checked().quantised)
    description = description.model_copy(
        update={"temperature": round(fitted.temperature, 4), "activation_ranges": ranges}
    )
    golden = golden_frames()
    if description.tells_strangers:
        golden = np.concatenate([golden, half_familiar(network, description, golden)])
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as beside:
        untested = save_bundle(Path(beside) / output.name, network, description, golden)
        tests = [evaluate(untested, file, held_out) for file, held_out in test_people]
    bundle = save_bundle(output, network, with_metrics(description, fitted.validation, tests), golden)
    return Trained(bundle, tuple(dataclasses.replace(test, bundle_digest=bundle.digest) for test in tests))


def _compare(
    start: Bundle | None, bundle: Bundle, test_people: Sequence[tuple[DataFile, list[Recording]]]
) -> _StartComparison:
    if start is None:
        return _StartComparison()
    if incomparable := why_incomparable(start, bundle):
        return _StartComparison(incomparable=incomparable)
    return _StartComparison(tuple(compare(start, bundle, file, held_out) for file, held_out in test_people))


# --- the report ----------------------------------------------------------------------------------


def _report(
    job: _Job, fitted: FittedActivityModel, trained: Trained, against_start: _StartComparison, seconds: float
) -> TrainingReport:
    plan = job.plan
    article = plan.recipe.name == "article" and plan.labels == DEFAULT_LABELS
    return TrainingReport(
        title=f"recipe `{plan.recipe.name}`",
        parts=_parts_section(job.split),
        warnings=job.warnings,
        command=trained.bundle.manifest.training.command,
        seed=plan.seed,
        seconds=seconds,
        threads=torch.get_num_threads(),
        settings=dataclasses.asdict(job.settings),
        data=[
            {"name": file.name, "sha256": file.sha256, "rows": file.readings, "rows_left_out": dict(file.dropped)}
            for file in job.files
        ],
        examples={
            "training, an epoch": len(job.data.task.train),
            "validation": len(job.data.task.validation),
        },
        temperature=fitted.temperature,
        history=tuple(fitted.history),
        validation=fitted.validation,
        tests=trained.tests,
        details={
            "recipe": plan.recipe.name,
            "article": article_json() if article else None,
            "familiarity_shift": fitted.familiarity_shift,
        },
        sections=[
            *map(comparison_section, against_start.comparisons),
            *(
                [f"## Nothing to compare\n\n{plain(against_start.incomparable)}.\n"]
                if against_start.incomparable
                else []
            ),
            *(article_section(test) for test in trained.tests if article),
        ],
    )


def _parts_section(split: RecordingSplit) -> str:
    """Return as Markdown who trains, validates and tests, with the minutes of each label."""
    tested = [recording for _, some in split.test for recording in some]
    parts = {"training": split.train, "validation": split.validation, "test": tested}
    rows = []
    for part, recordings in parts.items():
        people = sorted({recording.person for recording in recordings}, key=natural_order)
        _, minutes = minutes_of(recordings, split.labels)
        rows.append((part, some_of(people), *(f"{minutes[name]:.1f}" for name in split.labels.names)))
    lines = markdown_table(("part", "people", *(f"{name}, min" for name in split.labels.names)), rows, left=(0, 1))
    return "\n".join(["## People\n", *lines]) + "\n"


def _show(console: Console, trained: Trained, against_start: _StartComparison) -> None:
    for test in trained.tests:
        console.print(table(test))
    for comparison in against_start.comparisons:
        console.print(comparison_table(comparison))
    for test in trained.tests:
        line = f"Test people of {test.file}, who neither trained nor validated: {some_of(test.people)}"
        console.print(line, soft_wrap=True, markup=False)
    if against_start.incomparable:
        console.print(against_start.incomparable, soft_wrap=True, markup=False)


# --- the bundle ----------------------------------------------------------------------------------


def _describe(name: str, version: str, job: _Job) -> Description:
    """Return the manifest's description, as far as it is known before the fit; raises `FitError`."""
    split, data = job.split, job.data
    training = Training(
        data=_data_sources(job),
        command=_command(job),
        seed=job.settings.seed,
        date=datetime.datetime.now(datetime.UTC).date(),
    )
    return checked_description(
        lambda: Description(
            name=name,
            version=version,
            architecture=ArchitectureChoice(name=ARCHITECTURE, arguments=architecture_arguments(split.labels.names)),
            input=Input(shape=(WINDOW_SLOTS, 3)),
            labels=split.labels.names,
            normalisation=Normalisation(
                mean=tuple(float(str(value)) for value in data.mean),
                std=tuple(float(str(value)) for value in data.std),
            ),
            tells_strangers=data.task.has_ood,
            transitions=transitions(split.train, split.labels),
            population=population(_without_kept_windows(split.train, job.files), split.labels),
            training=training,
        ),
        name,
        version,
    )


def _command(job: _Job) -> str:
    """Return the command line that makes the bundle again, with files by name only."""
    plan, settings = job.plan, job.settings
    command = ["stridecast", "train", "activity", "--data", *(file.name for file in job.files)]
    command += ["--recipe", plan.recipe.name, "--epochs", str(settings.epochs), "--seed", str(settings.seed)]
    command += ["--precision", settings.precision]
    if plan.labels != default_labels(plan.start):
        command += ["--labels", *plan.labels.names]
    if plan.start is not None:
        command += ["--start", plan.start.manifest.name]
    return shlex.join(command)


def _data_sources(job: _Job) -> tuple[DataSet, ...]:
    start = job.plan.start
    files = [DataSet(name=file.name, sha256=file.sha256) for file in job.files]
    return (*files, *([DataSet(name=f"{STARTED_FROM}{start.title}", sha256=start.digest)] if start else []))


def _without_kept_windows(recordings: Sequence[Recording], files: Sequence[DataFile]) -> list[Recording]:
    """Drop the windows that a worker kept, unless there is nothing else: they are unusual ones only."""
    kept = {file.dataset for file in files if file.kind == "kept"}
    return [recording for recording in recordings if recording.dataset not in kept] or list(recordings)
