"""Made-up devices take no more memory than is set, and nothing from those that are there."""

from collections.abc import Callable
from pathlib import Path

import pytest
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from ingest.record_batches.record_columns import Records
from ingest.rejections import Reason
from service.activity_worker import activity_kind
from service.configuration.settings import ActivitySettings
from service.kind import Stream
from service.monitoring.metrics import Families, WorkerMetrics
from tests.inference.bundles import har_bundle
from tests.ingest.records import HandMade, chunk

SOURCE = TopicPartition("accelerometer", 0)
START_MS = 1_700_000_000_000


@pytest.fixture
def open_stream(tmp_path: Path) -> Callable[..., Stream]:
    bundle = har_bundle(tmp_path / "tiny-har")
    metrics = WorkerMetrics(Families(CollectorRegistry()), "activity", topics=[], reasons=list(Reason), labels=[])

    def open_one(most: int, until_s: float | None = None) -> Stream:
        return activity_kind(ActivitySettings(max_devices=most), until_s=until_s).prepare(bundle, metrics)(SOURCE)

    return open_one


class Log:
    """Gives a stream one second of each device, a record each, and tells who is refused."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.second = 0
        self.end = 0

    def push(self, *devices: str, at: float = 0.0) -> list[str]:
        self.second += 1
        records = [
            HandMade(
                chunk(device_id=device, start=START_MS + 1000 * self.second, samples=[[0.5, 9.5, 0.5]] * 20),
                offset=self.end + number,
            )
            for number, device in enumerate(devices)
        ]
        self.end += len(records)
        rejections, blocks = self.stream.push(Records.of(records), at, mute=False)
        list(blocks)
        assert all(refused.reason == Reason.TOO_MANY_DEVICES for refused in rejections)
        return [devices[refused.record] for refused in rejections]


def test_devices_beyond_the_bound_are_refused_and_those_that_are_there_go_on(
    open_stream: Callable[[int], Stream],
) -> None:
    log = Log(open_stream(3))
    assert log.push("a", "b") == []
    assert log.push("c", "d", "a", "e", "c", "d", "b") == ["d", "e", "d"]
    assert len(log.stream) == 3
    assert log.push("d", "c", "b", "a") == ["d"]


def test_a_device_that_falls_silent_makes_room(open_stream: Callable[[int], Stream]) -> None:
    log = Log(open_stream(2))
    log.push("a", "b")
    assert log.push("b", "c", at=50.0) == ["c"]
    list(log.stream.fall_silent(61.0))
    assert log.push("c", "d", at=62.0) == []


def test_what_is_refused_for_other_reasons_keeps_its_place_among_them(open_stream: Callable[[int], Stream]) -> None:
    stream = open_stream(1)
    good = [
        HandMade(chunk(device_id=device, start=START_MS), offset=at) for at, device in [(0, "a"), (1, "b"), (3, "c")]
    ]
    records = [*good[:2], HandMade(b"not JSON", offset=2), *good[2:], HandMade(None, offset=4)]
    rejections, blocks = stream.push(Records.of(records), 0.0, mute=False)
    list(blocks)
    assert [(bad.record, bad.reason) for bad in rejections] == [
        (1, "too_many_devices"),
        (2, "not_json"),
        (3, "too_many_devices"),
        (4, "null_value"),
    ]
    assert "activity.max_devices" in rejections[0].detail


def test_a_hundred_thousand_made_up_ids_take_the_room_of_those_that_fit(open_stream: Callable[[int], Stream]) -> None:
    log = Log(open_stream(1000))
    refused = log.push(*(f"made-up-{number}" for number in range(100_000)))
    assert len(refused) == 99_000
    assert len(log.stream) == 1000


def test_history_has_room_for_those_who_came_when_others_had_fallen_silent(
    open_stream: Callable[..., Stream],
) -> None:
    """A backfill took all devices of a batch, perhaps of hours, for devices of one moment, and refused most of them."""
    until_s = START_MS / 1000 + 10_000_000
    stream = open_stream(100, until_s=until_s)

    def once_an_hour(numbers: range) -> Records:
        hours = [START_MS + 3_600_000 * number for number in numbers]
        return Records.of(
            [
                HandMade(chunk(device_id=f"phone-{number}", start=at), offset=number, timestamp=at)
                for number, at in zip(numbers, hours, strict=True)
            ]
        )

    rejections, blocks = stream.push(once_an_hour(range(1000)), 0.0, mute=False)
    list(blocks)
    assert rejections == []
    assert len(stream) <= 64
    at_once = [
        HandMade(chunk(device_id=f"phone-{number}", start=START_MS), offset=number, timestamp=START_MS)
        for number in range(200)
    ]
    stream = open_stream(100, until_s=until_s)
    rejections, blocks = stream.push(Records.of(at_once), 0.0, mute=False)
    list(blocks)
    assert [(bad.record, bad.reason) for bad in rejections] == [
        (number, Reason.TOO_MANY_DEVICES) for number in range(100, 200)
    ]
    assert len(stream) == 100
