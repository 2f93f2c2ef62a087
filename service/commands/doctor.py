"""``stridecast doctor``."""

from pydantic import Field
from rich.console import Console
from rich.text import Text

from service.configuration.settings import TopicSettings
from service.doctor.examination import examinations
from service.doctor.findings import Verdict
from service.host.terminal import printable

COLOURS = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.WRONG: "bold red"}


class Options(TopicSettings):
    """Look at Kafka, the topics, the group and what devices send, and say what is wrong; change nothing.

    Reads the latest records of each input topic as a worker would. It says which records are refused, and why; whether
    a device is on two partitions; and whether a device's clock, unit and rate let its windows get labels. If no topic
    of a kind of worker exists, that kind is left out. Exits with status 1 if something is wrong, and with 0 if there
    are only notes.
    """

    unused = (
        "kafka.session_timeout_s",
        "kafka.transaction_timeout_s",
        "activity.bundle",
        "activity.smoothing",
        "activity.keep.",
        "text.bundle",
    )

    records: int = Field(
        100_000, ge=1, le=10_000_000, description="records to look at, the latest of each topic, of all partitions"
    )


def run(options: Options) -> int:
    """Print what is found; return the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    verdicts = set()
    for title, findings in examinations(options, options.records):
        console.print(Text(title, "bold"))
        with console.status("looking"):  # the first time code is compiled, for some seconds
            for finding in findings:
                verdicts.add(finding.verdict)
                console.print(Text(f"  {finding.verdict:<7}", COLOURS[finding.verdict]) + Text(printable(finding.text)))
    return 1 if Verdict.WRONG in verdicts else 0
