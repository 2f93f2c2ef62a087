"""The report of the protocol `minutes`: how accuracy grows with the minutes of labelled recordings.

minutes.json, minutes.md     each data set's points of the curve; minutes of each activity
minutes.png                  the curves, with the bundle's own score as a line
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.data.minutes import minutes_of
from training.protocols.folds import FoldResult, spread
from training.protocols.rounds import Round
from training.reports.report_json import write_json
from training.wording.markdown import plain, table
from training.wording.warnings import warnings_section

MEANING = (
    "Each data set by itself: its test people are always the same, and {start} went on learning from some of the "
    "others, more and more, in seeded orders; of these, too, some validate. With all of them, orders differ in the "
    "seed alone. Minutes are of recordings: a moment that two phones measured counts twice. "
    '"Fewest" is the activity with the fewest among those that the test people show.'
)


@dataclass(frozen=True, slots=True)
class Point:
    """The scores with a number of labelled people, in one or more orders; with no people, of the bundle itself.

    Minutes are means over the orders: of all activities, and of each.
    """

    people: int
    minutes: float
    of_each: Mapping[str, float]
    accuracy: tuple[float, ...]
    macro_f1: tuple[float, ...]
    tested: tuple[str, ...]  # the activities of the test people

    @property
    def fewest(self) -> str:
        """The activity with the fewest minutes, among those that the test people show."""
        return min(self.tested, key=lambda name: self.of_each[name])


def points(planned: Sequence[Round], results: Sequence[FoldResult]) -> list[Point]:
    """Return the points of one data set's curve, the bundle itself first, from the rounds that have a result."""
    natural_order = {result.fold: result for result in results}
    grouped: dict[int, list[tuple[Round, FoldResult]]] = {}
    for each in planned:
        if each.number in natural_order:
            grouped.setdefault(len(each.labelled_people), []).append((each, natural_order[each.number]))
    return [_point(people, grouped[people]) for people in sorted(grouped)]


def _point(people: int, some: Sequence[tuple[Round, FoldResult]]) -> Point:
    found = [minutes_of([*each.split.train, *each.split.validation], each.split.labels) for each, _ in some]
    scores = [result.scores for _, result in some]
    return Point(
        people,
        float(np.mean([total for total, _ in found])),
        {name: float(np.mean([of_each[name] for _, of_each in found])) for name in scores[0].labels},
        tuple(one.accuracy for one in scores),
        tuple(one.macro_f1 for one in scores),
        tuple(name for name, count in zip(scores[0].labels, scores[0].support, strict=True) if count),
    )


def write_minutes(
    report: Path,
    start: str,
    planned: Sequence[Round],
    results: Mapping[str, Sequence[FoldResult]],
    identity: Mapping[str, Any],
    warnings: Sequence[str],
) -> None:
    """Write the metrics, tables and plot of all rounds that have a result; `start` is the bundle's title."""
    curves = {
        name: points([each for each in planned if each.split.test[0][0].dataset == name], found)
        for name, found in results.items()
    }
    windows = {name: int(found[0].scores.support.sum()) for name, found in results.items()}
    write_json(
        report / "minutes.json",
        {
            **identity,
            "warnings": warnings,
            "results": {
                name: {
                    "windows": windows[name],
                    "seconds": round(sum(one.seconds for one in results[name]), 1),
                    "points": [
                        {
                            "people": point.people,
                            "minutes": point.minutes,
                            "minutes_of_each": point.of_each,
                            "accuracy": point.accuracy,
                            "macro_f1": point.macro_f1,
                        }
                        for point in curve
                    ],
                }
                for name, curve in curves.items()
            },
        },
    )
    lines = [f"# What labelling buys {start}\n", f"{MEANING.format(start=start)}\n", *warnings_section(warnings)]
    for name, curve in curves.items():
        lines += _section(name, windows[name], curve)
    (report / "minutes.md").write_text("\n".join(lines), encoding="utf-8")
    draw_minutes(report / "minutes.png", start, curves)


def _section(name: str, windows: int, curve: Sequence[Point]) -> Iterator[str]:
    yield f"## {plain(name)}: {windows:,} windows of test people\n"
    yield from table(
        ("people", "minutes", "fewest", "orders", "accuracy", "macro F1"),
        [
            (
                str(point.people),
                f"{point.minutes:.1f}",
                f"{point.of_each[point.fewest]:.1f} of {point.fewest}" if point.people else "",
                str(len(point.accuracy)),
                spread(point.accuracy),
                spread(point.macro_f1),
            )
            for point in curve
        ],
        left=(2,),
    )
    shown = [label for label in curve[-1].of_each if any(point.of_each[label] for point in curve)]
    yield ""
    yield from table(
        ("people", *(f"minutes of {label}" for label in shown)),
        [(str(point.people), *(f"{point.of_each[label]:.1f}" for label in shown)) for point in curve if point.people],
        left=(),
    )
    yield ""


def draw_minutes(path: Path, start: str, curves: Mapping[str, Sequence[Point]]) -> None:
    """Plot accuracy and macro F1 over minutes: means as lines, orders as dots, the bundle's own score dashed."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("accuracy", "macro F1"), strict=True):
        for number, (name, curve) in enumerate(curves.items()):
            _draw(axes, f"C{number % 10}", name, curve, what)
        axes.set(title=what, xlabel="minutes of labelled recordings")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    axes.plot([], [], "--", color="grey", label=f"{start} itself")
    for text in axes.legend(fontsize="small").get_texts():
        text.set_parse_math(False)
    figure.savefig(path, dpi=110)


def _draw(axes: Axes, colour: str, name: str, curve: Sequence[Point], what: str) -> None:
    def scores(point: Point) -> tuple[float, ...]:
        return point.accuracy if what == "accuracy" else point.macro_f1

    fitted = [point for point in curve if point.people]
    axes.plot([p.minutes for p in fitted], [np.mean(scores(p)) for p in fitted], "-", color=colour, label=name)
    for point in fitted:
        axes.plot([point.minutes] * len(scores(point)), scores(point), "o", color=colour, markersize=3, alpha=0.5)
    for point in curve:
        if not point.people:
            axes.axhline(scores(point)[0], color=colour, linestyle="--", linewidth=1)
