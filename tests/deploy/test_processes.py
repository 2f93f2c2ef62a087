"""The compose stack without containers: the same commands and variables, run as processes beside the same Kafka."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.broker.artifacts import ArtifactError, ensure_jars
from service.broker.errors import JavaMissing
from service.broker.properties import server_properties
from tests.deploy import kafka_container
from tests.deploy.composed import health_command, image_environment, mounts, ours, seconds, services
from tests.kafka.outside_client import read_topic
from tests.kafka.worker_process import clean_environment

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(500)]
PATIENCE_S = 180
IN_NETWORK = "kafka:19092"
OF_ADDRESSES = re.compile(r".*listener.*|controller\.quorum\.voters|log\.dirs")


@dataclass(frozen=True)
class Kafka:
    """A broker that runs with the settings of the compose file."""

    port: int
    properties: dict[str, str]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    try:
        ensure_jars()
        folder = tmp_path_factory.mktemp("kafka")
        environment, port = kafka_container.on_this_machine(services()["kafka"]["environment"], folder)
        settings = kafka_container.set_up(environment, folder)
    except (ArtifactError, JavaMissing) as error:
        if os.environ.get("REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(f"no Kafka to test against: {error}")
    lines = [line for line in settings.read_text().splitlines() if line.strip()]
    with kafka_container.running(settings, folder / "kafka.log"):
        yield Kafka(port, dict(line.split("=", 1) for line in lines))


def test_kafka_is_set_as_the_broker_that_ships(kafka: Kafka) -> None:
    """What exactly once needs of a single broker is proved with that one, in tests/chaos."""
    shipped = server_properties(9092, 9093)
    differing = {name for name in kafka.properties | shipped if kafka.properties.get(name) != shipped.get(name)}
    assert [name for name in differing if not OF_ADDRESSES.fullmatch(name)] == []


def test_labels_flow_until_the_containers_are_stopped(kafka: Kafka, tmp_path: Path) -> None:
    here = f"127.0.0.1:{kafka.port}"
    assert _finished("topics", here, tmp_path) == 0
    with ExitStack() as running:
        workers = {
            name: running.enter_context(_running(name, here, tmp_path)) for name in ("activity-worker", "text-worker")
        }
        for worker in workers.values():
            _wait(worker.is_healthy, worker)
        senders = [running.enter_context(_running(name, here, tmp_path)) for name in ("replay", "replay-texts")]
        for topic in ("activities", "text-labels"):
            assert len(read_topic(here, topic, until=lambda labels: len(labels) >= 20, timeout_s=PATIENCE_S)) >= 20
        assert [sender.stopped() for sender in senders] == [0, 0]
        assert [worker.stopped() for worker in workers.values()] == [0, 0]


@dataclass(frozen=True)
class Container:
    """A service's process in the place of its container."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def is_healthy(self) -> bool:
        """Run the image's health check on the port that is this one's."""
        command = [word.replace(":9464/", f":{self.port}/") for word in health_command()]
        return subprocess.run([sys.executable, *command[1:]], capture_output=True).returncode == 0

    def stopped(self) -> int:
        """Stop it as Docker does; return its status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds(ours()[self.name]["stop_grace_period"]))
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} did not stop in time; it said:\n{self.log.read_text()}")


def _start(name: str, kafka: str, folder: Path) -> Container:
    """Start a service's own command with its own variables; addresses, and what is mounted, lie here."""
    service = ours()[name]
    (port,) = kafka_container.free_ports(1)
    environment = {**image_environment(), **service["environment"]}
    assert environment["STRIDECAST_KAFKA__BOOTSTRAP_SERVERS"] == IN_NETWORK
    assert environment["STRIDECAST_HTTP__HOST"] == "0.0.0.0"
    environment |= {
        "STRIDECAST_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "STRIDECAST_HTTP__HOST": "127.0.0.1",
        "STRIDECAST_HTTP__PORT": str(port),
    }
    command = list(service["command"])
    for place, path in mounts(service).items():
        command = [word.replace(f"{place}/", f"{path}/") for word in command]
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", *command],
            env={**clean_environment(), **environment},
            stdout=output,
            stderr=output,
        )
    return Container(name, process, port, log)


@contextmanager
def _running(name: str, kafka: str, folder: Path) -> Iterator[Container]:
    container = _start(name, kafka, folder)
    try:
        yield container
    finally:
        container.process.kill()
        container.process.wait()


def _finished(name: str, kafka: str, folder: Path) -> int:
    """Run a service to its end, again while it fails, as a container is that Kafka's health doesn't hold back."""
    deadline = time.monotonic() + PATIENCE_S
    while (status := _start(name, kafka, folder).process.wait(PATIENCE_S)) != 0 and time.monotonic() < deadline:
        pass
    return status


def _wait(condition: Callable[[], bool], container: Container) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert container.process.poll() is None, container.log.read_text()
        assert time.monotonic() < deadline, container.log.read_text()
        time.sleep(0.2)
