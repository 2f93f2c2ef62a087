"""How well a recipe does on people, and on data sets, that it never saw: many fits, one table.

    data-sets    train on all data sets but one, and score that one: what somebody with other phones would see
    people       five folds by person inside each data set
    seeds        the recipe's own split, five times from other weights and draws
    minutes      go on from a bundle with more and more people: how much labelling buys how much (`training.minutes`)

Each round is scored with the temperature of its own people who validate, as a bundle is. (Of the recipe `article` those
are windows of people who train.) A round is a function of the files, the recipe, the seed and its name alone: it can be
run again by itself, and rounds can be shared out, by data set, between processes that write to the same folder; but a
round of `seeds` scores all of them. Nothing is chosen by scores, and each is logged.
What is in the report: `training.protocol_report`, and for `minutes` `training.minutes`.
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from inference.bundle import Bundle
from training.bundles import make_room
from training.calibration import probabilities_at
from training.datasets import read_files
from training.evaluate import evaluate
from training.files import DataError
from training.fit import FitError, FitPrecision, FitSettings, best_epoch
from training.folds import FoldResult, kept_fold, save_fold
from training.learn_activity import (
    SURE_ENOUGH,
    fit_settings,
    identity_of,
    labels_to_learn,
    learn,
    material_of,
    startable,
)
from training.minutes import write_minutes
from training.protocol_report import note_scoring, rounds_folder, write_judged
from training.recipes import RECIPES, Recipe, RecipeName
from training.recordings import DataFile, Labels
from training.rounds import ProtocolName, Round, rounds
from training.scores import score


def judge(
    data: Sequence[Path],
    report: Path,
    protocol: ProtocolName,
    *,
    recipe: RecipeName = "default",
    labels: Labels | None = None,
    start: Path | None = None,
    epochs: int | None = None,
    seed: int = 0,
    precision: FitPrecision = "float32",
    only: Sequence[str] = (),
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, list[FoldResult]]:
    """Run the protocol's rounds and write their table to `report`.

    `labels` are the six unless given, or those of `start`, the folder of the bundle that `minutes` goes on from.
    `only` names the data sets, as the table does, to run rounds for; the table shows all that are in the folder.
    `resume` keeps those. Returns the results by data set. Raises `DataError`, `FitError` or `BundleError`.
    """
    if protocol == "minutes" and start is None:
        raise FitError("--protocol minutes goes on from a bundle: name it with --start, such as har-cnn")
    if protocol != "minutes" and start is not None:
        raise FitError(f"--protocol {protocol} fits new networks: leave out --start")
    chosen = RECIPES[recipe]
    begun = startable(start, chosen)
    make_room(report)
    files = read_files(data, console, labels or labels_to_learn(begun))
    names = [file.dataset for file in files]
    if wrong := [name for name in only if name not in names]:
        raise DataError(f"there is no data set {wrong[0]!r} among {', '.join(names)}")
    settings = fit_settings(chosen, begun, epochs, precision)
    who = {**identity_of(files, chosen), "protocol": protocol, "settings": repr(settings), "seed": str(seed)}
    who["temperature"] = f"of people who validate, {SURE_ENOUGH} at least"
    if begun is not None:
        who["start"] = begun.digest
        if console is not None and (taught := _taught(begun, files)):
            console.print(
                f"{begun.title} has learned from people of {taught}: more of them buy it less",
                markup=False,
                soft_wrap=True,
            )
    planned = _plan(files, chosen, protocol, seed, begun, only)
    kept = rounds_folder(report, protocol, recipe)
    for each in planned:
        scored = _scored(each, only)
        if not scored or (resume and all(kept_fold(kept, name, each.number, who) for name in scored)):
            continue
        if console is not None:
            console.rule(escape(each.name))
        for result in run_round(each, chosen, settings, begun, console):
            note_scoring(report, who, result)
            save_fold(kept, result, who)
            if console is not None:
                console.print(_line(result), markup=False, soft_wrap=True)
    found = _found(kept, planned, who)
    if protocol == "minutes" and begun is not None:
        write_minutes(report, begun.title, planned, found, who)
    else:
        write_judged(report, who, names)
    if console is not None:
        console.print(f"Report in {report}", markup=False, soft_wrap=True)
    return found


def _plan(
    files: Sequence[DataFile],
    recipe: Recipe,
    protocol: ProtocolName,
    seed: int,
    begun: Bundle | None,
    only: Sequence[str],
) -> list[Round]:
    """All rounds, before the first is run: what can't be done is said before hours are spent."""
    planned = list(rounds(files, recipe, protocol, seed))
    if begun is not None and begun.manifest.labels != files[0].labels.names:
        planned = [each for each in planned if each.people.train]  # a bundle of other labels has no score of its own
    if not any(_scored(each, only) for each in planned):
        raise DataError(f"no round of `{protocol}` scores {', '.join(only) or 'anybody'}: nobody tests there")
    return planned


def _scored(each: Round, only: Sequence[str]) -> list[str]:
    """The data sets that a round scores; none if it is none of those that are asked for."""
    scored = [file.dataset for file, _ in each.people.test]
    return scored if not only or set(only) & set(scored) else []


# --- one round -----------------------------------------------------------------------------------


def run_round(
    each: Round,
    recipe: Recipe,
    settings: FitSettings,
    start: Bundle | None = None,
    console: Console | None = None,
) -> Iterator[FoldResult]:
    """Fit one network, or take that of `start` as it is, and yield what it scores on each data set to be tested on."""
    began = time.monotonic()
    settings = dataclasses.replace(settings, seed=each.seed)
    if not each.people.train and start is not None:
        for file, recordings in each.people.test:
            scores = evaluate(start, file, recordings).scores
            yield FoldResult(file.dataset, each.number, scores, 0, 0, time.monotonic() - began)
        return
    learned = learn(material_of(each.people, recipe, each.seed, start), settings, start=start, console=console)
    seconds = time.monotonic() - began
    best = best_epoch(learned.history, settings.best_by)
    for file, recordings in each.people.test:
        activity, logits = learned.logits_on(recordings)
        yield FoldResult(
            model=file.dataset,
            fold=each.number,
            scores=score(file.labels.names, activity, probabilities_at(learned.temperature, logits)),
            epochs=len(learned.history),
            best_epoch=best.epoch if best is not None and settings.patience else len(learned.history),
            seconds=seconds,
            untempered=score(file.labels.names, activity, probabilities_at(1.0, logits)).calibration_error,
        )


def _taught(start: Bundle, files: Sequence[DataFile]) -> str:
    """The files that a bundle has learned from, as text."""
    learned = {data.sha256 for data in start.manifest.training.data}
    return ", ".join(file.name for file in files if file.sha256 in learned)


def _found(folder: Path, planned: Sequence[Round], who: Mapping[str, Any]) -> dict[str, list[FoldResult]]:
    """What is kept of all rounds, by data set."""
    found: dict[str, list[FoldResult]] = {}
    for each in planned:
        for file, _ in each.people.test:
            if (kept := kept_fold(folder, file.dataset, each.number, who)) is not None:
                found.setdefault(file.dataset, []).append(kept)
    return found


# --- the report ----------------------------------------------------------------------------------


def _line(result: FoldResult) -> str:
    scores = result.scores
    return (
        f"{result.model}: accuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f} of {scores.support.sum():,} "
        f"windows, {result.seconds:.0f} s"
    )
