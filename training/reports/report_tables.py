"""A report's metrics as Markdown, mostly in tables."""

from training.activity_model.recipes import ARTICLE_ACCURACY, ARTICLE_FIGURES, ARTICLE_LOSS
from training.evaluation.evaluate import Evaluation, class_rows
from training.evaluation.familiarity import Separation, roc_auc, share_below_threshold
from training.evaluation.smoothing_scores import SmoothingScores
from training.evaluation.spanning import SpanningScores
from training.fitting.calibration import FAMILIARITY_THRESHOLD
from training.fitting.scores import Scores
from training.wording.markdown import plain, table


def markdown(scores: Scores, unit: str = "windows") -> str:
    """Return the metrics of each class, and of all of them."""
    lines = list(table(("label", "precision", "recall", "F1", unit), class_rows(scores)))
    lines.append(
        f"\naccuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f}, loss {scores.loss:.3f}, expected "
        f"calibration error {scores.calibration_error:.3f}\n"
    )
    return "\n".join(lines)


def evaluation_section(evaluation: Evaluation) -> str:
    """Return all metrics of an evaluation, under a heading."""
    if not evaluation.people:
        return f"## {plain(evaluation.dataset)}\n\n{markdown(evaluation.scores, evaluation.unit)}"
    people = ", ".join(map(plain, evaluation.people))
    return (
        f"## {plain(evaluation.dataset)}, people {people}\n\n{markdown(evaluation.scores)}\n"
        f"Left out: {evaluation.mixed} windows that span two activities, {evaluation.other} of other activities.\n"
        f"{'' if evaluation.familiarity is None else separation_section(evaluation.familiarity)}"
        f"{'' if evaluation.smoothing is None else smoothing_section(evaluation.smoothing)}"
        f"{'' if evaluation.spanning is None else spanning_section(evaluation.spanning)}"
    )


def smoothing_section(found: SmoothingScores) -> str:
    """Return the effect of smoothing as Markdown; empty if there was nothing to smooth."""
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


def spanning_section(found: SpanningScores) -> str:
    """Return the scores on windows that span two activities, as Markdown."""
    return (
        f"\n### Windows that span two activities\n\nOf {found.windows:,} windows put together of two of a person's "
        f"activities {found}; expected calibration error {found.calibration_error:.3f}.\n"
    )


def separation_section(separation: Separation) -> str:
    """Return the metrics of each kind of OOD samples, as Markdown."""
    known = separation.known
    lines = [
        f"\n### Familiarity\n\nBelow {FAMILIARITY_THRESHOLD:g} in {share_below_threshold(known):.1%} of the "
        f"{len(known):,} windows above. Of strangers, with the area under the curve: how often one of those windows is "
        "more familiar than a stranger. Recorded ones are of everybody in the file: nobody's are ever learned from.\n",
    ]
    rows = [
        (
            some.name,
            some.origin,
            f"{len(some.familiarity):,}",
            f"{roc_auc(known, some.familiarity):.3f}",
            f"{share_below_threshold(some.familiarity):.1%}",
        )
        for some in separation.ood
    ]
    columns = ("strangers", "origin", "windows", "area under curve", f"below {FAMILIARITY_THRESHOLD:g}")
    lines += table(columns, rows, left=(0, 1))
    return "\n".join(lines) + "\n"


def article_section(test: Evaluation) -> str:
    """Return a test's metrics beside the published ones, as Markdown."""
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
