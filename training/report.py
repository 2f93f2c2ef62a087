"""Report folders: figures as JSON and Markdown, confusion matrices and learning curves as pictures.

metrics.json          every figure below, and how it came about
report.md             the same as tables
confusion-*.png       one for each data set scored
reliability-*.png     how often answers of each confidence are right, one for each data set scored
familiarity-*.png     how well familiarity tells strangers, one for each data set scored, of a bundle that tells it
learning-curves.png   of a training run
scorings.jsonl        one line for each time that a bundle was scored: how often the test people were looked at
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.calibration import UNFAMILIAR
from training.evaluate import Evaluation, class_rows
from training.familiarity import Separation, area_under_curve, curve, unfamiliar_share
from training.fit import Epoch, FitError
from training.markdown import code, plain, table
from training.recipes import ARTICLE_ACCURACY, ARTICLE_FIGURES, ARTICLE_LOSS
from training.scores import Scores
from training.spanning import Said
from training.steadiness import Steadiness

try:
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise FitError(
        "reports are drawn with matplotlib, which is not installed: pip install 'stridecast[train]'"
    ) from error


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training run has to tell."""

    title: str  # Markdown, in a line
    command: str
    seed: int
    seconds: float
    threads: int
    settings: dict[str, Any]
    data: list[dict[str, Any]]  # each file's name, digest and what was read from it
    examples: dict[str, int]  # how many, by part
    temperature: float
    history: tuple[Epoch, ...]
    validation: Scores
    tests: tuple[Evaluation, ...]
    unit: str = "windows"
    details: dict[str, Any] = field(default_factory=dict)  # further figures
    sections: list[str] = field(default_factory=list)  # further Markdown


def write_training_report(folder: Path, report: TrainingReport) -> None:
    """Write all of a training run's report into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "metrics.json",
        {
            **report.details,
            "command": report.command,
            "seed": report.seed,
            "seconds": round(report.seconds, 1),
            "fitting_seconds": round(sum(epoch.seconds for epoch in report.history), 1),
            "threads": report.threads,
            "settings": report.settings,
            "data": report.data,
            "examples": report.examples,
            "temperature": report.temperature,
            "validation": figures(report.validation, report.unit),
            "test": [evaluation_figures(test) for test in report.tests],
            "history": [dataclasses.asdict(epoch) for epoch in report.history],
        },
    )
    sections = [
        f"# Training report: {report.title}\n\n{code(report.command)}, {report.seconds:.0f} s on "
        f"{report.threads} threads; temperature {report.temperature:.3f}.\n",
        f"## Validation\n\n{markdown(report.validation, report.unit)}",
        *map(_evaluation_section, report.tests),
        *report.sections,
    ]
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    _draw_curves(folder / "learning-curves.png", report.history)
    draw_confusion(folder / "confusion-validation.png", report.validation, "validation")
    _evaluations(folder, report.tests)


def write_evaluations(folder: Path, evaluations: Sequence[Evaluation], sections: Sequence[str] = ()) -> None:
    """Write the report of an evaluation, outside of training, into `folder`; `sections` are further Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", {"test": [evaluation_figures(one) for one in evaluations]})
    (folder / "report.md").write_text(
        "\n".join(["# Evaluation\n", *map(_evaluation_section, evaluations), *sections]), encoding="utf-8"
    )
    _evaluations(folder, evaluations)


