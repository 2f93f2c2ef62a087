"""``stridecast demo``."""

import logging

from pydantic import Field

from service.child_worker import OF_ITS_OWN
from service.configuration.settings import Settings
from service.demo.run import run_demo
from service.host.interruption import stop_on_signals
from service.monitoring import logs


class Options(Settings):
    """Run Apache Kafka, the activity worker and synthetic devices on this machine, and show what is labelled.

    Ends on Ctrl-C or after --seconds, leaves nothing behind, and fails if no label arrived. It starts its own Kafka on
    its own port, so settings for reaching yours, and http.port, have no effect.
    """

    unused = (*OF_ITS_OWN, "text.")

    devices: int = Field(20, ge=1, le=100_000, description="synthetic devices, 20 readings a second each")
    seconds: float | None = Field(None, gt=0, description="how long to send; by default until Ctrl-C")
    seed: int = Field(0, ge=0, description="random seed of the synthetic people")


def run(options: Options) -> None:
    """Run the demo."""
    logs.set_up(options.log_format)
    # A broker that ended is told of in a sentence; what its clients say meanwhile would run through the live table.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    with stop_on_signals() as stop:
        run_demo(options, devices=options.devices, seconds=options.seconds, seed=options.seed, stop=stop)
