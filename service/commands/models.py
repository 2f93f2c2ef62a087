"""``stridecast models``."""

import textwrap
from pathlib import Path

from pydantic import Field
from rich.console import Console
from rich.table import Table

from inference.bundle import BundleSummary, describe_bundles, load_bundle
from inference.engine_choice import Memory, cpu_title, memories, other_versions
from inference.models import load_model
from service.configuration.settings import Command, InferenceSettings
from service.serving import engines

PHRASE = 60  # characters


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
        for circumstances, memory in _latest(memories(load_bundle(summary.folder), engines.default_folder())).items():
            others = ", ".join(f"{name} {version or 'none'}" for name, version in other_versions(memory).items())
            with_others = f", with other versions than are installed ({others})" if others else ""
            console.print(
                f"  measured on {cpu_title()}, {circumstances}{with_others}",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )
            console.print(_engines(memory), "")


def _latest(found: list[Memory]) -> dict[str, Memory]:
    """Return the latest measurement for each of the circumstances, by what is told of them.

    One that holds for the installed versions comes before later ones of others.
    """
    latest: dict[str, Memory] = {}
    for memory in sorted(found, key=lambda memory: not other_versions(memory)):  # those that hold come last, and stay
        threads, precisions = memory.key.get("threads"), sorted({each.precision for each in memory.measured})
        circumstances = (
            f"{threads} {'thread' if threads == 1 else 'threads'}, batches of {memory.key.get('max_batch')}, "
            f"at {' and '.join(precisions)}"
        )
        latest[circumstances] = memory
    return latest


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
        speeds = (
            ("refused", _phrase(each.refusal))
            if each.refusal
            else (f"{each.frames_per_s:,.0f}", f"{each.single_ms:.2f}")
        )
        table.add_row(each.engine, each.precision, *speeds)
    return table


def _phrase(refusal: str) -> str:
    """Shorten a refusal to a phrase; the log has it whole when it is measured."""
    kind, colon, _ = refusal.partition(":")
    if kind.isidentifier() and colon:  # an exception that nobody expected, whose words are for programmers
        return f"fails ({kind})"
    return textwrap.shorten(refusal, PHRASE, placeholder=" ...")
