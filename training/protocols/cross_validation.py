"""Cross-validation of text models, fold by fold.

    folds/<model>-<fold>.json    one fold's result, and the run that it belongs to
    metrics.json, report.md      all folds that are there, and the comparison fold by fold

A fold is a function of the seed, its number and the settings alone. It can be run again by itself, and processes that
write to the same folder can share the folds.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from training.bundles import new_folders
from training.fitting.fit_settings import FitError
from training.fitting.history import best_epoch
from training.fitting.scores import score
from training.protocols.folds import FoldResult, kept_fold, save_fold, stratified_folds, summary, tables
from training.reports.report_json import write_json
from training.text_model.baselines import BASELINES, SETTINGS, Baseline, fit_baseline
from training.text_model.fit_text import (
    Split,
    TextTrainingData,
    describe,
    fit_text,
    identity_of,
    score_on,
    split_off,
)
from training.text_model.text_recipes import TextRecipe
from training.text_model.text_warnings import warnings_of_texts
from training.wording.markdown import code, plain
from training.wording.warnings import show_warnings, warnings_section

Results = dict[str, list[FoldResult]]


def cross_validate(
    data: TextTrainingData,
    recipes: Sequence[TextRecipe],
    report: Path,
    *,
    folds: int,
    only: Sequence[int] = (),
    command: str,
    seed: int = 0,
    baselines: bool = False,
    resume: bool = False,
    console: Console | None = None,
) -> Results:
    """For each fold and recipe, fit on all other folds and score that one; write the table to `report`.

    All recipes, and the `baselines`, use the same folds. `only` names the folds to run, from 0; the table shows all
    that are in the folder. `resume` keeps those. Raises `DataError` or `FitError`.
    """
    corpus = data.corpus
    with new_folders(report):
        if corpus.test is not None:
            raise FitError(f"{corpus.name} comes with its own test part: leave out --folds")
        if wrong := [number for number in only if not 0 <= number < folds]:
            raise FitError(f"there is no fold {wrong[0]}: the {folds} folds are 0 to {folds - 1}")
        show_warnings(warnings_of_texts(data), console)
        fold = stratified_folds(corpus.targets, folds, seed, data.alike)
    runs: dict[str, tuple[Callable[[int], FoldResult], dict[str, Any]]] = {}
    for recipe in recipes:
        identity = {**identity_of(data, recipe), "folds": folds, "seed": seed}
        runs[recipe.title] = (partial(_network_fold, data, recipe, fold, seed, console), identity)
    for baseline in BASELINES if baselines else ():
        identity = {"data": [file.sha256 for file in corpus.files], "settings": SETTINGS, "folds": folds, "seed": seed}
        identity |= {name: value for name, value in identity_of(data, recipes[0]).items() if name == "kept together"}
        runs[baseline] = (partial(_baseline_fold, data, baseline, fold), identity)
    for number in only or range(folds):
        for model, (run, identity) in runs.items():
            if resume and kept_fold(report, model, number, identity):
                continue
            if console is not None:
                console.rule(f"{model}, fold {number} of {folds}")
            result = run(number)
            save_fold(report, result, identity)
            if console is not None:
                console.print(f"{model}, fold {number}: accuracy {result.scores.accuracy:.4f}, {result.seconds:.0f} s")
    results = {
        model: [kept for number in range(folds) if (kept := kept_fold(report, model, number, identity))]
        for model, (_, identity) in runs.items()
    }
    _write(report, data, recipes, {model: found for model, found in results.items() if found}, folds, command)
    if console is not None:
        console.print(f"Report in {report}", soft_wrap=True, markup=False)
    return results


def _network_fold(
    data: TextTrainingData,
    recipe: TextRecipe,
    fold: np.ndarray,
    seed: int,
    console: Console | None,
    number: int,
) -> FoldResult:
    began = time.monotonic()
    others = np.flatnonzero(fold != number)
    validation, train = split_off(others, recipe.validation_share, np.random.default_rng((seed, number)), data.alike)
    test = np.flatnonzero(fold == number)
    # Variants share a fold's seed, so they differ in the variant only.
    settings = dataclasses.replace(recipe.fit, seed=fold_seed(seed, number))
    fitted = fit_text(data, Split(train, validation, test), recipe, settings, console=console)
    best = best_epoch(fitted.history, recipe.fit.best_by)
    assert best is not None  # a fit has an epoch
    return FoldResult(
        model=recipe.title,
        fold=number,
        scores=score_on(data, fitted, test, recipe),
        epochs=len(fitted.history),
        best_epoch=best.epoch,
        seconds=time.monotonic() - began,
    )


def fold_seed(seed: int, number: int) -> int:
    """Return the seed of all randomness in one fold."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _baseline_fold(data: TextTrainingData, baseline: Baseline, fold: np.ndarray, number: int) -> FoldResult:
    began = time.monotonic()
    corpus = data.corpus
    train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
    guesses = fit_baseline(
        baseline,
        [corpus.texts[i] for i in train],
        corpus.targets[train],
        [corpus.texts[i] for i in test],
        len(corpus.labels),
    )
    scores = score(corpus.labels, corpus.targets[test], guesses)
    return FoldResult(baseline, number, scores, epochs=0, best_epoch=0, seconds=time.monotonic() - began)


def _write(
    report: Path,
    data: TextTrainingData,
    recipes: Sequence[TextRecipe],
    results: Results,
    folds: int,
    command: str,
) -> None:
    corpus, vectors, warnings = data.corpus, data.vectors, warnings_of_texts(data)
    papers = corpus.name.startswith("SUBJ") and any(r.network.name == "text-cnn" for r in recipes)
    write_json(
        report / "metrics.json",
        {
            "command": command,
            "warnings": warnings,
            "threads": torch.get_num_threads(),
            "data": [dataclasses.asdict(file) for file in data.files],
            "texts": len(corpus),
            "recipes": {recipe.title: describe(recipe) for recipe in recipes},
            **summary(results),
        },
    )
    lines = [
        f"# {plain(corpus.name)}: {folds}-fold cross-validation\n",
        f"{code(command)}\n",
        *warnings_section(warnings),
    ]
    if papers:
        differ = f"{plain(vectors.name)}, {vectors.dimensions} dimensions" if vectors else "none"
        lines.append(
            f"The vectors differ from the paper's: here {differ}; there word2vec of 300 dimensions, trained on "
            "100 billion words of news. Its standard deviations are not published.\n"
        )
    lines.append(tables(results, folds, with_paper=papers))
    if any(model in BASELINES for model in results):
        lines.append(f"{SETTINGS}\n")
    (report / "report.md").write_text("\n".join(lines), encoding="utf-8")
