"""``stridecast bench``."""

from pydantic import Field

from service.child_worker import OF_ITS_OWN
from service.configuration.settings import Settings
from service.host.interruption import interrupted_once


class Options(Settings):
    """Measure this machine for about a minute, and say how many devices at 20 Hz it carries, and what limits it.

    It first measures what one core decodes, windows, classifies and writes. Then it runs Apache Kafka and a worker on
    this machine, and has the worker label a backlog in each message format. The worker has its usual settings, except
    for the broker's address. Without Java the second half is skipped. Stop other programs first. Needs up to 0.5 GB in
    the folder for temporary files, and leaves nothing there.
    """

    unused = (*OF_ITS_OWN, "text.", "shutdown_grace_s", "log_format")

    seconds: float = Field(
        60, ge=1, le=3600, description="about how long it may take; starting what is needed takes at least 15 of them"
    )
    as_json: bool = Field(
        False, alias="json", description="write the figures as one JSON object to standard output, and nothing else"
    )


def run(options: Options) -> None:
    """Measure, and tell."""
    with interrupted_once():
        from service.bench.run import run_bench, show, write_json  # PyTorch comes with it

        report = run_bench(options, options.seconds)
        if options.as_json:
            write_json(report)
        else:
            show(report)
