"""``stridecast evaluate``."""

from pathlib import Path

from pydantic import Field
from rich.console import Console

from inference.bundle import find_bundle
from service.settings import Command
from training.evaluate import evaluate_bundle


class Options(Command):
    """Score a bundle on recordings, cut by the service's own windowing.

    Reads the WISDM v1.1 raw format (plain or compressed), MotionSense's DeviceMotion archive, and CSV files with
    the columns person, placement, activity, recording, t_ms, x, y, z.
    """

    data: list[Path] = Field(min_length=1, description="files of recordings")
    bundle: str = Field("har-cnn", description="name of a shipped bundle, or a bundle's folder")
    people: list[str] = Field(default=[], description="people to score on; all of them without it")
    report: Path | None = Field(None, description="folder for figures and pictures")


def run(options: Options) -> None:
    """Evaluate."""
    evaluations = evaluate_bundle(
        find_bundle(options.bundle), options.data, people=options.people or None, console=Console()
    )
    if options.report is not None:
        from training.report import write_evaluations  # matplotlib is an extra: needed for reports alone

        write_evaluations(options.report, evaluations)
