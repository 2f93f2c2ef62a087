"""``stridecast models``."""

from pathlib import Path

from pydantic import Field
from rich.console import Console
from rich.table import Table

from inference.bundle import BundleSummary, describe_bundles, load_bundle
from inference.engine_choice import Memory, cpu_title, memories
from inference.models import load_model
from service import engines
from service.settings import Command, InferenceSettings


class Options(Command):
    """List bundles and what they promise: those that ship, or those in the folders given.

    Where a CPU can serve a bundle with several engines, it also lists what has been measured of them on this machine.
    """

    unused = ("inference.queue_frames", "inference.fallback", "inference.deadline_s")

    bundles: list[Path] = Field(default=[], description="folders of bundles; the shipped ones without it")
    measure: bool = Field(
        default=False, description="measure the engines now, with the inference settings, even if results are cached"
    )
    inference: InferenceSettings = Field(default_factory=InferenceSettings)


def run(options: Options) -> None:
    """Print each bundle."""
    console = Console()
    for summary in describe_bundles(options.bundles or None):
        if options.measure:
            _measure(summary.folder, options.inference)
        console.print(_table(summary))
        console.print(
            f"  folder  {summary.folder}\n", soft_wrap=True, highlight=False, markup=False
        )  # to be copied whole
        for memory in memories(load_bundle(summary.folder), engines.default_folder()):
            circumstances = f"{memory.key.get('threads')} thread(s), batches of {memory.key.get('max_batch')}"
            console.print(f"  measured on {cpu_title()}, {circumstances}", soft_wrap=True, highlight=False)
            console.print(_engines(memory), "")


def _measure(folder: Path, settings: InferenceSettings) -> None:
    device = engines.device_of(settings, anew=True)
    engines.tell(load_model(load_bundle(folder), device, engines.max_batch_of(settings, device)))


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


def _engines(memory: Memory) -> Table:
    table = Table()
    table.add_column("engine", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    table.add_column("frames/s", justify="right")
    table.add_column("ms for one", justify="right")
    for each in memory.measured:
        speeds = ("refused", each.refusal) if each.refusal else (f"{each.frames_per_s:,.0f}", f"{each.single_ms:.2f}")
        table.add_row(each.engine, each.precision, *speeds)
    return table
