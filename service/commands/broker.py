"""``stridecast broker``."""

from pathlib import Path

from pydantic import Field

from service.broker.foreground import run_broker
from service.configuration.settings import Command


class Options(Command):
    """Run Apache Kafka itself on this machine: one KRaft node, on loopback, for development.

    Prints the bootstrap address when clients can connect, and stops on Ctrl-C or SIGTERM. Topics are kept in the
    data folder for the next start. The first start downloads Kafka (44 MB).
    """

    port: int = Field(9092, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    data_dir: Path | None = Field(None, description="where topics are kept; ~/.local/share/stridecast/kafka without it")
    heap: str = Field("512m", pattern=r"^[1-9][0-9]*[kmgKMG]$", description="memory of the Java heap")


def run(options: Options) -> None:
    """Run the broker until it is told to stop."""
    run_broker(options.port, options.data_dir, options.heap)
