"""``stridecast models``."""

from pathlib import Path

from pydantic import Field
from rich.console import Console
from rich.table import Table

from inference.bundle import BundleSummary, describe_bundles
from service.settings import Command


class Options(Command):
    """List bundles and what they promise: those that ship, or those in the folders given."""

    bundles: list[Path] = Field(default=[], description="folders of bundles; the shipped ones without it")


def run(options: Options) -> None:
    """Print each bundle."""
    console = Console()
    for summary in describe_bundles(options.bundles or None):
        console.print(_table(summary))
        console.print(
            f"  folder  {summary.folder}\n", soft_wrap=True, highlight=False, markup=False
        )  # to be copied whole


def _table(summary: BundleSummary) -> Table:
    table = Table(title=f"{summary.name}@{summary.version}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("labels", ", ".join(summary.labels))
    table.add_row("input", summary.input)
    table.add_row("parameters", f"{summary.parameters:,}")
    for name, value in summary.metrics.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}")
    table.add_row("digest", summary.digest[:12])  # as logs have it
    return table
