"""``stridecast worker activity``."""

from pydantic import Field

from service.activity_worker import activity_kind
from service.configuration.settings import ActivitySettings, ServiceSettings
from service.run import run_workers


class Options(ServiceSettings):
    """Read accelerometer messages from Kafka, and publish what each device's wearer is doing.

    Metrics, health and a live view are on http.port. SIGTERM finishes what is in flight, commits and exits with 0.
    """

    activity: ActivitySettings = Field(default_factory=ActivitySettings)


def run(options: Options) -> None:
    """Work until told to stop."""
    run_workers(options, [activity_kind(options.activity)])