def _evaluations(folder: Path, evaluations: Sequence[Evaluation]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with (folder / "scorings.jsonl").open("a", encoding="utf-8") as log:
        for one in evaluations:
            log.write(json.dumps({"at": now, **evaluation_figures(one)}) + "\n")
    for one in evaluations:
        slug = re.sub(r"[^a-z0-9]+", "-", one.dataset.lower()).strip("-")
        draw_confusion(folder / f"confusion-{slug}.png", one.scores, one.dataset)
        draw_reliability(folder / f"reliability-{slug}.png", one.scores, one.dataset)
        if one.familiarity is not None:
            draw_separation(folder / f"familiarity-{slug}.png", one.familiarity, one.dataset)


# --- figures -------------------------------------------------------------------------------------


def figures(scores: Scores, unit: str = "windows") -> dict[str, Any]:
    """All figures of `scores`, as JSON has them."""
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


def evaluation_figures(evaluation: Evaluation) -> dict[str, Any]:
    """All figures of `evaluation`, with what was scored on what."""
    return {
        "bundle": evaluation.bundle,
        "bundle_digest": evaluation.bundle_digest,
        "dataset": evaluation.dataset,
        "file": evaluation.file,
        "sha256": evaluation.sha256,
        **(_people_figures(evaluation) if evaluation.people else {}),
        **figures(evaluation.scores, evaluation.unit),
        **({} if evaluation.familiarity is None else {"familiarity": separation_figures(evaluation.familiarity)}),
        **({} if evaluation.steadiness is None else {"smoothed": dataclasses.asdict(evaluation.steadiness)}),
        **({} if evaluation.spanning is None else {"spanning": dataclasses.asdict(evaluation.spanning)}),
    }


def separation_figures(separation: Separation) -> dict[str, Any]:
    """How well familiarity tells known windows from each kind of strangers, as JSON has it."""
    known = separation.known
    return {
        "windows": len(known),
        "below_half": unfamiliar_share(known),
        "strangers": [
            {
                "name": some.name,
                "origin": some.origin,
                "windows": len(some.familiarity),
                "area_under_curve": area_under_curve(known, some.familiarity),
                "below_half": unfamiliar_share(some.familiarity),
            }
            for some in separation.strangers
        ],
    }


def _people_figures(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "people": list(evaluation.people),
        "windows_of_two_activities_left_out": evaluation.mixed,
        "windows_of_other_activities_left_out": evaluation.other,
    }


def article_figures() -> dict[str, Any]:
    """What the article published of its test, as JSON has it."""
    return {"accuracy": ARTICLE_ACCURACY, "loss": ARTICLE_LOSS, **{k: list(v) for k, v in ARTICLE_FIGURES.items()}}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content`, which must be finite."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


# --- tables --------------------------------------------------------------------------------------


def markdown(scores: Scores, unit: str = "windows") -> str:
    """The figures of each class, and of all of them."""
    lines = list(table(("label", "precision", "recall", "F1", unit), class_rows(scores)))
    lines.append(
        f"\naccuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f}, loss {scores.loss:.3f}, expected "
        f"calibration error {scores.calibration_error:.3f}\n"
    )
    return "\n".join(lines)


def _evaluation_section(evaluation: Evaluation) -> str:
    if not evaluation.people:
        return f"## {plain(evaluation.dataset)}\n\n{markdown(evaluation.scores, evaluation.unit)}"
    people = ", ".join(map(plain, evaluation.people))
    return (
        f"## {plain(evaluation.dataset)}, people {people}\n\n{markdown(evaluation.scores)}\n"
        f"Left out: {evaluation.mixed} windows that span two activities, {evaluation.other} of other activities.\n"
        f"{'' if evaluation.familiarity is None else separation_section(evaluation.familiarity)}"
        f"{'' if evaluation.steadiness is None else steadiness_section(evaluation.steadiness)}"
        f"{'' if evaluation.spanning is None else spanning_section(evaluation.spanning)}"
    )


def steadiness_section(found: Steadiness) -> str:
    """What smoothing does, as Markdown; nothing where there was nothing to smooth."""
    if not found.windows or not found.pairs:
        return ""
    raw, smoothed = found.right / found.windows, found.smoothed_right / found.windows
    changes, fewer = found.changes / found.pairs, found.smoothed_changes / found.pairs
    return (
        f"\n### Smoothed labels\n\nOf the {found.windows:,} windows with three others of their activity before them: "
        "what smoothing costs where the activity changes, a label that comes late, is not among them, for windows that "
        "span a change are not scored.\n\n"
        "| | raw | smoothed |\n|---|---:|---:|\n"
        f"| accuracy | {raw:.3f} | {smoothed:.3f} |\n"
        f"| another label than the window before, of the same activity | {changes:.1%} | {fewer:.1%} |\n"
    )


def spanning_section(found: Said) -> str:
    """What is said of windows that span two activities, as Markdown."""
    return (
        f"\n### Windows that span two activities\n\nOf {found.windows:,} windows put together of two of a person's "
        f"activities {found}; expected calibration error {found.calibration_error:.3f}.\n"
    )


def separation_section(separation: Separation) -> str:
    """The figures of each kind of strangers, as Markdown."""
    known = separation.known
    lines = [
        f"\n### Familiarity\n\nBelow {UNFAMILIAR:g} in {unfamiliar_share(known):.1%} of the {len(known):,} windows "
        "above. Of strangers, with the area under the curve: how often one of those windows is more familiar than a "
        "stranger. Recorded ones are of everybody in the file: nobody's are ever learned from.\n",
    ]
    rows = [
        (
            some.name,
            some.origin,
            f"{len(some.familiarity):,}",
            f"{area_under_curve(known, some.familiarity):.3f}",
            f"{unfamiliar_share(some.familiarity):.1%}",
        )
        for some in separation.strangers
    ]
    columns = ("strangers", "origin", "windows", "area under curve", f"below {UNFAMILIAR:g}")
    lines += table(columns, rows, left=(0, 1))
    return "\n".join(lines) + "\n"


def beside_the_article(test: Evaluation) -> str:
    """A test's figures beside those that were published, as Markdown."""
    ours = test.scores
    lines = [
        f"## Beside the article: {plain(test.dataset)}\n",
        "The article's figures are of users 29 to 36 of the original file, windows cut straight over the "
        f"rows; ours are of {plain(test.dataset)}, windows as the service cuts them.\n",
        "| | article P | ours P | article R | ours R | article F1 | ours F1 | article n | ours n |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for i, label in enumerate(ours.labels):
        pairs = [
            f"{ARTICLE_FIGURES[name][i]:.2f} | {value[i]:.2f}"
            for name, value in (("precision", ours.precision), ("recall", ours.recall), ("f1", ours.f1))
        ]
        n = f"{ARTICLE_FIGURES['support'][i]:.0f} | {ours.support[i]}"
        lines.append(f"| {label} | {' | '.join(pairs)} | {n} |")
    lines.append(
        f"\naccuracy {ARTICLE_ACCURACY:.2f} | {ours.accuracy:.2f}, loss {ARTICLE_LOSS:.2f} | {ours.loss:.2f}\n"
    )
    return "\n".join(lines)


# --- pictures ------------------------------------------------------------------------------------


def draw_confusion(path: Path, scores: Scores, title: str) -> None:
    """Rows are the true labels; shades are shares of a row, numbers count windows or texts."""
    k = len(scores.labels)
    shares = scores.confusion / np.maximum(1, scores.support)[:, None]
    side = max(5.6, 0.5 * k)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(
        xlabel="predicted",
        ylabel="true",
        xticks=range(k),
        yticks=range(k),
    )
    axes.set_title(f"{title}: accuracy {scores.accuracy:.3f}", parse_math=False)
    axes.set_xticklabels(scores.labels, rotation=35, ha="right", parse_math=False)
    axes.set_yticklabels(scores.labels, parse_math=False)
    for row, column in np.ndindex(k, k):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(scores.confusion[row, column]), ha="center", va="center", color=colour)
    figure.savefig(path, dpi=110)


def draw_reliability(path: Path, scores: Scores, title: str) -> None:
    """How often answers of each confidence are right; bars show how many there are. On the line it is honest."""
    count, confidence, right = scores.reliability.T
    some = count > 0
    figure = Figure(figsize=(5.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    edges = np.arange(len(count)) / len(count)
    axes.bar(edges, count / max(1, count.sum()), width=1 / len(count), align="edge", color="lightgrey", label="answers")
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    axes.plot(confidence[some] / count[some], right[some] / count[some], "o-", label="right")
    axes.set(
        xlabel="confidence",
        ylabel="share",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.set_title(f"{title}: calibration error {scores.calibration_error:.3f}", parse_math=False)
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def draw_separation(path: Path, separation: Separation, title: str) -> None:
    """The receiver operating characteristic of each kind of strangers; towards the upper left it is better."""
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    styles = {"recorded": "-", "made up, never taught": "--", "made up, as taught": ":"}
    for some in separation.strangers:
        area = area_under_curve(separation.known, some.familiarity)
        mistaken, found = curve(separation.known, some.familiarity).T
        name = some.name.replace("$", r"\$")  # a file's own, and no formula
        axes.plot(mistaken, found, styles[some.origin], label=f"{name}, {some.origin}: {area:.3f}")
    axes.set(
        xlabel="share of known windows taken for strangers",
        ylabel="share of strangers found",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )
    axes.set_title(f"{title}: strangers told by their familiarity", parse_math=False)
    axes.legend(loc="lower right", fontsize="small", title="area under the curve")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def draw_ranges(path: Path, values: Mapping[str, Sequence[float]], what: str) -> None:
    """One line of points for each name, its values in [0, 1], with a mark at their mean."""
    figure = Figure(figsize=(7.0, 1.2 + 0.4 * len(values)), layout="constrained")
    axes = figure.add_subplot()
    for row, each in enumerate(values.values()):
        axes.plot(each, [row] * len(each), "o", color="tab:blue", alpha=0.5)
        axes.plot(np.mean(each), row, "|", color="black", markersize=16)
    axes.set(xlabel=what, xlim=(0, 1), yticks=range(len(values)))
    axes.set_yticklabels(values, parse_math=False)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def _draw_curves(path: Path, history: Sequence[Epoch]) -> None:
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    marker = "o" if len(history) == 1 else ""  # a line of one point is not seen
    loss.plot(epochs, [epoch.train_loss for epoch in history], marker=marker, label="training")
    loss.plot(epochs, [epoch.validation_loss for epoch in history], marker=marker, label="validation")
    loss.set(title="loss", xlabel="epoch")
    accuracy.plot(epochs, [epoch.train_accuracy for epoch in history], marker=marker, label="training accuracy")
    accuracy.plot(epochs, [epoch.validation_accuracy for epoch in history], marker=marker, label="validation accuracy")
    accuracy.plot(epochs, [epoch.validation_macro_f1 for epoch in history], marker=marker, label="validation macro F1")
    accuracy.set(title="accuracy and macro F1", xlabel="epoch")
    for axes in (loss, accuracy):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
