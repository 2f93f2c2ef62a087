"""``stridecast train activity``."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from rich.console import Console

from service.settings import Command
from training.activity import train_activity


class Options(Command):
    """Fit the activity model to recordings; write a bundle, and a report with its figures and pictures.

    Reads the WISDM v1.1 raw format (plain or compressed) and MotionSense's DeviceMotion archive. Test people are
    held out by name and scored once, at the end.
    """

    data: list[Path] = Field(min_length=1, description="files of recordings")
    recipe: Literal["default", "article"] = Field(
        "default", description="default: phones turned as they lie; article: the baseline that was published"
    )
    output: Path = Field(Path("runs/har-cnn"), description="folder of the bundle, named like it")
    report: Path | None = Field(
        None,
        description="folder of the report and the checkpoint; the output's with -report behind its name without it",
    )
    epochs: int | None = Field(None, ge=1, description="passes over the data; the recipe's without it")
    seed: int = Field(0, ge=0, description="of weights, order and augmentation")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="to fit at; bfloat16 is faster on CPUs that have it"
    )
    version: str = Field("1", description="version that the bundle carries")
    resume: bool = Field(False, description="go on from the report's checkpoint after an interruption")


def run(options: Options) -> None:
    """Train."""
    train_activity(
        options.data,
        options.output,
        options.report or options.output.with_name(f"{options.output.name}-report"),
        recipe=options.recipe,
        epochs=options.epochs,
        seed=options.seed,
        resume=options.resume,
        precision=options.precision,
        version=options.version,
        console=Console(),
    )
