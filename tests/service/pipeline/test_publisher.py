"""What the publisher makes of results, without Kafka or a core."""

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from inference.core import Result
from inference.manifest import Population
from ingest.record_batches.bodies import Bodies, pack
from service.configuration.settings import TextSettings
from service.delivery.protocol import Labels, Ticket
from service.kind import Block, Keeper, Kind
from service.monitoring.metrics import Families, WorkerMetrics
from service.pipeline.publisher import GATHER_S, Publisher
from tests.service.delivery.doors import make_metrics, make_partition, values_in


class FakeDelivery:
    """Keeps labels, and counts turns."""

    def __init__(self) -> None:
        self.published: list[Labels] = []
        self.at_once: list[int] = []
        self.turns = 0

    def publish(self, labels: Sequence[Labels]) -> None:
        self.published += labels
        self.at_once.append(len(labels))

    def turn(self) -> float:
        self.turns += 1
        return 0.01


def encode_labels(result: Result, block: Block, source: int) -> Bodies:
    return pack((b"key", b"%d" % row, []) for row in range(result.start, result.stop))


KIND = Kind("text", TextSettings(), prepare=lambda *_: None, encode_labels=encode_labels)  # type: ignore[arg-type]


def result_for(partition: Any, rows: int) -> Any:
    block = Block(np.zeros(rows), np.zeros(rows, np.int64), None)
    ticket = Ticket(block, partition, partition.ledger.promise(rows), print)
    probabilities = np.full((rows, 1), 1.0, np.float32)
    return SimpleNamespace(
        ticket=ticket,
        start=0,
        stop=rows,
        probabilities=probabilities,
        familiarity=None,
        bundle=SimpleNamespace(manifest=SimpleNamespace(population=None)),
        queue_s=0.0,
        opens_batch=False,
    )


def make_publisher(delivery: FakeDelivery, keeper: Keeper | None = None) -> Publisher:
    metrics = make_metrics()
    metrics.predictions["good"] = metrics.restarts
    return Publisher(delivery, KIND, ["good"], metrics, keeper)  # type: ignore[arg-type]


def test_what_was_put_before_the_end_is_published() -> None:
    delivery = FakeDelivery()
    publisher = make_publisher(delivery)
    publisher.put(result_for(make_partition(), 2))
    publisher.put(result_for(make_partition(), 1))
    publisher.start()
    publisher.close(10.0)
    assert publisher.error is None
    assert [values_in(labels.bodies) for labels in delivery.published] == [[b"0", b"1"], [b"0"]]
    assert delivery.turns >= 1


def test_labels_are_counted_by_name_by_how_sure_and_by_how_familiar_they_are() -> None:
    registry, delivery, partition = CollectorRegistry(), FakeDelivery(), make_partition()
    metrics = WorkerMetrics(Families(registry), "text", topics=[], reasons=[], labels=["good", "bad"])
    manifest = SimpleNamespace(name="m", version="1", labels=["good", "bad"], tells_strangers=True, population=None)
    metrics.model_serves(SimpleNamespace(bundle=SimpleNamespace(manifest=manifest), device="cpu", precision="float32"))  # type: ignore[arg-type]
    publisher = Publisher(delivery, KIND, ["good", "bad"], metrics)  # type: ignore[arg-type]
    result = result_for(partition, 3)
    result.probabilities = np.array([[0.25, 0.75], [0.9, 0.1], [0.21, 0.79]], np.float32)
    result.familiarity = np.array([0.02, 0.99, 0.97], np.float32)
    publisher.put(result)
    publisher.start()
    publisher.close(10.0)
    found = [
        registry.get_sample_value("stridecast_predictions_total", {"worker": "text", "label": label})
        for label in ("good", "bad")
    ]
    assert found == [1, 2]
    named = {"worker": "text"}
    assert registry.get_sample_value("stridecast_prediction_confidence_ratio_bucket", named | {"le": "0.8"}) == 2
    assert registry.get_sample_value("stridecast_prediction_confidence_ratio_count", named) == 3
    assert registry.get_sample_value("stridecast_prediction_familiarity_ratio_bucket", named | {"le": "0.05"}) == 1
    assert registry.get_sample_value("stridecast_prediction_familiarity_ratio_count", named) == 3


