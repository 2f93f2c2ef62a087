"""``stridecast train lag-series``."""

from pathlib import Path

from pydantic import Field
from rich.console import Console

from service.configuration.settings import Command
from training.lag_study.lag_report import train_lag_series
from training.lag_study.lag_series import EPOCHS


class Options(Command):
    """Compare an LSTM with a linear MLP on a lagged series, and draw where each goes wrong.

    A study to learn from rather than a model to serve: no bundle is written. docs/lag-series.md tells what was found.
    """

    epochs: int = Field(EPOCHS, ge=1, le=100_000, description="passes over the series")
    seeds: int = Field(20, ge=1, le=100, description="networks of each kind, alike but for their random numbers")
    report: Path = Field(Path("runs/lag-series"), description="folder of the report: figures, table and picture")


def run(options: Options) -> None:
    """Fit and report."""
    train_lag_series(options.report, epochs=options.epochs, seeds=options.seeds, console=Console())
