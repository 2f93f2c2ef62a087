"""The report of protocols: one table of all results in a folder, recipe beside recipe, and a log of the scorings.

In the folder, beside what a training run or the protocol `minutes` may have written:

    <protocol>/<recipe>/folds/             each round's result (`training.protocols.folds`)
    judged.jsonl                           a line for each time that people were scored, append-only
    judged.json, judged.md, judged.png     all rounds with the same files, labels and seed
"""

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.activity_model.recipes import RECIPES, RecipeName
from training.protocols.folds import FoldResult, kept_folds, spread
from training.protocols.rounds import ProtocolName
from training.reports.pictures import draw_ranges
from training.reports.report_json import write_json
from training.wording.markdown import code, table
from training.wording.warnings import warnings_section

Identity = Mapping[str, Any]

MEANING: Mapping[ProtocolName, str] = {
    "data-sets": "each data set whole, by a network that learned from the training people of all the others",
    "people": "each data set by itself, in folds by person: nobody is in two of them",
    "seeds": "the recipe's test people, by networks that differ in nothing but the seed",
}
LOG = "judged.jsonl"


@dataclass(frozen=True, slots=True)
class ProtocolResults:
    """A recipe's results with a protocol so far, by data set, and their settings."""

    protocol: ProtocolName
    recipe: RecipeName
    settings: str
    results: Mapping[str, Sequence[FoldResult]]


def rounds_folder(report: Path, protocol: str, recipe: str) -> Path:
    """Return the folder of a protocol's and a recipe's rounds."""
    return report / protocol / recipe


def log_scoring(report: Path, run_identity: Identity, result: FoldResult) -> None:
    """Log that a data set's people were scored."""
    line = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "protocol": run_identity["protocol"],
        "recipe": run_identity["recipe"],
        "data_set": result.model,
        "round": result.fold,
        "epochs": result.epochs,
        "windows": int(result.scores.support.sum()),
        "accuracy": round(result.scores.accuracy, 4),
        "of": _shared(run_identity),
    }
    log = report / LOG
    cut_short = log.exists() and not log.read_bytes().endswith(b"\n")  # don't append to a truncated line
    with log.open("a", encoding="utf-8") as lines:
        lines.write("\n" * cut_short + json.dumps(line) + "\n")


def write_protocol_report(report: Path, run_identity: Identity, names: Sequence[str], warnings: Sequence[str]) -> None:
    """Write the metrics, table and plot of all results in `report`; `names` orders the data sets."""
    judged = [
        found for protocol in MEANING for recipe in RECIPES if (found := _kept(report, protocol, recipe, run_identity))
    ]
    lines = ["# Judged by people, and by data sets, that no network saw\n", *warnings_section(warnings)]
    lines += [f"- `{name}`: {MEANING[name]}" for name in dict.fromkeys(each.protocol for each in judged)]
    lines += ["", *_table(judged, names), ""]
    lines += [f"- `{each.protocol}`, recipe `{each.recipe}`: {code(each.settings)}" for each in judged]
    lines += [
        f"- The temperature of `{recipe}` is fitted to windows of those who train, that of others to those who validate"
        for recipe in dict.fromkeys(each.recipe for each in judged)
        if RECIPES[recipe].validation_share
    ]
    lines += ["", "## When people were scored\n", *_logged(report, run_identity), ""]
    accuracy = {
        f"{name}, {each.protocol}, {each.recipe}": [one.scores.accuracy for one in each.results[name]]
        for each in judged
        for name in names
        if name in each.results
    }
    (report / "judged.md").write_text("\n".join(lines), encoding="utf-8")
    draw_ranges(report / "judged.png", accuracy, "accuracy")
    write_json(
        report / "judged.json",
        {**_shared(run_identity), "warnings": warnings, "judged": [_figures(each, names) for each in judged]},
    )


