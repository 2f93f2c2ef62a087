"""Protocols: how well a recipe does on people and data sets that it never saw, by many fits in one table.

    data-sets    train on all data sets but one, and score that one: generalisation to other phones
    people       five folds by person inside each data set
    seeds        the recipe's own split, five times from other weights and draws
    minutes      fine-tune a bundle with more and more people: what labelling buys (`training.protocols.minutes_report`)

Each round is scored with a temperature fitted to its own validation people, as a bundle is. (With the recipe `article`,
these are windows of training people.) A round is a function of the files, the recipe, the seed and its name alone. It
can be run again by itself, and processes that write to the same folder can share the rounds by data set; but a round of
`seeds` scores all data sets. Nothing is chosen by scores, and each scoring is logged. The reports are in
`training.protocols.protocol_report` and, for `minutes`, `training.protocols.minutes_report`.
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from inference.bundle import Bundle
from training.activity_model.fit_activity import MIN_TEMPERATURE, fit_activity, identity_of, prepare_training_data
from training.bundles import new_folders
from training.data.datasets import warnings_of_files
from training.data.files import DataError
from training.data.recordings import DataFile
from training.evaluation.evaluate import evaluate
from training.fitting.calibration import probabilities_at
from training.fitting.fit_settings import FitError
from training.fitting.history import best_epoch
from training.fitting.scores import score
from training.plan import Plan, TrainingRequest
from training.protocols.folds import FoldResult, kept_fold, save_fold
from training.protocols.minutes_report import write_minutes
from training.protocols.protocol_report import log_scoring, rounds_folder, write_protocol_report
from training.protocols.rounds import ProtocolName, Round, rounds
from training.wording.warnings import show_warnings


def run_protocol(
    request: TrainingRequest,
    report: Path,
    protocol: ProtocolName,
    *,
    only: Sequence[str] = (),
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, list[FoldResult]]:
    """Run the protocol's rounds and write their table to `report`; return the results by data set.

    Only `minutes` continues from a bundle. `only` names the data sets, as the table does, to run rounds for; the table
    shows all results in the folder. `resume` keeps those. Raises `DataError`, `FitError` or `BundleError`.
    """
    if protocol == "minutes" and request.start is None:
        raise FitError("--protocol minutes goes on from a bundle: name it with --start, such as har-cnn")
    if protocol != "minutes" and request.start is not None:
        raise FitError(f"--protocol {protocol} fits new networks: leave out --start")
    plan = request.plan()
    with new_folders(report):
        files = plan.read(console)
        _check_names(only, files)
        identity = _identity(plan, files, protocol)
        known = [] if plan.start is None else _warnings_of_known_data(plan.start, files)
        show_warnings(known, console)
        warnings = warnings_of_files(files) + known
        planned = _planned(plan, files, protocol, only)
    kept = rounds_folder(report, protocol, plan.recipe.name)
    for each in planned:
        scored = _scored(each, only)
        if scored and not (resume and all(kept_fold(kept, name, each.number, identity) for name in scored)):
            _run_and_keep(each, plan, report, identity, console)
    found = _found(kept, planned, identity)
    if plan.start is not None:
        write_minutes(report, plan.start.title, planned, found, identity, warnings)
    else:
        write_protocol_report(report, identity, [file.dataset for file in files], warnings)
    if console is not None:
        console.print(f"Report in {report}", markup=False, soft_wrap=True)
    return found


def _check_names(only: Sequence[str], files: Sequence[DataFile]) -> None:
    names = [file.dataset for file in files]
    if wrong := [name for name in only if name not in names]:
        raise DataError(f"there is no data set {wrong[0]!r} among {', '.join(names)}")


def _identity(plan: Plan, files: Sequence[DataFile], protocol: ProtocolName) -> dict[str, str]:
    """Return what a round's result belongs to."""
    return {
        **identity_of(files, plan.recipe),
        "protocol": protocol,
        "settings": repr(plan.settings),
        "seed": str(plan.seed),
        "temperature": f"of people who validate, {MIN_TEMPERATURE} at least",
        **({"start": plan.start.digest} if plan.start else {}),
    }


