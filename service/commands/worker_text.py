"""``stridecast worker text``."""

from pydantic import Field

from service.configuration.settings import ServiceSettings, TextSettings
from service.run import run_workers
from service.text_worker import text_kind


class Options(ServiceSettings):
    """Read texts from Kafka, and publish a label for each.

    Metrics, health and a live view are on http.port. SIGTERM finishes what is in flight, commits and exits with 0.
    """

    text: TextSettings = Field(default_factory=TextSettings)


def run(options: Options) -> None:
    """Work until told to stop."""
    run_workers(options, [text_kind(options.text)])
