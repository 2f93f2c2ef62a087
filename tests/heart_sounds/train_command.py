"""`stridecast train heart`. In the program itself it would be `service/commands/train_heart.py`."""

from pathlib import Path

from pydantic import Field
from rich.console import Console

from service.configuration.settings import Command
from tests.heart_sounds.train import train_heart


class Options(Command):
    """Fit the model to synthetic heart sounds; write a bundle."""

    output: Path = Field(description="folder of the bundle")


def run(options: Options) -> None:
    """Train."""
    train_heart(options.output, Console())
