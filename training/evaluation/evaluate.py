"""Scores of a bundle on recordings or texts, framed by the service's windowing and computed by the served module."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.markup import escape
from rich.table import Table

from inference.bundle import Bundle, load_bundle
from inference.devices.texts import optimise_text_layers
from inference.served_module import reference_answers, served_module
from training.data.files import DataError
from training.data.frames import LabelledFrames, served_frames
from training.data.recordings import DataFile, Labels, Recording, natural_order
from training.data.sampling import and_why_incomplete
from training.data.text_datasets import Corpus
from training.evaluation.familiarity import OodSamples, Separation, ood_kinds
from training.evaluation.smoothing_scores import SmoothingScores, score_smoothing
from training.evaluation.spanning import SpanningScores, make_spanning_windows, score_spanning
from training.fitting.scores import Scores, score
from training.wording.phrases import in_people
from windowing import WINDOW_SLOTS
from windowing.text import Framer, parse_rules

FRAMES_A_BATCH = 256


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A bundle's scores on one data set."""

    bundle: str
    bundle_digest: str
    dataset: str
    file: str
    sha256: str
    scores: Scores
    people: tuple[str, ...] = ()  # of recordings
    mixed: int = 0  # windows left out: they span two activities
    other: int = 0  # windows left out: none of the bundle's activities
    unit: Literal["windows", "texts"] = "windows"
    familiarity: Separation | None = None  # where the bundle tells strangers
    smoothing: SmoothingScores | None = None  # where the bundle tells transitions
    spanning: SpanningScores | None = None  # of recordings, where somebody shows two activities


def load_activity_bundle(folder: Path) -> Bundle:
    """Load a bundle to score recordings with; raises `BundleError`, or `DataError` for another kind of model."""
    bundle = load_bundle(folder)
    if bundle.vocabulary:
        raise DataError(
            f"{bundle.title} is a model of texts: name their data set with --dataset, such as --dataset csv"
        )
    if bundle.manifest.input.shape != (WINDOW_SLOTS, 3):
        raise DataError(
            f"{bundle.title} is no model of activities: it takes frames of {list(bundle.manifest.input.shape)}"
        )
    return bundle


def labels_of(bundle: Bundle) -> Labels:
    """Return the labels to read recordings with for this bundle; raises `DataError` for labels no file can hold."""
    try:
        return Labels(bundle.manifest.labels)
    except DataError as error:
        raise DataError(f"{bundle.title}: {error}") from None


def evaluate_bundle(
    bundle: Bundle,
    files: Sequence[DataFile],
    *,
    people: Collection[str] | None = None,
) -> list[Evaluation]:
    """Score an activity bundle on each data file, in order, limited to `people` if given. Raises `DataError`."""
    return [
        evaluate(bundle, file, [r for r in file.recordings if people is None or r.person in people]) for file in files
    ]


def evaluate(bundle: Bundle, file: DataFile, recordings: Sequence[Recording]) -> Evaluation:
    """Score `bundle` on some recordings of `file`, read by its labels; raises `DataError` without a complete window."""
    if bundle.manifest.labels != file.labels.names:
        raise DataError(f"{bundle.title} tells {', '.join(bundle.manifest.labels)}, but {file.name} was read by others")
    frames = served_frames(recordings)
    if not len(frames):
        raise DataError(
            f"{file.name} holds no complete window of the people asked for (it has "
            f"{', '.join(sorted({r.person for r in file.recordings}))}){and_why_incomplete(recordings)}"
        )
    probabilities, familiarity = answers_and_familiarity(bundle, frames.values)
    follow = bundle.manifest.transitions
    return Evaluation(
        bundle=bundle.title,
        bundle_digest=bundle.digest,
        dataset=file.dataset,
        file=file.name,
        sha256=file.sha256,
        scores=score(file.labels.names, frames.activity, probabilities),
        people=tuple(sorted({r.person for r in recordings}, key=natural_order)),
        mixed=frames.mixed,
        other=frames.other,
        familiarity=None if familiarity is None else _score_familiarity(bundle, frames.values, familiarity, file),
        smoothing=None if follow is None else score_smoothing(frames, probabilities, follow),
        spanning=_spanning(bundle, frames, recordings),
    )


def _spanning(bundle: Bundle, frames: LabelledFrames, recordings: Sequence[Recording]) -> SpanningScores | None:
    windows = make_spanning_windows(frames, recordings)
    if not len(windows.values):
        return None
    return score_spanning(windows, answers(bundle, windows.values), bundle.manifest.labels)


