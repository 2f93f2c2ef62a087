"""One Apache Kafka for the whole suite."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.broker import Broker, JavaMissing
from service.broker_artifacts import ArtifactError
from service.topics import admin_client


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