def test_features_of_frames_are_counted_by_the_tenths_of_the_training_data() -> None:
    registry, delivery, partition = CollectorRegistry(), FakeDelivery(), make_partition()
    metrics = WorkerMetrics(Families(registry), "text", topics=[], reasons=[], labels=["good"])
    manifest = SimpleNamespace(
        name="m",
        version="1",
        labels=["good"],
        tells_strangers=False,
        population=Population(tenths={"size": tuple(float(bound) for bound in range(1, 10))}, shares=(1.0,)),
    )
    metrics.model_serves(SimpleNamespace(bundle=SimpleNamespace(manifest=manifest), device="cpu", precision="float32"))  # type: ignore[arg-type]
    kind = dataclasses.replace(KIND, features=lambda frames: {"size": frames, "unheard of": frames})
    publisher = Publisher(delivery, kind, ["good"], metrics)  # type: ignore[arg-type]
    metrics.predictions["good"] = metrics.restarts
    result = result_for(partition, 4)
    result.ticket.block.frames[:] = [0.5, 8.5, 8.7, 99.0]
    result.bundle.manifest = manifest
    publisher.put(result)
    publisher.start()
    publisher.close(10.0)
    counted = [
        registry.get_sample_value(
            "stridecast_feature_frames_total", {"worker": "text", "feature": "size", "tenth": str(tenth)}
        )
        for tenth in range(1, 11)
    ]
    assert counted == [1, 0, 0, 0, 0, 0, 0, 0, 2, 1]
    assert registry.get_sample_value("stridecast_training_label_ratio", {"worker": "text", "label": "good"}) == 1


class FakeKeeper:
    """Notes what it is offered, and how many pieces have been published by then."""

    def __init__(self, delivery: FakeDelivery) -> None:
        self.offered: list[tuple[Result, Block, TopicPartition, int]] = []
        self._delivery = delivery

    def start(self) -> None:
        pytest.fail("the worker starts it")

    def offer(self, result: Result, block: Block, source: TopicPartition) -> None:
        self.offered.append((result, block, source, len(self._delivery.published)))

    def close(self, timeout_s: float) -> None:
        pytest.fail("the worker closes it")


def test_a_keeper_is_offered_what_was_labelled_once_it_is_published_and_nothing_else() -> None:
    delivery = FakeDelivery()
    keeper = FakeKeeper(delivery)
    publisher = make_publisher(delivery, keeper)
    here, gone = make_partition(3), make_partition(4)
    gone.alive = False
    results = [result_for(here, 2), result_for(gone, 1)]
    for result in results:
        publisher.put(result)
    publisher.start()
    publisher.close(10.0)
    assert publisher.error is None
    assert keeper.offered == [(results[0], results[0].ticket.block, here.source, 1)]
    assert len(delivery.published) == 1


def test_results_of_an_older_assignment_are_dropped() -> None:
    delivery, partition = FakeDelivery(), make_partition()
    publisher = make_publisher(delivery)
    publisher.put(result_for(partition, 2))
    partition.alive = False
    publisher.start()
    publisher.close(10.0)
    assert delivery.published == []


def test_labels_of_a_backlog_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery, slept = FakeDelivery(), []
    publisher, partition = make_publisher(delivery), make_partition()
    partition.behind = True

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        publisher.put(result_for(partition, len(slept)))

    monkeypatch.setattr("time.sleep", sleep)
    publisher.put(result_for(partition, 7))
    publisher._publish(publisher._take(0.0))
    assert delivery.at_once == [6]
    assert [len(labels) for labels in delivery.published] == [7, 1, 2, 3, 4, 5]
    assert sum(slept) == pytest.approx(GATHER_S)


@pytest.mark.parametrize("why", ["a label of a partition that has caught up", "a wake-up", "a partition that has gone"])
def test_labels_that_are_gathered_hold_up_nothing_that_comes(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    delivery, slept = FakeDelivery(), []
    publisher, partition = make_publisher(delivery), make_partition()
    partition.behind = True

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if why == "a wake-up":
            publisher.wake()
        elif why == "a partition that has gone":
            partition.alive = False
        else:
            publisher.put(result_for(make_partition(4), 1))

    monkeypatch.setattr("time.sleep", sleep)
    publisher.put(result_for(partition, 7))
    publisher._take(0.0)
    assert len(slept) == 1


def test_labels_wait_for_nothing_where_one_of_them_is_of_a_partition_without_a_backlog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delivery = FakeDelivery()
    publisher, behind, caught_up = make_publisher(delivery), make_partition(3), make_partition(4)
    behind.behind = True
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waits"))
    for partition in (behind, caught_up, behind):
        publisher.put(result_for(partition, 1))
    publisher._publish(publisher._take(0.0))
    assert delivery.at_once == [3]
