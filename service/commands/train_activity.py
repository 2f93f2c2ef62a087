"""``stridecast train activity``."""

from pathlib import Path

from pydantic import Field
from rich.console import Console

from inference.bundle import find_bundle
from service.configuration.settings import Command
from training.activity_model.recipes import RecipeName
from training.data.recordings import Labels
from training.fitting.fit_settings import FitError, FitPrecision
from training.protocols.rounds import ProtocolName


class Options(Command):
    """Fit the activity model to recordings; write a bundle, and a report with its figures and pictures.

    Recordings are CSV with the columns person, activity, timestamp (milliseconds, or ISO 8601, which is UTC without an
    offset), and x, y, z (m/s², gravity included), and optionally placement and recording; WISDM's v1.1 raw file; or
    MotionSense's DeviceMotion archive; all plain or compressed. Parquet files of windows that a worker kept are read
    too, once their column activity has been filled in; they only train.

    Test people are held out, and scored once, at the end. WISDM, MotionSense and five more public sets have fixed lists
    of them. Of other files about a fifth of the people test, by a hash of the name: with enough people nobody's part
    changes when others are added.

    With --protocol no bundle is written. Many networks are fitted, and a table says how well the recipe does on people,
    or data sets, that it never saw, or whether more labelling pays. See docs/training.md.
    """

    data: list[Path] = Field(min_length=1, description="files of recordings")
    protocol: ProtocolName | None = Field(
        None,
        description="data-sets: leave out one data set after the other; people: five folds by person inside each; "
        "seeds: the recipe's split, five times; minutes: go on from --start with more and more people of each data "
        "set, scored on those who test: is it worth labelling more?",
    )
    only: list[str] = Field([], description="with --protocol, the data sets to run rounds for; by default all")
    labels: list[str] = Field(
        [],
        description="2 to 64 activities to tell apart, in the order of the answers, as the files name them (capitals "
        "make no difference), such as Walking Cycling 'Lying down'; without it those of --start, or the six: "
        "Downstairs, Jogging, Sitting, Standing, Upstairs, Walking",
    )
    recipe: RecipeName = Field(
        "default", description="default: with augmentation, as the shipped model; article: the published baseline"
    )
    start: str | None = Field(
        None,
        description="name or folder of a bundle to go on from, such as har-cnn: little data do then, and the report "
        "says class by class whether the new one is better, where it has the same labels",
    )
    output: Path = Field(
        Path("runs/har-cnn"), description="folder to write the bundle to; its name becomes the bundle's"
    )
    report: Path | None = Field(
        None,
        description="folder of the report, and of the checkpoint or what rounds gave; without it the output's with "
        "-report behind its name, of a protocol -judged",
    )
    epochs: int | None = Field(None, ge=1, description="passes over the data; by default the recipe's")
    seed: int = Field(0, ge=0, description="random seed of weights, order and augmentation")
    precision: FitPrecision = Field(
        "float32", description="precision of training; bfloat16 is faster with AMX, or on AMD since Zen 4"
    )
    version: str | None = Field(
        None,
        description="version of the bundle; by default 1, or one more than that of --start, and than that of a bundle "
        "which the output folder holds",
    )
    resume: bool = Field(False, description="continue from the report's checkpoint, or from the rounds that are done")


def run(options: Options) -> None:
    """Train, or run a protocol."""
    _refuse_ignored(options)
    from training.plan import TrainingRequest
    from training.protocols.protocol import run_protocol
    from training.train_activity import train_activity  # PyTorch takes seconds: a wrong flag is told without it

    labels = Labels(tuple(options.labels)) if options.labels else None
    start = None if options.start is None else find_bundle(options.start)
    about = "report" if options.protocol is None else "judged"
    report = options.report or options.output.with_name(f"{options.output.name}-{about}")
    request = TrainingRequest(
        options.data, options.recipe, labels, start, options.epochs, options.seed, options.precision
    )
    resume, console = options.resume, Console()
    if options.protocol is not None:
        run_protocol(request, report, options.protocol, only=options.only, resume=resume, console=console)
    else:
        train_activity(request, options.output, report, version=options.version, resume=resume, console=console)


def _refuse_ignored(options: Options) -> None:
    if options.protocol is None and options.only:
        raise FitError("--only chooses among a protocol's rounds: add --protocol")
    if options.protocol is not None and options.version is not None:
        raise FitError("--protocol writes no bundle: leave out --version")
