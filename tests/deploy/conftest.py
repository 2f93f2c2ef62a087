"""One Prometheus and one worker of each kind under load for all queries; they end with these, for they take a core."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from service.broker.node import Broker
from service.kafka_admin.topics import admin_client
from tests.deploy.tools import ROOT, tool
from tests.deploy.watched import Prometheus, load, running_prometheus, settings_for
from tests.kafka.conftest import broker
from tests.kafka.worker_process import WorkerProcess

__all__ = ["broker"]

TOPICS = (
    *("accelerometer", "activities", "accelerometer.dead-letters"),
    *("texts", "text-labels", "texts.dead-letters"),
)
FLAGS = {
    "activity": ("--inference.engine", "winograd"),
    "text": ("--kafka.group-id", "stridecast-text"),
}
"""Each kind of worker, and what it is started with."""
NAMESPACE = yaml.safe_load((ROOT / "deploy/kubernetes/base/kustomization.yaml").read_text())["namespace"]


@pytest.fixture(scope="session")
def prometheus_program() -> Path:
    """Asked for first, so that nothing is started where it lacks."""
    return tool("prometheus")


@pytest.fixture(scope="module")
def prometheus(
    prometheus_program: Path, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus with the deployment's rules that scrapes workers under load, since before they were ready."""
    folder = tmp_path_factory.mktemp("watched")
    with admin_client(broker.bootstrap_servers) as admin:
        admin.create_topics(
            {name: {"num_partitions": 2, "replication_factor": 1} for name in TOPICS}, wait_for_metadata=True
        )
    common = ("--kafka.bootstrap-servers", broker.bootstrap_servers, "--delivery", "exactly_once")
    workers = {kind: WorkerProcess(folder / f"{kind}.log", *common, *flags, kind=kind) for kind, flags in FLAGS.items()}
    settings = settings_for({kind: worker.port for kind, worker in workers.items()}, {"namespace": NAMESPACE})
    try:
        with running_prometheus(folder, settings) as running:
            for worker in workers.values():
                worker.wait_until_ready()
            with load(broker.bootstrap_servers, folder):
                yield running
    finally:
        for worker in workers.values():
            worker.kill()