def _kept(report: Path, protocol: ProtocolName, recipe: RecipeName, run_identity: Identity) -> ProtocolResults | None:
    """Return the saved results of a protocol and a recipe: of the run `run_identity`, else of the latest run."""
    kept = [
        (result, identity)
        for result, identity in kept_folds(rounds_folder(report, protocol, recipe))
        if _shared(identity) == _shared(run_identity)
    ]
    own = (protocol, recipe) == (run_identity["protocol"], run_identity["recipe"])
    identity = dict(run_identity) if own else (kept[-1][1] if kept else None)
    results: dict[str, list[FoldResult]] = {}
    for result, of in sorted(kept, key=lambda each: each[0].fold):
        if of == identity:
            results.setdefault(result.model, []).append(result)
    if identity is None or not results:
        return None
    return ProtocolResults(protocol, recipe, identity["settings"], results)


def _shared(run_identity: Identity) -> dict[str, Any]:
    """Return what the rounds in one table have in common; the order of the files makes no difference."""
    return {
        "data": sorted(run_identity["data"].split(", ")),
        **{name: run_identity[name] for name in ("labels", "seed") if name in run_identity},
    }


def _figures(each: ProtocolResults, names: Sequence[str]) -> dict[str, Any]:
    return {
        "protocol": each.protocol,
        "recipe": each.recipe,
        "settings": each.settings,
        "results": {
            name: {
                "windows": _windows(each, name),
                "accuracy": [one.scores.accuracy for one in each.results[name]],
                "macro_f1": [one.scores.macro_f1 for one in each.results[name]],
                "calibration_error": [one.scores.calibration_error for one in each.results[name]],
                "calibration_error_before_temperature": [one.untempered for one in each.results[name]],
                "seconds": round(sum(one.seconds for one in each.results[name]), 1),
            }
            for name in names
            if name in each.results
        },
    }


def _windows(each: ProtocolResults, name: str) -> int:
    """Return how many windows were scored; all seeds score the same ones."""
    some = each.results[name]
    return sum(int(one.scores.support.sum()) for one in (some[:1] if each.protocol == "seeds" else some))


def _table(judged: Sequence[ProtocolResults], names: Sequence[str]) -> Iterator[str]:
    """Yield a line for each protocol and data set, with the recipes side by side."""
    recipes = list(dict.fromkeys(each.recipe for each in judged))
    by_place = {(each.protocol, each.recipe): each for each in judged}
    measures = ("rounds", "accuracy", "macro F1", "calibration error", "before temperature")
    columns = ("protocol", "data set", "windows", *(f"{recipe}: {what}" for recipe in recipes for what in measures))
    rows = []
    for protocol in MEANING:
        of_protocol = [by_place.get((protocol, recipe)) for recipe in recipes]
        for name in names:
            have = [each for each in of_protocol if each is not None and name in each.results]
            if have:
                cells = [cell for each in of_protocol for cell in _cells(each, name, len(measures))]
                rows.append((protocol, name, f"{max(_windows(each, name) for each in have):,}", *cells))
    yield from table(columns, rows, left=(0, 1))


def _cells(each: ProtocolResults | None, name: str, width: int) -> Sequence[str]:
    if each is None or name not in each.results:
        return ("",) * width
    results = each.results[name]
    untempered = [one.untempered for one in results if one.untempered is not None]
    return (
        str(len(results)),
        spread([one.scores.accuracy for one in results]),
        spread([one.scores.macro_f1 for one in results]),
        spread([one.scores.calibration_error for one in results]),
        spread(untempered) if untempered else "",
    )


def _logged(report: Path, run_identity: Identity) -> Iterator[str]:
    """Yield how often, and when, people were scored: choosing by their scores would take more than one scoring."""
    times: dict[tuple[str, ...], list[str]] = {}
    for entry in _entries(report / LOG):
        if entry.get("of") == _shared(run_identity):
            times.setdefault((entry["protocol"], entry["recipe"], entry["data_set"]), []).append(entry["date"])
    rows = [
        (*place, str(len(dates)), dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}")
        for place, dates in times.items()
    ]
    yield from table(("protocol", "recipe", "data set", "scorings", "dates"), rows, left=(0, 1, 2, 4))


def _entries(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the log's lines; a truncated one, as after a full disk, is skipped."""
    if log.exists():
        for line in log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)
