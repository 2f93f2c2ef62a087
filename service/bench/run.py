"""The short benchmark of this machine: the parts of a worker, a worker beside its broker, and the conclusion.

python -m benchmarks.*    measures more, for longer, and beside the obvious alternatives
"""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from inference.engine_choice import cpu_title
from service.bench.drain import MOST_SAMPLES, Size, measure_whole
from service.bench.figures import (
    NAMES,
    READINGS_A_SECOND,
    STAGES,
    WINDOWS_A_SECOND,
    Machine,
    Parts,
    Report,
    Whole,
    report_of,
    rounded,
)
from service.bench.parts import CHUNK_MS, Tell, measure_parts
from service.broker.artifacts import ArtifactError
from service.broker.errors import JavaMissing
from service.broker.fetching import fetch_kafka
from service.broker.java import find_java
from service.configuration.settings import Settings
from service.host import processes
from service.replay.messages import Form

STEPS = 12
PARTS_SHARE = 0.25
BACKLOG_SHARE = 1 / 15
"""Share of the seconds for writing a backlog, and about the same for draining it. The rest is for start-up."""
BUSY = 0.25
"""The load a core from which on other programs are said to be running."""


def run_bench(settings: Settings, seconds: float) -> Report:
    """Measure in about this many seconds, with progress on standard error.

    Raises what the parts and the whole raise; the whole is skipped if something that it needs is missing.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    machine = this_machine()
    if machine.load > BUSY * machine.cores:
        console.print(
            f"[bold]other programs are at work here (load {machine.load:.1f}): stop them for truer figures[/bold]"
        )
    skipped = _why_skipped()
    if skipped:
        console.print(f"[bold]the worker beside its broker is skipped:[/bold] {skipped}")
    with _progress(console) as tell:
        parts = measure_parts(settings.activity, settings.inference, PARTS_SHARE * seconds, tell)
        whole = None if skipped else measure_whole(settings, _size(parts, seconds), tell)
    return report_of(machine, parts, whole, skipped)


def this_machine() -> Machine:
    """Describe the machine."""
    return Machine(
        cpu=cpu_title(),
        cores=processes.usable_cores(),
        load=os.getloadavg()[0],
        python=platform.python_version(),
        stridecast=metadata.version("stridecast"),
    )


def _why_skipped() -> str:
    """Return why a worker and its broker can't be run and measured here, or nothing; fetch Kafka if needed."""
    if not processes.can_be_seen():
        return "the CPU time of a worker is read from /proc, which this system doesn't have"
    try:
        find_java()
        fetch_kafka()
    except (JavaMissing, ArtifactError) as error:
        return str(error)
    return ""


def _size(parts: Parts, seconds: float) -> Size:
    """Return the size of a backlog that takes about as long to drain as it may take to write."""
    rates = parts.forms[Form.SAMPLE]
    windows_per_sample = WINDOWS_A_SECOND / READINGS_A_SECOND
    cost = 1 / rates.decoded_samples_per_s + windows_per_sample / parts.inference.windows_per_cpu_s
    return Size(min(MOST_SAMPLES, BACKLOG_SHARE * seconds / cost), BACKLOG_SHARE * seconds)


@contextmanager
def _progress(console: Console) -> Iterator[Tell]:
    """Yield a function that shows the current step: a bar on a terminal, a line elsewhere."""
    if not console.is_terminal:
        yield lambda step: console.print(f"{step} ...")
        return
    # Redrawn only when a step begins: a refresh thread would distort the measurements.
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=STEPS)

        def tell(step: str) -> None:
            progress.update(task, advance=1, description=f"{step} ...", refresh=True)

        yield tell


def show(report: Report) -> None:
    """Print the results: tables and sentences."""
    console = Console(highlight=False)
    machine, inference = report.machine, report.parts.inference
    console.print(
        f"{machine.cpu}, {machine.cores:g} cores, load {machine.load:.1f}; Stridecast {machine.stridecast}, "
        f"Python {machine.python}; {inference.bundle} by {inference.engine} at {inference.precision}",
        soft_wrap=True,
    )
    console.print(_parts_table(report.parts))
    if report.whole is not None:
        console.print(_whole_table(report.whole))
    console.print(_answer_table(report))
    for sentence in [*report.sentences, *assumptions(report)]:
        console.print(sentence, soft_wrap=True)


def _parts_table(parts: Parts) -> Table:
    table = Table(title="one core, part by part", title_justify="left")
    table.add_column("part", no_wrap=True)
    table.add_column("a second", justify="right")
    for form, rates in parts.forms.items():
        table.add_row(f"samples decoded from {NAMES[form]}", f"{rates.decoded_samples_per_s:,.0f}")
        table.add_row(f"samples windowed from {NAMES[form]}", f"{rates.windowed_samples_per_s:,.0f}")
    inference = parts.inference
    where = "" if inference.device == "cpu" else " by the GPU"
    table.add_row(
        f"windows classified{where}, {inference.max_batch} a batch ({inference.single_ms:.2f} ms for one)",
        f"{inference.windows_per_s:,.0f}",
    )
    table.add_row("labels written", f"{parts.labels_per_cpu_s:,.0f}")
    return table


def _whole_table(whole: Whole) -> Table:
    table = Table(title="a worker beside its broker, a backlog of", title_justify="left")
    for heading in ("samples in", "samples", "labels", "samples/s", "CPU-s a million"):
        table.add_column(heading, justify="left" if heading == "samples in" else "right")
    for form, drained in whole.forms.items():
        table.add_row(
            NAMES[form],
            f"{drained.samples:,}",
            f"{drained.labels:,}",
            f"{drained.samples_per_s:,.0f}",
            f"{drained.cpu_seconds_per_million:.2f}",
        )
    return table


def _answer_table(report: Report) -> Table:
    table = Table(title="devices at 20 Hz", title_justify="left")
    for heading in ("that send", "one core", "this machine", "the limit"):
        table.add_column(heading, justify="left" if heading in ("that send", "the limit") else "right")
    for form, carried in report.carried.items():
        limit = f"{STAGES[carried.limit]}, {carried.share:.0%}"
        table.add_row(NAMES[form], rounded(carried.devices_per_core), rounded(carried.devices), limit)
    return table


def assumptions(report: Report) -> Iterator[str]:
    """Yield the assumptions of the conclusion."""
    threads = report.parts.inference.threads
    yield (
        f"This supposes {report.headroom:.0%} of each core left free, a worker on each with {threads} "
        f"{'thread' if threads == 1 else 'threads'} of inference, Kafka on other machines, chunks of "
        f"{CHUNK_MS / 1000:g} s, and producers that send full batches: records that come one a batch cost several "
        "times as much to read."
    )
    if report.whole is None:
        yield f"Kafka's share is not in it, so it carries fewer. It was not measured: {report.skipped}."
    if report.machine.load > BUSY * report.machine.cores:
        yield f"Other programs were at work (load {report.machine.load:.1f}), which makes everything look slower."


def write_json(report: Report) -> None:
    """Write all results and the conclusion as one line of JSON to standard output."""
    sys.stdout.write(report.model_dump_json() + "\n")
    sys.stdout.flush()
