"""One Prometheus and one worker under load for all queries; they end with these, for they take a core."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.broker import Broker
from service.topics import admin_client
from tests.deploy.tools import tool
from tests.deploy.watched import Prometheus, load, running_prometheus
from tests.kafka.conftest import broker
from tests.kafka.worker_process import WorkerProcess

__all__ = ["broker"]

TOPICS = ("accelerometer", "activities", "accelerometer.dead-letters")


@pytest.fixture(scope="session")
def prometheus_program() -> Path:
    """Asked for first, so that nothing is started where it lacks."""
    return tool("prometheus")


@pytest.fixture(scope="module")
def prometheus(
    prometheus_program: Path, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus with the deployment's rules that scrapes a worker under load, since before that was ready."""
    folder = tmp_path_factory.mktemp("watched")
    with admin_client(broker.bootstrap_servers) as admin:
        admin.create_topics(
            {name: {"num_partitions": 2, "replication_factor": 1} for name in TOPICS}, wait_for_metadata=True
        )
    worker = WorkerProcess(
        folder / "worker.log",
        *("--kafka.bootstrap-servers", broker.bootstrap_servers),
        *("--delivery", "exactly_once", "--inference.engine", "winograd"),
    )
    try:
        with running_prometheus(folder, worker.port) as running:
            worker.wait_until_ready()
            with load(broker.bootstrap_servers, TOPICS[0], folder / "replay.log"):
                yield running
    finally:
        worker.kill()
