"""Scores of a bundle on data files, cut by the service's own windowing and answered by the served module."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from inference.bundle import Bundle, infer_plainly, load_bundle, served_module
from training.datasets import ACTIVITIES, DataFile, Recording, read_files
from training.files import DataError
from training.frames import LabelledFrames, served_frames
from training.scores import Scores, score

FRAMES_A_BATCH = 256


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a bundle scored on one data set."""

    bundle: str
    bundle_digest: str
    dataset: str
    file: str
    sha256: str
    people: tuple[str, ...]
    scores: Scores
    mixed: int  # windows left out: they span two activities
    other: int  # windows left out: none of the bundle's activities


def evaluate_bundle(
    bundle: Path,
    files: Sequence[Path],
    *,
    people: Collection[str] | None = None,
    console: Console | None = None,
) -> list[Evaluation]:
    """Score the bundle in the folder `bundle` on each data file, in order.

    `people` limits each data set to those of its people who are named. Raises `BundleError` or `DataError`.
    """
    loaded = load_bundle(bundle)
    evaluations = [
        evaluate(loaded, file, [r for r in file.recordings if people is None or r.person in people])
        for file in read_files(files, console)
    ]
    if console is not None:
        for evaluation in evaluations:
            console.print(table(evaluation))
    return evaluations


def evaluate(bundle: Bundle, file: DataFile, recordings: Sequence[Recording]) -> Evaluation:
    """Score `bundle` on some recordings of `file`; raises `DataError` where they hold no complete window."""
    if bundle.manifest.labels != ACTIVITIES:
        raise DataError(f"{bundle.title} does not tell {', '.join(ACTIVITIES)}: it has no place on {file.name}")
    frames = served_frames(recordings)
    if not len(frames):
        raise DataError(
            f"{file.name} holds no complete window of the people asked for (it has "
            f"{', '.join(sorted({r.person for r in file.recordings}))})"
        )
    return Evaluation(
        bundle=bundle.title,
        bundle_digest=bundle.digest,
        dataset=file.dataset,
        file=file.name,
        sha256=file.sha256,
        people=tuple(sorted({r.person for r in recordings}, key=_by_number)),
        scores=score(ACTIVITIES, frames.activity, answers(bundle, frames)),
        mixed=frames.mixed,
        other=frames.other,
    )


def answers(bundle: Bundle, frames: LabelledFrames) -> np.ndarray:
    """Probabilities float32[m, k], by the module that is served, in float32."""
    module = served_module(bundle)
    batches = range(0, len(frames), FRAMES_A_BATCH)
    return np.concatenate([infer_plainly(module, frames.values[i : i + FRAMES_A_BATCH]) for i in batches])


def table(evaluation: Evaluation) -> Table:
    """The figures of one evaluation, class by class."""
    scores = evaluation.scores
    drawn = Table(
        title=f"{evaluation.bundle} on {evaluation.dataset}, {len(evaluation.people)} people",
        caption=f"accuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f}, loss {scores.loss:.3f}",
    )
    drawn.add_column("activity")
    for column in ("precision", "recall", "F1", "windows"):
        drawn.add_column(column, justify="right")
    for row in class_rows(scores):
        drawn.add_row(*row)
    return drawn


def class_rows(scores: Scores) -> list[tuple[str, str, str, str, str]]:
    """Each class with its precision, recall, F1 and windows, as text; a class that does not occur has none."""
    columns = zip(scores.labels, scores.precision, scores.recall, scores.f1, scores.support.tolist(), strict=True)
    return [
        (label, f"{p:.3f}", f"{r:.3f}", f"{f:.3f}", f"{n:,}") if n else (label, "-", "-", "-", "0")
        for label, p, r, f, n in columns
    ]


def _by_number(person: str) -> tuple[int, str]:
    return (int(person) if person.isdecimal() else 0, person)
