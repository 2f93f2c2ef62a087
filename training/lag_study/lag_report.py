"""The lagged-series study's report folder.

metrics.json          the command, and each network's metrics and residuals
report.md             the metrics as a table: of the seeds the median, the lowest and the highest
residuals.png         prediction minus y against y, within ±3; what lies beyond is marked at the edge
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from training.data.files import reason
from training.fitting.fit_settings import FitError
from training.lag_study.lag_series import CASES, MODELS, Case, Fitted, ModelName, study, targets

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise FitError(
        "reports are drawn with matplotlib, which is not installed: pip install '.[train]' in the checkout"
    ) from error

EDGE = 3.0
COLOURS: dict[ModelName, str] = {"lstm": "tab:blue", "mlp": "tab:orange"}


def train_lag_series(report: Path, *, epochs: int, seeds: int, console: Console) -> list[Fitted]:
    """Fit all networks, write the report folder, and show the table; raises `FitError`."""
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FitError(f"cannot write to {report}: {reason(error)}") from error
    began = time.monotonic()
    fitted = study(epochs, seeds, console)
    command = f"stridecast train lag-series --epochs {epochs} --seeds {seeds}"
    write_report(report, fitted, command=command, seconds=time.monotonic() - began)
    console.print(_table(fitted))
    console.print(f"Report in {report}", soft_wrap=True, markup=False)
    return fitted


def write_report(folder: Path, fitted: Sequence[Fitted], *, command: str, seconds: float) -> None:
    """Write the report of the networks in `fitted` into the existing folder `folder`."""
    content = {
        "command": command,
        "seconds": round(seconds, 1),
        "y": targets().round(1).tolist(),
        "networks": [_as_json(one) for one in fitted],
    }
    (folder / "metrics.json").write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
    text = f"# An LSTM and a linear MLP on a lagged series\n\n`{command}`, {seconds:.0f} s.\n\n{as_markdown(fitted)}"
    (folder / "report.md").write_text(f"{text}\n{LEGEND}\n", encoding="utf-8")
    draw(fitted).savefig(folder / "residuals.png", dpi=70)


# --- figures -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """The metrics of one network's residuals; all but the count are in units of y."""

    rmse_trained: float
    rmse_held_out: float
    worst: float  # the largest residual, whatever its sign
    beyond: int  # how many residuals are beyond ±3
    top: float  # the last row's residual
    top_median: float  # the same after each of the last 100 epochs: the median
    top_swing: float  # likewise: the highest minus the lowest


TITLES = {
    "rmse_trained": "RMSE trained on",
    "rmse_held_out": "RMSE held out",
    "beyond": "rows beyond ±3",
    "top": "last row",
    "top_median": "last 100 epochs",
    "top_swing": "swing in those",
}
LEGEND = (
    "Figures are the seeds' median (lowest to highest), in units of y. The last row is that of i = 103: its residual "
    "is given after the last epoch, as the median over the last 100 epochs, and by how far it swings in those."
)
SHOWN = ("top", "top_median")  # as many columns as fit a terminal of 80 characters


def figures(fitted: Fitted) -> Figures:
    """Return the metrics of one network."""
    size = np.abs(fitted.residuals)
    return Figures(
        rmse_trained=_rmse(np.delete(fitted.residuals, fitted.held_out)),
        rmse_held_out=_rmse(fitted.residuals[fitted.held_out]),
        worst=float(size.max()),
        beyond=int((size > EDGE).sum()),
        top=float(fitted.residuals[-1]),
        top_median=float(np.median(fitted.top)),
        top_swing=float(np.ptp(fitted.top)),
    )


def _rmse(residuals: np.ndarray) -> float:
    return float(np.sqrt(np.mean(residuals**2)))


def _as_json(fitted: Fitted) -> dict[str, object]:
    return {
        "model": fitted.model,
        **dataclasses.asdict(fitted.case),
        "seed": fitted.seed,
        **dataclasses.asdict(figures(fitted)),
        "rows_held_out": fitted.held_out.tolist(),
        "residuals": fitted.residuals.round(3).tolist(),
    }


# --- tables --------------------------------------------------------------------------------------


