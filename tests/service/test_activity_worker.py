from collections.abc import Callable

import pytest
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from ingest.rejections import Reason
from service.activity_worker import activity_kind
from service.metrics import Families, WorkerMetrics
from service.settings import ActivitySettings
from service.worker import Kind
from tests.ingest.records import HandMade, chunk

FIRST, SECOND = TopicPartition("accelerometer", 0), TopicPartition("accelerometer", 1)
ROWS = [[0.5, 9.5, 0.5]] * 200  # ten seconds
START_MS = 1_700_000_000_000


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def kind(registry: CollectorRegistry) -> Kind:
    metrics = WorkerMetrics(Families(registry), "activity", topics=[], reasons=list(Reason), labels=["Walking"])
    return activity_kind(ActivitySettings(), metrics)


@pytest.fixture
def counted(registry: CollectorRegistry) -> Callable[..., float]:
    def read(name: str, **labels: str) -> float:
        value = registry.get_sample_value(f"stridecast_{name}", {"worker": "activity", **labels})
        assert value is not None
        return value

    return read


def ten_seconds(device: str, *, second: int = 0, offset: int = 0) -> HandMade:
    return HandMade(chunk(device_id=device, start=START_MS + 1000 * second, samples=ROWS), offset=offset)


def test_a_device_on_two_partitions_is_counted_once(kind: Kind, counted: Callable[..., float]) -> None:
    first, second = kind.open_stream(FIRST), kind.open_stream(SECOND)
    for stream, device in [(first, "torn"), (first, "whole"), (second, "torn")]:
        list(stream.push([ten_seconds(device)], 0.0, mute=False)[1])
    list(second.push([ten_seconds("torn", second=10, offset=1)], 1.0, mute=False)[1])
    assert counted("split_devices_total") == 1


def test_a_partition_that_comes_back_does_not_split_its_devices(kind: Kind, counted: Callable[..., float]) -> None:
    """Frames on their way keep the stream of the last assignment alive, and its devices were taken for another's."""
    former = kind.open_stream(FIRST)
    list(former.push([ten_seconds("whole")], 0.0, mute=False)[1])
    list(kind.open_stream(FIRST).push([ten_seconds("whole")], 1.0, mute=False)[1])
    assert len(former) == 1
    assert counted("split_devices_total") == 0


def test_a_mute_replay_rebuilds_what_is_open_and_counts_nothing(kind: Kind, counted: Callable[..., float]) -> None:
    stream = kind.open_stream(FIRST)
    dead_letters, blocks = stream.push([HandMade(b"not JSON"), ten_seconds("phone", offset=1)], 0.0, mute=True)
    assert (dead_letters, list(blocks)) == ([], [])
    assert (len(stream), stream.rewind_to(2)) == (1, 1)
    assert counted("samples_total") == 0
    assert counted("records_rejected_total", reason=Reason.NOT_JSON) == 0
    assert counted("windows_total", outcome="incomplete") == 0


def test_a_block_tells_when_the_record_that_closed_its_windows_was_written(kind: Kind) -> None:
    stream = kind.open_stream(FIRST)
    (block,) = stream.push([ten_seconds("phone")], 0.0, mute=False)[1]
    assert set(block.source_timestamp_ms) == {ten_seconds("phone").timestamp}
    assert block.frames.shape == (len(block.ends_ms), 80, 3)
