"""``stridecast worker activity``."""

from service import logs
from service.activity_worker import activity_kind
from service.run import run_worker
from service.settings import Settings


class Options(Settings):
    """Read accelerometer messages from Kafka, and publish what each device's wearer is doing.

    Metrics, health and a live view are on http.port. SIGTERM finishes what is in flight, commits and exits with 0.
    """


def run(options: Options) -> None:
    """Work until told to stop."""
    logs.set_up(options.log_format)
    activity = options.activity
    run_worker(
        "activity",
        options,
        bundle=activity.bundle,
        topics=[activity.input_topic],
        make_kind=lambda metrics: activity_kind(activity, metrics),
    )
