"""Seeds, brokers, bundles, and the table of what was counted."""

import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inference.bundle import Bundle
from service.broker.artifacts import ArtifactError
from service.broker.errors import JavaMissing
from tests.chaos.broker import FragileBroker
from tests.chaos.cluster import FragileCluster
from tests.chaos.faults import KILLS
from tests.chaos.stage import DELIVERIES, Kafka, Stage, open_stage
from tests.inference.bundles import har_bundle, text_bundle

SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(300))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = itertools.chain.from_iterable(terminalreporter.stats.values())
    if any("tests/chaos/" in getattr(report, "nodeid", "") for report in reports):
        terminalreporter.section(f"CHAOS_SEED={SEED} CHAOS_KILLS={KILLS} does the same again")


@pytest.fixture(scope="session")
def seed() -> int:
    return SEED


@pytest.fixture(params=DELIVERIES)
def delivery(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def make_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., FragileBroker]]:
    """Start a broker; ``folder`` is where it keeps its data, and the rest as for FragileBroker."""
    started: list[FragileBroker] = []

    def make(folder: Path | None = None, **settings: object) -> FragileBroker:
        broker = FragileBroker(folder or tmp_path_factory.mktemp("kafka"), **settings)  # type: ignore[arg-type]
        started.append(broker)
        with _kafka_or_skip():
            broker.start()
        return broker

    yield make
    for broker in started:
        broker.stop()


@contextmanager
def _kafka_or_skip() -> Iterator[None]:
    """Have Kafka start quickly; skip the test where it can't be had."""
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
    try:
        yield
    except (ArtifactError, JavaMissing) as error:
        if os.environ.get("REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(f"no Kafka to hurt: {error}")


@pytest.fixture(scope="module")
def make_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., FragileCluster]]:
    """Start three nodes, settings as for FragileCluster."""
    started: list[FragileCluster] = []

    def make(**settings: int) -> FragileCluster:
        cluster = FragileCluster(tmp_path_factory.mktemp("cluster"), **settings)
        with _kafka_or_skip():
            cluster.start()
        started.append(cluster)
        return cluster

    yield make
    for cluster in started:
        cluster.stop()


@pytest.fixture(scope="session")
def shared_broker(make_broker: Callable[..., FragileBroker]) -> FragileBroker:
    """The broker of scenarios that leave brokers alone."""
    return make_broker()


@pytest.fixture(scope="session")
def activity_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """What it says is nonsense, but each frame has an answer of its own."""
    return har_bundle(tmp_path_factory.mktemp("bundles") / "tiny-har")


@pytest.fixture(scope="session")
def sentence_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return text_bundle(tmp_path_factory.mktemp("bundles") / "tiny-text")


@pytest.fixture
def make_stage(
    request: pytest.FixtureRequest, activity_bundle: Bundle, sentence_bundle: Bundle, tmp_path: Path
) -> Callable[..., Stage]:
    """Make topics on the shared broker, or elsewhere, and the flags of workers for them: see ``open_stage``."""

    def make(broker: Kafka | None = None, kind: str = "activity", **settings: object) -> Stage:
        bundle = {"activity": activity_bundle, "text": sentence_bundle}[kind]
        kafka = broker or request.getfixturevalue("shared_broker")
        return open_stage(kafka, tmp_path, bundle, kind=kind, **settings)  # type: ignore[arg-type]

    return make
