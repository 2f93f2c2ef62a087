"""How well a recipe does on people, and on data sets, that it never saw: many fits, one table.

    data-sets    train on all data sets but one, and score that one: what somebody with other phones would see
    people       five folds by person inside each data set
    seeds        the recipe's own split, five times from other weights and draws

A round is a function of the files, the recipe, the seed and its name alone: it can be run again by itself, and rounds
can be shared out between processes that write to the same folder. Nothing is chosen by scores.

    folds/<what was scored>-<number>.json    what one round gave, and of which run it is
    metrics.json, report.md, scores.png      all rounds that are there
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from training.bundles import make_room
from training.datasets import read_files
from training.files import DataError
from training.fit import FitSettings, Precision, best_epoch
from training.folds import FoldResult, kept_fold, save_fold
from training.learn_activity import People, identity_of, learn, material_of, split
from training.recipes import RECIPES, Recipe, RecipeName, public_part
from training.recordings import SIX, DataFile, Labels, by_number
from training.report import draw_ranges, write_json

Protocol = Literal["data-sets", "people", "seeds"]

FOLDS = 5
SEEDS = 5


@dataclass(frozen=True, slots=True)
class Round:
    """One fit: `number` tells rounds apart that score the same data set; `people.test` is what it scores."""

    name: str
    number: int
    people: People
    seed: int


def judge(
    data: Sequence[Path],
    report: Path,
    protocol: Protocol,
    *,
    recipe: RecipeName = "default",
    labels: Labels | None = None,
    epochs: int | None = None,
    seed: int = 0,
    precision: Precision = "float32",
    only: Sequence[str] = (),
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, list[FoldResult]]:
    """Run the protocol's rounds and write their table to `report`.

    `labels` are the six unless given. `only` names the data sets, as the table does, to run rounds for; the table shows
    all that are in the folder. `resume` keeps those. Returns the results by data set. Raises `DataError` or `FitError`.
    """
    make_room(report)
    files = read_files(data, console, labels or SIX)
    names = [file.dataset for file in files]
    if wrong := [name for name in only if name not in names]:
        raise DataError(f"there is no data set {wrong[0]!r} among {', '.join(names)}")
    chosen = RECIPES[recipe]
    settings = dataclasses.replace(
        chosen.fit, precision=precision, epochs=chosen.fit.epochs if epochs is None else epochs
    )
    who = {**identity_of(files, chosen), "protocol": protocol, "settings": repr(settings), "seed": str(seed)}
    for each in list(
        rounds(files, chosen, protocol, seed)
    ):  # all first: what can't be done is said before hours are spent
        scored = [file.dataset for file, _ in each.people.test]
        if only and not set(only) & set(scored):
            continue
        if resume and all(kept_fold(report, name, each.number, who) for name in scored):
            continue
        if console is not None:
            console.rule(each.name)
        for result in run_round(each, chosen, settings, console):
            save_fold(report, result, who)
            if console is not None:
                console.print(_line(result), soft_wrap=True)
    results = {
        name: [kept for number in range(max(FOLDS, SEEDS)) if (kept := kept_fold(report, name, number, who))]
        for name in names
    }
    found = {name: each for name, each in results.items() if each}
    _write(report, protocol, found, who)
    if console is not None:
        console.print(f"Report in {report}", soft_wrap=True)
    return found


# --- the rounds ----------------------------------------------------------------------------------


def rounds(files: Sequence[DataFile], recipe: Recipe, protocol: Protocol, seed: int) -> Iterator[Round]:
    """Yield the protocol's rounds, in order."""
    if protocol == "data-sets":
        yield from _without_each(files, recipe, seed)
    elif protocol == "people":
        for file in files:
            yield from _folds_by_person(file, recipe, seed)
    else:
        for number in range(SEEDS):
            people = split(files, recipe)
            tested = [(file, recordings) for file, recordings in people.test if recordings]
            if not tested:
                raise DataError("nobody tests: it takes three people, or WISDM's or MotionSense's by name")
            people = dataclasses.replace(people, test=tested)
            yield Round(f"seed {seed + number}", number, people, seed + number)


