"""Report folders: metrics as JSON and Markdown, confusion matrices and learning curves as plots.

metrics.json          every metric below, with the command, the data and the settings
report.md             the same as tables
confusion-*.png       one for each data set scored
reliability-*.png     accuracy by confidence, one for each data set scored
familiarity-*.png     ROC of the familiarity, one for each data set scored, if the bundle has it
learning-curves.png   of a training run
scorings.jsonl        one line for each time that a bundle was scored: how often the test people were used

Pictures of an earlier report in the same folder that the new one does not have are removed.
"""

import contextlib
import dataclasses
import datetime
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.evaluation.evaluate import Evaluation
from training.fitting.history import Epoch
from training.fitting.scores import Scores
from training.reports.pictures import draw_confusion, draw_curves, draw_reliability, draw_separation
from training.reports.report_json import evaluation_json, scores_json, write_json
from training.reports.report_tables import evaluation_section, markdown
from training.wording.markdown import code
from training.wording.warnings import warnings_section

LOG = "scorings.jsonl"
KINDS = ("confusion", "reliability", "familiarity")
CURVES, CONFUSION_OF_VALIDATION = "learning-curves.png", "confusion-validation.png"


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """The content of a training run's report."""

    title: str  # Markdown, in a line
    warnings: Sequence[str]  # what to know before the scores are believed
    parts: str  # Markdown: what trained, validated and tested
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
    """Write a training run's report into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "metrics.json",
        {
            **report.details,
            "command": report.command,
            "warnings": report.warnings,
            "seed": report.seed,
            "seconds": round(report.seconds, 1),
            "fitting_seconds": round(sum(epoch.seconds for epoch in report.history), 1),
            "threads": report.threads,
            "settings": report.settings,
            "data": report.data,
            "examples": report.examples,
            "temperature": report.temperature,
            "validation": scores_json(report.validation, report.unit),
            "test": [evaluation_json(test) for test in report.tests],
            "history": [dataclasses.asdict(epoch) for epoch in report.history],
        },
    )
    sections = [
        f"# Training report: {report.title}\n\n{code(report.command)}, {report.seconds:.0f} s on "
        f"{report.threads} {'thread' if report.threads == 1 else 'threads'}; temperature {report.temperature:.3f}.\n",
        *warnings_section(report.warnings),
        report.parts,
        f"## Validation\n\n{markdown(report.validation, report.unit)}",
        *map(evaluation_section, report.tests),
        *report.sections,
    ]
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    _remove_pictures(folder)
    draw_curves(folder / CURVES, report.history)
    draw_confusion(folder / CONFUSION_OF_VALIDATION, report.validation, "validation")
    _evaluations(folder, report.tests)


def write_evaluations(
    folder: Path, evaluations: Sequence[Evaluation], warnings: Sequence[str] = (), sections: Sequence[str] = ()
) -> None:
    """Write the report of an evaluation outside of training into `folder`; `sections` are further Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", {"warnings": warnings, "test": [evaluation_json(one) for one in evaluations]})
    lines = ["# Evaluation\n", *warnings_section(warnings), *map(evaluation_section, evaluations), *sections]
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")
    _remove_pictures(folder)
    _evaluations(folder, evaluations)


def _remove_pictures(folder: Path) -> None:
    """Remove the pictures of earlier reports in this folder, as its log names them; other files are not touched."""
    try:
        log = (folder / LOG).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    pictures = {CURVES, CONFUSION_OF_VALIDATION}
    for line in log:
        try:
            slug = _slug(str(json.loads(line)["dataset"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        pictures |= {f"{kind}-{slug}.png" for kind in KINDS}
    for name in pictures:
        with contextlib.suppress(OSError):
            (folder / name).unlink()


def _slug(dataset: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", dataset.lower()).strip("-")


def _evaluations(folder: Path, evaluations: Sequence[Evaluation]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with (folder / LOG).open("a", encoding="utf-8") as log:
        for one in evaluations:
            log.write(json.dumps({"at": now, **evaluation_json(one)}) + "\n")
    for one in evaluations:
        slug = _slug(one.dataset)
        draw_confusion(folder / f"confusion-{slug}.png", one.scores, one.dataset)
        draw_reliability(folder / f"reliability-{slug}.png", one.scores, one.dataset)
        if one.familiarity is not None:
            draw_separation(folder / f"familiarity-{slug}.png", one.familiarity, one.dataset)