def _warnings_of_known_data(start: Bundle, files: Sequence[DataFile]) -> list[str]:
    known = {data.sha256 for data in start.manifest.training.data}
    taught = ", ".join(file.name for file in files if file.sha256 in known)
    return [f"{start.title} has learned from people of {taught}: more of them buy it less"] if taught else []


def _planned(plan: Plan, files: Sequence[DataFile], protocol: ProtocolName, only: Sequence[str]) -> list[Round]:
    """Return all rounds, checked before the first is run: what can't be done must fail before hours are spent."""
    planned = list(rounds(files, plan.recipe, protocol, plan.seed))
    if plan.start is not None and plan.start.manifest.labels != plan.labels.names:
        planned = [each for each in planned if each.split.train]  # a bundle of other labels has no score of its own
    if not any(_scored(each, only) for each in planned):
        raise DataError(f"no round of `{protocol}` scores {', '.join(only) or 'anybody'}: nobody tests there")
    return planned


def _scored(each: Round, only: Sequence[str]) -> list[str]:
    """Return the data sets that a round scores; none if the round is not among those asked for."""
    scored = [file.dataset for file, _ in each.split.test]
    return scored if not only or set(only) & set(scored) else []


# --- one round -----------------------------------------------------------------------------------


def _run_and_keep(each: Round, plan: Plan, report: Path, identity: Mapping[str, str], console: Console | None) -> None:
    if console is not None:
        console.rule(escape(each.name))
    for result in _run(each, plan, console):
        log_scoring(report, identity, result)
        save_fold(rounds_folder(report, identity["protocol"], plan.recipe.name), result, identity)
        if console is not None:
            console.print(_summary_line(result), markup=False, soft_wrap=True)


def _run(each: Round, plan: Plan, console: Console | None) -> Iterator[FoldResult]:
    """Fit one network, or take the `start` bundle as it is, and yield its scores on each test data set."""
    began = time.monotonic()
    settings = dataclasses.replace(plan.settings, seed=each.seed)
    if not each.split.train and plan.start is not None:
        for file, recordings in each.split.test:
            scores = evaluate(plan.start, file, recordings).scores
            yield FoldResult(file.dataset, each.number, scores, 0, 0, time.monotonic() - began)
        return
    data = prepare_training_data(each.split, plan.recipe, each.seed, plan.start)
    fitted = fit_activity(data, settings, start=plan.start, console=console)
    seconds = time.monotonic() - began
    best = best_epoch(fitted.history, settings.best_by)
    for file, recordings in each.split.test:
        activity, logits = fitted.logits_on(recordings)
        yield FoldResult(
            model=file.dataset,
            fold=each.number,
            scores=score(file.labels.names, activity, probabilities_at(fitted.temperature, logits)),
            epochs=len(fitted.history),
            best_epoch=best.epoch if best is not None and settings.patience else len(fitted.history),
            seconds=seconds,
            untempered=score(file.labels.names, activity, probabilities_at(1.0, logits)).calibration_error,
        )


def _found(folder: Path, planned: Sequence[Round], identity: Mapping[str, Any]) -> dict[str, list[FoldResult]]:
    """Return the saved results of all rounds, by data set."""
    found: dict[str, list[FoldResult]] = {}
    for each in planned:
        for file, _ in each.split.test:
            if (kept := kept_fold(folder, file.dataset, each.number, identity)) is not None:
                found.setdefault(file.dataset, []).append(kept)
    return found


# --- the report ----------------------------------------------------------------------------------


def _summary_line(result: FoldResult) -> str:
    scores = result.scores
    return (
        f"{result.model}: accuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f} of {scores.support.sum():,} "
        f"windows, {result.seconds:.0f} s"
    )
