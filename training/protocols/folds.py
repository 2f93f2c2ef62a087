"""Folds of a cross-validation: the assignment, the results as files, and the summary tables."""

import dataclasses
import itertools
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.fitting.fit_settings import FitError
from training.fitting.scores import Scores
from training.reports.report_json import write_json

# Kim (2014), table 2, on SUBJ with word2vec vectors of 300 dimensions.
PAPER = {"rand": 0.896, "static": 0.930, "non-static": 0.934, "multichannel": 0.932}


def stratified_folds(targets: np.ndarray, folds: int, seed: int, alike: np.ndarray | None = None) -> np.ndarray:
    """Return the fold int64[n] of each text: each class is spread evenly, at random. Raises `FitError`.

    `alike` int64[n] names the first text that is the same: it takes all the others into its fold.
    """
    alike = np.arange(len(targets)) if alike is None else alike
    is_first = alike == np.arange(len(targets))
    fewest = int(np.bincount(targets[is_first], minlength=targets.max() + 1).min())
    if not 2 <= folds <= fewest:
        different = "" if is_first.all() else "different "
        raise FitError(
            f"folds must be 2 to {fewest}, as many as the rarest label has {different}texts; they are {folds}"
        )
    rng = np.random.default_rng(seed)
    fold = np.empty(len(targets), np.int64)
    for label in range(targets.max() + 1):
        texts = rng.permutation(np.flatnonzero(is_first & (targets == label)))
        fold[texts] = (np.arange(len(texts)) + label) % folds
    return fold[alike]


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What one model scored on one fold after training on the others.

    `untempered` is the calibration error before temperature scaling, where a temperature was fitted.
    """

    model: str
    fold: int
    scores: Scores
    epochs: int
    best_epoch: int
    seconds: float
    untempered: float | None = None


def save_fold(folder: Path, result: FoldResult, identity: Mapping[str, Any]) -> None:
    """Save a fold's result in `folder`, with the identity of its run."""
    path = _path(folder, result.model, result.fold)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dataclasses.asdict(result) | {
        "scores": {
            "labels": list(result.scores.labels),
            "confusion": result.scores.confusion.tolist(),
            "loss": result.scores.loss,
            "reliability": result.scores.reliability.tolist(),
        },
        "accuracy": result.scores.accuracy,
        "macro_f1": result.scores.macro_f1,
        "identity": json.loads(json.dumps(identity)),
    }
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")  # other processes may write here too
    write_json(partial, content)
    os.replace(partial, path)


def kept_fold(folder: Path, model: str, fold: int, identity: Mapping[str, Any]) -> FoldResult | None:
    """Return the saved result of a fold; None where there is none, or one of another run."""
    kept = _read(_path(folder, model, fold))
    return kept[0] if kept is not None and kept[1] == json.loads(json.dumps(identity)) else None


def kept_folds(folder: Path) -> list[tuple[FoldResult, dict[str, Any]]]:
    """Return all results saved in `folder`, each with the identity of its run; the newest comes last."""
    paths = sorted((folder / "folds").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [kept for path in paths if (kept := _read(path)) is not None]


def _read(path: Path) -> tuple[FoldResult, dict[str, Any]] | None:
    """Return a result and its identity; None for a file that is missing or is no result."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        scores = content["scores"]
        result = FoldResult(
            model=content["model"],
            fold=content["fold"],
            scores=Scores(
                tuple(scores["labels"]),
                np.array(scores["confusion"], np.int64),
                scores["loss"],
                np.array(scores["reliability"], np.float64),
            ),
            epochs=content["epochs"],
            best_epoch=content["best_epoch"],
            seconds=content["seconds"],
            untempered=content.get("untempered"),
        )
        return result, dict(content["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(folder: Path, model: str, fold: int) -> Path:
    return folder / "folds" / f"{model}-{fold}.json"


# --- the table -----------------------------------------------------------------------------------

Results = Mapping[str, Sequence[FoldResult]]


def summary(results: Results) -> dict[str, Any]:
    """Return all metrics of a cross-validation, for JSON."""
    return {
        "models": {
            model: {
                "accuracy": [r.scores.accuracy for r in folds],
                "macro_f1": [r.scores.macro_f1 for r in folds],
                "folds": [r.fold for r in folds],
                "mean_accuracy": _mean([r.scores.accuracy for r in folds]),
                "standard_deviation": _deviation([r.scores.accuracy for r in folds]),
                "mean_macro_f1": _mean([r.scores.macro_f1 for r in folds]),
                "seconds": round(sum(r.seconds for r in folds), 1),
            }
            for model, folds in results.items()
        },
        "paired_differences": [
            {"better": a, "than": b, "folds": n, "mean": mean, "standard_error": error}
            for a, b, n, mean, error in paired_differences(results)
        ],
    }


def paired_differences(results: Results) -> list[tuple[str, str, int, float, float]]:
    """Return, for each pair of models, the mean difference in accuracy over their common folds, and its standard error.

    The better one is named first; the third value is the number of folds.
    """
    found = []
    for a, b in itertools.combinations(results, 2):
        ours = {r.fold: r.scores.accuracy for r in results[a]}
        theirs = {r.fold: r.scores.accuracy for r in results[b]}
        shared = sorted(ours.keys() & theirs.keys())
        if len(shared) < 2:
            continue
        differences = np.array([ours[fold] - theirs[fold] for fold in shared])
        first, second = (a, b) if differences.mean() >= 0 else (b, a)
        error = float(differences.std(ddof=1) / np.sqrt(len(shared)))
        found.append((first, second, len(shared), abs(float(differences.mean())), error))
    return found


def tables(results: Results, folds: int, *, with_paper: bool) -> str:
    """Return the results as Markdown: one line a model, each fold, and the paired differences."""
    heading = "| model | mean accuracy % | standard deviation | mean macro F1 % | folds | minutes |"
    rule = "|---|---:|---:|---:|---:|---:|"
    if with_paper:
        heading, rule = f"{heading} Kim (2014) % |", f"{rule}---:|"
    lines = [heading, rule]
    for model, each in results.items():
        accuracy = [r.scores.accuracy for r in each]
        cells = [
            model,
            f"{100 * _mean(accuracy):.2f}",
            f"{100 * _deviation(accuracy):.2f}",
            f"{100 * _mean([r.scores.macro_f1 for r in each]):.2f}",
            f"{len(each)} of {folds}",
            f"{sum(r.seconds for r in each) / 60:.1f}",
        ]
        if with_paper:
            cells.append(f"{100 * PAPER[model]:.1f}" if model in PAPER else "")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Accuracy % fold by fold:", "", f"| model | {' | '.join(map(str, range(folds)))} |"]
    lines.append(f"|---|{'---:|' * folds}")
    for model, each in results.items():
        by_fold = {r.fold: f"{100 * r.scores.accuracy:.2f}" for r in each}
        lines.append(f"| {model} | {' | '.join(by_fold.get(fold, '') for fold in range(folds))} |")
    differences = paired_differences(results)
    if differences:
        lines += ["", "Paired differences in accuracy over the same folds, in points of a per cent:", ""]
        lines += ["| better | than | mean | standard error | folds |", "|---|---|---:|---:|---:|"]
        lines += [f"| {a} | {b} | {100 * mean:.2f} | {100 * se:.2f} | {n} |" for a, b, n, mean, se in differences]
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float]) -> str:
    """Format the mean, with the standard deviation if there are several values."""
    return f"{_mean(values):.3f}" + (f" ± {_deviation(values):.3f}" if len(values) > 1 else "")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation; 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