def _score_familiarity(bundle: Bundle, known: np.ndarray, familiarity: np.ndarray, file: DataFile) -> Separation:
    kinds = list(ood_kinds(known, file))
    _, found = answers_and_familiarity(bundle, np.concatenate([frames for _, _, frames in kinds]))
    assert found is not None, bundle.title
    each = np.split(found, np.cumsum([len(frames) for _, _, frames in kinds])[:-1])
    return Separation(
        familiarity,
        tuple(OodSamples(name, origin, some) for (name, origin, _), some in zip(kinds, each, strict=True)),
    )


def evaluate_corpus(bundle: Bundle, corpus: Corpus) -> Evaluation:
    """Score the bundle on a data set's test part, or on all texts if it has none.

    Raises `FramingError` or `DataError`.
    """
    return evaluate_texts(
        bundle, corpus, np.arange(len(corpus)) if corpus.test is None else np.flatnonzero(corpus.test)
    )


def warnings_of_corpus(bundle: Bundle, corpus: Corpus) -> list[str]:
    """Return what to say before the bundle's scores on a corpus are believed."""
    # Where a data set has its own test part, training has left that out.
    learned = {data.sha256 for data in bundle.manifest.training.data} if corpus.test is None else set()
    return [
        *corpus.warnings,
        *(
            f"{bundle.title} has learned from {file.name}: this says little of how it does on other texts"
            for file in corpus.files
            if file.sha256 in learned
        ),
    ]


def evaluate_texts(bundle: Bundle, corpus: Corpus, texts: np.ndarray) -> Evaluation:
    """Score `bundle` on `texts` int64[m] of `corpus`; raises `DataError` for no texts, or for other labels."""
    if set(corpus.labels) - set(bundle.manifest.labels):
        raise DataError(
            f"{bundle.title} tells {', '.join(bundle.manifest.labels[:10])}, {corpus.name} holds "
            f"{', '.join(corpus.labels[:10])}: score it on texts with its own labels"
        )
    if not len(texts):
        raise DataError(f"{corpus.name} holds no text to score on: give the file of its test part too")
    framer = Framer(parse_rules(bundle.manifest.framing), bundle.vocabulary)
    label = np.array([bundle.manifest.labels.index(name) for name in corpus.labels])
    frames = framer.frame([corpus.texts[i] for i in texts])
    return Evaluation(
        bundle=bundle.title,
        bundle_digest=bundle.digest,
        dataset=corpus.name,
        file=", ".join(file.name for file in corpus.files),
        sha256=", ".join(file.sha256 for file in corpus.files),
        scores=score(bundle.manifest.labels, label[corpus.targets[texts]], answers(bundle, frames)),
        unit="texts",
    )


def answers(bundle: Bundle, frames: np.ndarray) -> np.ndarray:
    """Return probabilities float32[m, k] of frames [m, ...], by the module that a CPU serves, in float32."""
    return answers_and_familiarity(bundle, frames)[0]


def answers_and_familiarity(bundle: Bundle, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the probabilities float32[m, k] and the familiarity float32[m], None if the bundle has none."""
    module = served_module(bundle)
    optimise_text_layers(module)
    batches = range(0, len(frames), FRAMES_A_BATCH)
    found = np.concatenate([reference_answers(module, frames[i : i + FRAMES_A_BATCH]) for i in batches])
    labels = len(bundle.manifest.labels)
    return found[:, :labels], found[:, labels] if bundle.manifest.tells_strangers else None


def table(evaluation: Evaluation) -> Table:
    """Return one evaluation's metrics, class by class, as a table for a terminal."""
    scores = evaluation.scores
    drawn = Table(
        title=escape(f"{evaluation.bundle} on {evaluation.dataset}, {_extent(evaluation)}"),
        caption=f"accuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f}, loss {scores.loss:.3f}, "
        f"calibration error {scores.calibration_error:.3f}",
    )
    drawn.add_column("label")
    for column in ("precision", "recall", "F1", evaluation.unit):
        drawn.add_column(column, justify="right")
    for row in class_rows(scores):
        drawn.add_row(*map(escape, row))
    return drawn


def _extent(evaluation: Evaluation) -> str:
    return in_people(len(evaluation.people)) if evaluation.people else f"{evaluation.scores.support.sum():,} texts"


def class_rows(scores: Scores) -> list[tuple[str, str, str, str, str]]:
    """Return each class with its precision, recall, F1 and support, as text; "-" for a class that does not occur."""
    columns = zip(scores.labels, scores.precision, scores.recall, scores.f1, scores.support.tolist(), strict=True)
    return [
        (label, f"{p:.3f}", f"{r:.3f}", f"{f:.3f}", f"{n:,}") if n else (label, "-", "-", "-", "0")
        for label, p, r, f, n in columns
    ]