def _without_each(files: Sequence[DataFile], recipe: Recipe, seed: int) -> Iterator[Round]:
    """Learn from the training people of all others, and score everybody of the one left out."""
    ordinary = [file for file in files if file.kind != "kept"]
    if len(ordinary) < 2:
        raise DataError("leaving out a data set takes two at least, beside windows that a worker kept")
    for left_out in ordinary:
        others = split([_without(left_out, file) for file in files if file is not left_out], recipe)
        people = dataclasses.replace(others, test=[(left_out, list(left_out.recordings))])
        yield Round(f"without {left_out.dataset}", 0, people, seed)


def _without(left_out: DataFile, file: DataFile) -> DataFile:
    """Leave out those who are in two files by one name; the public sets' people only have the same numbers."""
    if public_part(file) is not None or public_part(left_out) is not None:
        return file
    return dataclasses.replace(file, recordings=tuple(r for r in file.recordings if r.person not in left_out.people))


def _folds_by_person(file: DataFile, recipe: Recipe, seed: int) -> Iterator[Round]:
    people = sorted(file.people, key=by_number)
    if len(people) < 3:
        raise DataError(f"{file.dataset} has {len(people)} people: folds by person take three at least")
    order = np.random.default_rng(seed).permutation(people).tolist()
    folds = min(FOLDS, len(order))
    for number in range(folds):
        tested = set(order[number::folds])
        # Somebody has to validate, for the learning curve; nothing is chosen by it.
        validating = set() if recipe.validation_share else {order[(number + 1) % folds]}
        yield Round(
            f"{file.dataset}, fold {number + 1} of {folds}",
            number,
            People(
                file.labels,
                train=[r for r in file.recordings if r.person not in tested | validating],
                validation=[r for r in file.recordings if r.person in validating],
                test=[(file, [r for r in file.recordings if r.person in tested])],
            ),
            seed,
        )


def run_round(
    each: Round, recipe: Recipe, settings: FitSettings, console: Console | None = None
) -> Iterator[FoldResult]:
    """Fit one network, and yield what it scores on each data set that it is to be tested on."""
    began = time.monotonic()
    settings = dataclasses.replace(settings, seed=each.seed)
    learned = learn(material_of(each.people, recipe, each.seed), settings, console=console)
    seconds = time.monotonic() - began
    best = best_epoch(learned.history, settings.best_by)
    for file, recordings in each.people.test:
        yield FoldResult(
            model=file.dataset,
            fold=each.number,
            scores=learned.scores_on(recordings),
            epochs=len(learned.history),
            best_epoch=best.epoch if best is not None and settings.patience else len(learned.history),
            seconds=seconds,
        )


# --- the report ----------------------------------------------------------------------------------


def _line(result: FoldResult) -> str:
    scores = result.scores
    return (
        f"{result.model}: accuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f} of {scores.support.sum():,} "
        f"windows, {result.seconds:.0f} s"
    )


_MEANING: Mapping[Protocol, str] = {
    "data-sets": "Each data set scored, whole, by a network that learned from the training people of all the others.",
    "people": "Each data set by itself: folds by person, nobody in two of them.",
    "seeds": "The recipe's test people, scored by networks that differ in nothing but the seed.",
}


def _write(
    report: Path, protocol: Protocol, results: Mapping[str, Sequence[FoldResult]], who: Mapping[str, Any]
) -> None:
    rows: dict[str, Any] = {
        name: {
            "rounds": len(each),
            # Seeds score the same windows each time.
            "windows": int(sum(one.scores.support.sum() for one in (each[:1] if protocol == "seeds" else each))),
            "accuracy": [one.scores.accuracy for one in each],
            "macro_f1": [one.scores.macro_f1 for one in each],
            "calibration_error": [one.scores.calibration_error for one in each],
            "seconds": round(sum(one.seconds for one in each), 1),
        }
        for name, each in results.items()
    }
    write_json(report / "metrics.json", {**who, "results": rows})
    lines = [f"# Protocol `{protocol}`, recipe `{who['recipe']}`\n", f"{_MEANING[protocol]}\n"]
    lines += ["| data set | rounds | windows | accuracy | macro F1 |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {name} | {row['rounds']} | {row['windows']:,} | {_spread(row['accuracy'])} | {_spread(row['macro_f1'])} |"
        for name, row in rows.items()
    ]
    (report / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw_ranges(report / "scores.png", {name: row["accuracy"] for name, row in rows.items()}, "accuracy")


def _spread(values: Sequence[float]) -> str:
    """The mean, and where there are several values their standard deviation."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
