"""A report's plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from training.evaluation.familiarity import Separation, roc_auc, roc_curve
from training.fitting.fit_settings import FitError
from training.fitting.history import Epoch
from training.fitting.scores import Scores

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError as error:
    raise FitError(
        "reports are drawn with matplotlib, which is not installed: pip install '.[train]' in the checkout"
    ) from error


def draw_confusion(path: Path, scores: Scores, title: str) -> None:
    """Draw the confusion matrix: rows are true labels, shades are shares of a row, numbers are counts."""
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
    """Draw the reliability diagram: accuracy by confidence, with the number of answers as bars."""
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
    """Draw the receiver operating characteristic of each kind of OOD samples; the upper left is best."""
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    styles = {"recorded": "-", "made up, never taught": "--", "made up, as taught": ":"}
    for some in separation.ood:
        area = roc_auc(separation.known, some.familiarity)
        mistaken, found = roc_curve(separation.known, some.familiarity).T
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
    """Draw one line of points for each name, with values in [0, 1] and a mark at their mean."""
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


def draw_curves(path: Path, history: Sequence[Epoch]) -> None:
    """Draw loss, accuracy and macro F1, epoch by epoch."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    marker = "o" if len(history) == 1 else ""  # a line of one point is invisible
    loss.plot(epochs, [epoch.train_loss for epoch in history], marker=marker, label="training")
    loss.plot(epochs, [epoch.validation_loss for epoch in history], marker=marker, label="validation")
    loss.set(title="loss", xlabel="epoch")
    accuracy.plot(epochs, [epoch.train_accuracy for epoch in history], marker=marker, label="training accuracy")
    accuracy.plot(epochs, [epoch.validation_accuracy for epoch in history], marker=marker, label="validation accuracy")
    macro_f1 = [epoch.validation_macro_f1 for epoch in history]
    accuracy.plot(epochs, macro_f1, "--", marker=marker, label="validation macro F1")  # it may cover the accuracy
    accuracy.set(title="accuracy and macro F1", xlabel="epoch")
    for axes in (loss, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
