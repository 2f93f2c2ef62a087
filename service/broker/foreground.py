"""A broker in the foreground, for ``stridecast broker``."""

from contextlib import suppress
from pathlib import Path

from service.broker.artifacts import KAFKA_VERSION
from service.broker.data_folder import default_data_dir
from service.broker.fetching import fetch_kafka, print_status
from service.broker.node import Broker
from service.host.interruption import interrupted_once


def run_broker(port: int, data_dir: Path | None, heap: str) -> None:
    """Run a broker in the foreground until SIGTERM or SIGINT, then stop it and return.

    Prints the bootstrap address on standard output, on its own line, once clients can connect; progress goes to
    standard error.

    Raises BrokerError or ArtifactError.
    """
    folder = data_dir or default_data_dir()
    with suppress(KeyboardInterrupt), interrupted_once():
        fetch_kafka()
        print_status(f"starting Apache Kafka {KAFKA_VERSION}; topics are kept in {folder}; Ctrl-C stops it")
        with Broker(folder, port=port, heap=heap) as broker:
            print_status("ready, in the foreground; clients connect to this address:")
            print(broker.bootstrap_servers, flush=True)
            broker.wait()
