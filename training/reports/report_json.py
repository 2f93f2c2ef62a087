"""Metrics as JSON, for reports."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from training.activity_model.recipes import ARTICLE_ACCURACY, ARTICLE_FIGURES, ARTICLE_LOSS
from training.evaluation.evaluate import Evaluation
from training.evaluation.familiarity import Separation, roc_auc, share_below_threshold
from training.fitting.scores import Scores


def scores_json(scores: Scores, unit: str = "windows") -> dict[str, Any]:
    """Return all metrics of `scores`."""
    return {
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        "loss": scores.loss,
        "calibration_error": scores.calibration_error,
        unit: int(scores.support.sum()),
        "labels": list(scores.labels),
        "precision": scores.precision.tolist(),
        "recall": scores.recall.tolist(),
        "f1": scores.f1.tolist(),
        "support": scores.support.tolist(),
        "confusion": scores.confusion.tolist(),
    }


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return all metrics of `evaluation`, with the bundle and the data."""
    return {
        "bundle": evaluation.bundle,
        "bundle_digest": evaluation.bundle_digest,
        "dataset": evaluation.dataset,
        "file": evaluation.file,
        "sha256": evaluation.sha256,
        **(_people_figures(evaluation) if evaluation.people else {}),
        **scores_json(evaluation.scores, evaluation.unit),
        **({} if evaluation.familiarity is None else {"familiarity": separation_json(evaluation.familiarity)}),
        **({} if evaluation.smoothing is None else {"smoothed": dataclasses.asdict(evaluation.smoothing)}),
        **({} if evaluation.spanning is None else {"spanning": dataclasses.asdict(evaluation.spanning)}),
    }


def separation_json(separation: Separation) -> dict[str, Any]:
    """Return how well familiarity separates known windows from each kind of OOD samples."""
    known = separation.known
    return {
        "windows": len(known),
        "below_half": share_below_threshold(known),
        "strangers": [
            {
                "name": some.name,
                "origin": some.origin,
                "windows": len(some.familiarity),
                "area_under_curve": roc_auc(known, some.familiarity),
                "below_half": share_below_threshold(some.familiarity),
            }
            for some in separation.ood
        ],
    }


def _people_figures(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "people": list(evaluation.people),
        "windows_of_two_activities_left_out": evaluation.mixed,
        "windows_of_other_activities_left_out": evaluation.other,
    }


def article_json() -> dict[str, Any]:
    """Return the article's published test metrics."""
    return {"accuracy": ARTICLE_ACCURACY, "loss": ARTICLE_LOSS, **{k: list(v) for k, v in ARTICLE_FIGURES.items()}}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content`, whose numbers must be finite."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
