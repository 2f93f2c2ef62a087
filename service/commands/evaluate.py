"""``stridecast evaluate``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from rich.console import Console

from inference.bundle import find_bundle
from service.configuration.settings import ActivitySettings, Command, TextSettings
from training.data.files import DataError
from training.data.text_datasets import Dataset, MessagePart

if TYPE_CHECKING:
    from training.evaluation.comparison import Comparison
    from training.evaluation.evaluate import Evaluation

OF_RECORDINGS, OF_TEXTS = ActivitySettings().bundle, TextSettings().bundle


class Options(Command):
    """Score a bundle on recordings, or with --dataset on texts, framed by the service's own windowing.

    Recordings are read as by `train activity`: CSV files with the columns person, activity, timestamp, x, y, z, and
    optionally placement and recording; WISDM's v1.1 raw file; MotionSense's DeviceMotion archive; and Parquet of
    windows that a worker kept, once their column activity has been filled in. Activities are matched to the bundle's
    own labels.

    Texts are CSV files with the columns text and label, or SUBJ, MR, TREC, 20 Newsgroups and IMDb as they were
    published; where a set has a test part, that is scored.
    """

    data: list[Path] = Field(min_length=1, description="files of recordings, or of texts")
    dataset: Dataset | None = Field(None, description="which data set of texts the files are")
    strip: list[MessagePart] = Field(default=[], description="parts to remove from the messages of 20news")
    bundle: str | None = Field(
        None,
        description=f"name of a shipped bundle, or a bundle's folder; {OF_RECORDINGS} without it, or {OF_TEXTS} with "
        "--dataset",
    )
    against: str | None = Field(
        None,
        description="another bundle of the same activities: is the first better, class by class, or is it noise?",
    )
    people: list[str] = Field(default=[], description="people to score on; all of them without it")
    report: Path | None = Field(None, description="folder for figures and pictures")


def run(options: Options) -> None:
    """Evaluate."""
    _refuse_ignored(options)
    # PyTorch takes seconds: a wrong flag is told without it.
    from training.evaluation.comparison import comparison_section, comparison_table
    from training.evaluation.evaluate import table

    console = Console()
    scored = (
        _of_recordings(options, console) if options.dataset is None else _of_texts(options, options.dataset, console)
    )
    for evaluation in scored.evaluations:
        console.print(table(evaluation))
    for comparison in scored.comparisons:
        console.print(comparison_table(comparison))
    if options.report is not None:
        from training.reports.report import write_evaluations  # matplotlib is an extra: needed for reports alone

        sections = list(map(comparison_section, scored.comparisons))
        write_evaluations(options.report, scored.evaluations, scored.warnings, sections)


@dataclass(frozen=True, slots=True)
class _Scored:
    evaluations: "list[Evaluation]"
    warnings: list[str]
    comparisons: "list[Comparison]" = field(default_factory=list)


def _of_recordings(options: Options, console: Console) -> _Scored:
    from training.data.datasets import read_files, warnings_of_files
    from training.evaluation.comparison import check_comparable, compare_bundles
    from training.evaluation.evaluate import evaluate_bundle, labels_of, load_activity_bundle
    from training.evaluation.learned_people import learned_people
    from training.wording.warnings import show_warnings

    people = options.people or None
    bundle = load_activity_bundle(find_bundle(options.bundle or OF_RECORDINGS))
    against = load_activity_bundle(find_bundle(options.against)) if options.against is not None else None
    if against is not None:
        check_comparable(against, bundle)
    files = read_files(options.data, console, labels_of(bundle))
    bundles = [bundle] if against is None else [bundle, against]
    learned = list(learned_people(bundles, files)) if people is None else []
    show_warnings(learned, console)
    return _Scored(
        evaluate_bundle(bundle, files, people=people),
        warnings_of_files(files) + learned,
        [] if against is None else compare_bundles(against, bundle, files, people=people),
    )


def _of_texts(options: Options, dataset: Dataset, console: Console) -> _Scored:
    from inference.bundle import load_bundle
    from training.data.text_datasets import read_corpus
    from training.evaluation.evaluate import evaluate_corpus, warnings_of_corpus
    from training.wording.warnings import show_warnings

    bundle = load_bundle(find_bundle(options.bundle or OF_TEXTS))
    corpus = read_corpus(dataset, options.data, strip=options.strip, console=console)
    warnings = warnings_of_corpus(bundle, corpus)
    show_warnings(warnings, console)
    return _Scored([evaluate_corpus(bundle, corpus)], warnings)


def _refuse_ignored(options: Options) -> None:
    if options.dataset is None and options.strip:
        raise DataError("--strip takes parts off texts: add --dataset 20news")
    if options.dataset is not None and options.against is not None:
        raise DataError("--against compares bundles of activities: leave out --dataset, or compare two runs' figures")
    if options.dataset is not None and options.people:
        raise DataError("--people chooses among people of recordings, and --dataset reads texts: leave out one of them")
