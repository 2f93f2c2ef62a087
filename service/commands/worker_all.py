"""``stridecast worker all``."""

from service.activity_worker import activity_kind
from service.configuration.settings import Settings, SettingsError
from service.run import run_workers
from service.text_worker import text_kind


class Options(Settings):
    """Run the activity worker and the text worker in one process, on one device and one http.port.

    Neither can starve the other. It is ready when both are, and ends when one of them fails. SIGTERM finishes what is
    in flight, commits and exits with 0.
    """


def run(options: Options) -> None:
    """Work until told to stop; raises SettingsError where both would read one topic."""
    if options.activity.input_topic == options.text.input_topic:
        raise SettingsError(
            f"activity.input_topic = text.input_topic = {options.text.input_topic!r}: each of the two would be given "
            "some of its partitions, and neither would see all"
        )
    run_workers(options, [activity_kind(options.activity), text_kind(options.text)])
