"""One Apache Kafka for the whole suite."""

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.broker.artifacts import ArtifactError
from service.broker.errors import JavaMissing
from service.broker.node import Broker
from service.kafka_admin.topics import admin_client
from tests.kafka.stage import Stage, nonsense_bundle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running broker; its address is `broker.bootstrap_servers`. All tests share it: make topics of your own."""
    # For every JVM that a test starts: none lives long enough for its optimised code to pay for the optimising.
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
    try:
        broker = Broker(tmp_path_factory.mktemp("kafka"), heap="512m").start()
    except (ArtifactError, JavaMissing) as error:
        if os.environ.get("REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(f"no Kafka to test against: {error}")
    with broker:
        yield broker


@pytest.fixture
def topic(broker: Broker) -> Callable[..., str]:
    """Make a topic of a new name, with so many partitions and such settings; return the name."""

    def make(partitions: int = 1, **config: str) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        with admin_client(broker.bootstrap_servers) as admin:
            admin.create_topics(
                {name: {"num_partitions": partitions, "replication_factor": 1, "configs": settings}},
                wait_for_metadata=True,
            )
        return name

    return make


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the activity model with weights that nobody trained."""
    return nonsense_bundle(tmp_path_factory.mktemp("bundles") / "nonsense")


@pytest.fixture
def stage(broker: Broker, topic: Callable[..., str], bundle: Path, tmp_path: Path) -> Callable[..., Stage]:
    def make(
        partitions: int = 1,
        output_partitions: int | None = None,
        dead_letters: dict[str, str] | None = None,
        **settings: str,
    ) -> Stage:
        names = (
            topic(partitions, retention_ms="-1"),
            topic(output_partitions or partitions),
            topic(1, **dead_letters or {}),
        )
        flags = {
            "--kafka.bootstrap-servers": broker.bootstrap_servers,
            "--kafka.group-id": f"group-{names[0]}",
            "--activity.input-topic": names[0],
            "--activity.output-topic": names[1],
            "--activity.dead-letter-topic": names[2],
            "--activity.bundle": str(bundle),
            "--inference.device": "cpu",
            "--inference.precision": "float32",  # what labels are compared with; on some CPUs bfloat16 is faster
            "--delivery": os.environ.get("DELIVERY", "at_least_once"),
            **{f"--{name.replace('__', '.').replace('_', '-')}": value for name, value in settings.items()},
        }
        words = list(itertools.chain.from_iterable(flags.items()))
        return Stage(broker, *names, words, tmp_path / "worker.log", bundle)

    return make