def as_markdown(fitted: Sequence[Fitted]) -> str:
    """Return a row for each model and case; a cell is the median over seeds, with the lowest and the highest."""
    lines = [f"| model | case | {' | '.join(TITLES.values())} |", f"|---|---|{'---:|' * len(TITLES)}"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(fitted, list(TITLES))]
    return "\n".join(lines) + "\n"


def _table(fitted: Sequence[Fitted]) -> Table:
    table = Table(title="Residuals of the last row: the seeds' median (lowest to highest)", title_justify="left")
    table.add_column("model")
    table.add_column("case")
    for name in SHOWN:
        table.add_column(TITLES[name], justify="right", no_wrap=True)
    for model, case, *cells in _rows(fitted, SHOWN):
        table.add_row(model, case, *cells)
    return table


def _rows(fitted: Sequence[Fitted], names: Sequence[str]) -> list[list[str]]:
    rows = []
    for model_name, case in _groups():
        columns = [dataclasses.asdict(figures(one)) for one in _of(fitted, model_name, case)]
        row = [MODELS[model_name].title, case.title]
        for name in names:
            values = np.array([column[name] for column in columns])
            style = ".0f" if name == "beyond" else ".2f"
            median, low, high = (f"{value:z{style}}" for value in (np.median(values), values.min(), values.max()))
            row.append(f"{median} ({low} to {high})")
        rows.append(row)
    return rows


def _groups() -> list[tuple[ModelName, Case]]:
    return [(model_name, case) for model_name in MODELS for case in CASES]


def _of(fitted: Sequence[Fitted], model_name: ModelName, case: Case) -> list[Fitted]:
    return [one for one in fitted if one.model == model_name and one.case == case]


# --- the picture ---------------------------------------------------------------------------------


def draw(fitted: Sequence[Fitted]) -> Figure:
    """Draw a row of panels for each model and a panel for each case, with a thin line for each seed."""
    figure = Figure(figsize=(14, 6), layout="constrained")
    panels = figure.subplots(len(MODELS), len(CASES), sharex=True, sharey=True)
    for axes, (model_name, case) in zip(panels.flat, _groups(), strict=True):
        _draw_panel(axes, _of(fitted, model_name, case), COLOURS[model_name])
        axes.set_title(f"{MODELS[model_name].title}\n{case.title}", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("y")
    for axes in panels[:, 0]:
        axes.set_ylabel("prediction - y")
    return figure


def _draw_panel(axes: Axes, fitted: Sequence[Fitted], colour: str) -> None:
    y = targets()
    axes.axhline(0, color="0.6", linewidth=0.8)
    if fitted[0].case.held_out == "last":
        first = int(fitted[0].held_out[0])
        axes.axvspan((y[first - 1] + y[first]) / 2, y[-1] + 1, color="0.88", label="never trained on")
    for one in fitted:
        axes.plot(y, one.residuals, color=colour, linewidth=0.9, alpha=0.6)
        if one.case.held_out == "below":
            axes.plot(y[one.held_out], one.residuals[one.held_out], "o", color=colour, markersize=3, fillstyle="none")
        _mark_beyond(axes, y, one.residuals, colour)
    beyond = sum(figures(one).beyond for one in fitted)
    worst = max(figures(one).worst for one in fitted)
    said = f"worst {worst:.2f}; {beyond:,} of {len(fitted) * len(y):,} beyond ±{EDGE:g}"
    axes.text(0.03, 0.05, said, fontsize=9, transform=axes.transAxes)
    axes.set(ylim=(-EDGE, EDGE), xlim=(y[0] - 3, y[-1] + 1))
    if fitted[0].case.held_out == "last":
        axes.legend(loc="upper left", fontsize=8)


def _mark_beyond(axes: Axes, y: np.ndarray, residuals: np.ndarray, colour: str) -> None:
    for sign, marker in ((1, "^"), (-1, "v")):
        rows = sign * residuals > EDGE
        if rows.any():
            edge = np.full(rows.sum(), sign * EDGE)
            axes.plot(y[rows], edge, marker, color=colour, markersize=5, clip_on=False, zorder=5)
