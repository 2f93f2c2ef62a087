import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from inference.models import Model
from ingest.rejections import Reason
from service.monitoring.metrics import (
    END_TO_END_BUCKETS,
    STAGE_BUCKETS,
    Families,
    PartitionReading,
    WindowMetrics,
    WorkerMetrics,
    observe_all,
    observe_times,
)
from tests.inference.bundles import constant_bundle, har_bundle

ALLOWED_LABELS = {
    *("worker", "topic", "partition", "reason", "outcome", "label", "stage", "le"),
    *("name", "version", "device", "precision"),
}


def made(registry: CollectorRegistry, worker: str = "activity") -> WorkerMetrics:
    return WorkerMetrics(
        Families(registry), worker, topics=["accelerometer"], reasons=list(Reason), labels=["Walking", "Sitting"]
    )


def test_known_labels_begin_at_zero() -> None:
    registry = CollectorRegistry()
    WindowMetrics(made(registry))
    for reason in Reason:
        labels = {"worker": "activity", "reason": reason}
        assert registry.get_sample_value("stridecast_records_rejected_total", labels) == 0
    for outcome in ("labelled", "incomplete", "duplicate"):
        labels = {"worker": "activity", "outcome": outcome}
        assert registry.get_sample_value("stridecast_windows_total", labels) == 0
    for outcome in ("written", "dropped", "failed"):
        labels = {"worker": "activity", "outcome": outcome}
        assert registry.get_sample_value("stridecast_kept_windows_total", labels) == 0


def test_no_series_has_a_label_that_could_name_a_device() -> None:
    registry = CollectorRegistry()
    WindowMetrics(made(registry))
    seen = {label for family in registry.collect() for sample in family.samples for label in sample.labels}
    assert seen <= ALLOWED_LABELS


def test_buckets_are_as_fine_as_the_contract_asks() -> None:
    assert STAGE_BUCKETS[0] == 50e-6
    assert END_TO_END_BUCKETS[0] == 1e-3
    assert END_TO_END_BUCKETS[-1] >= 10
    fine = [bound for bound in END_TO_END_BUCKETS if bound <= 0.25]
    following = END_TO_END_BUCKETS[1 : len(fine) + 1]
    assert all(after / before <= 1.5 for before, after in zip(fine, following, strict=True))


def test_two_workers_of_one_process_share_families_and_not_series() -> None:
    registry = CollectorRegistry()
    families = Families(registry)
    first, second = (WorkerMetrics(families, name, topics=[], reasons=[], labels=[]) for name in ("activity", "text"))
    first.recovered.inc(2)
    second.recovered.inc(5)
    assert registry.get_sample_value("stridecast_recovered_records_total", {"worker": "activity"}) == 2
    assert registry.get_sample_value("stridecast_recovered_records_total", {"worker": "text"}) == 5


def test_a_worker_that_cuts_no_windows_shows_none() -> None:
    registry = CollectorRegistry()
    families = Families(registry)
    WindowMetrics(WorkerMetrics(families, "activity", topics=[], reasons=[], labels=[]))
    WorkerMetrics(families, "text", topics=[], reasons=[], labels=[])
    of_windows = [family for family in registry.collect() if "window" in family.name or "sample" in family.name]
    assert len(of_windows) == 6
    assert {sample.labels["worker"] for family in of_windows for sample in family.samples} == {"activity"}


def test_depths_are_read_at_the_scrape() -> None:
    registry = CollectorRegistry()
    depth = [3]
    made(registry).read_at_scrape("queue_frames", "Frames waiting.", lambda: depth[0])
    assert registry.get_sample_value("stridecast_queue_frames", {"worker": "activity"}) == 3
    depth[0] = 0
    assert registry.get_sample_value("stridecast_queue_frames", {"worker": "activity"}) == 0


def test_a_partition_that_has_gone_is_no_longer_shown() -> None:
    registry = CollectorRegistry()
    held = [PartitionReading("accelerometer", 3, lag=7, rewind=20, progress_s=12.5)]
    made(registry).read_partitions_at_scrape(lambda: held)
    labels = {"worker": "activity", "topic": "accelerometer", "partition": "3"}
    assert registry.get_sample_value("stridecast_consumer_lag_records", labels) == 7
    assert registry.get_sample_value("stridecast_rewind_records", labels) == 20
    progress = registry.get_sample_value("stridecast_partition_progress_timestamp_seconds", labels)
    assert progress is not None
    assert math.isclose(progress, 12.5)
    held.clear()
    assert registry.get_sample_value("stridecast_consumer_lag_records", labels) is None


def test_each_family_stands_on_the_page_once_however_many_workers_there_are() -> None:
    registry = CollectorRegistry()
    families = Families(registry)
    for name in ("activity", "text", "activity"):
        metrics = WorkerMetrics(families, name, topics=[], reasons=[], labels=[])
        metrics.read_at_scrape("queue_frames", "Frames waiting.", lambda: 1)
        metrics.read_partitions_at_scrape(lambda: [PartitionReading("input", 0, lag=1, rewind=2, progress_s=None)])
    names = [family.name for family in registry.collect()]
    assert len(names) == len(set(names))
    (lag,) = [family for family in registry.collect() if family.name == "stridecast_consumer_lag_records"]
    assert [sample.labels["worker"] for sample in lag.samples] == ["activity", "text"]


def test_only_the_model_that_serves_is_shown_and_only_loads_are_counted(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    metrics = made(registry)
    engine: Any = None
    model = Model(constant_bundle(tmp_path / "bundle"), "bfloat16", engine, "cuda", 8)
    metrics.model_loaded(model)
    metrics.model_serves(dataclasses.replace(model, device="cpu", precision="float32"))
    metrics.model_serves(dataclasses.replace(model, device="cpu", precision="float32"))

    (info,) = [family for family in registry.collect() if family.name == "stridecast_model_info"]
    assert [(sample.labels, sample.value) for sample in info.samples] == [
        ({"worker": "activity", "name": "constant", "version": "1", "device": "cpu", "precision": "float32"}, 1)
    ]
    loads = {"worker": "activity", "outcome": "success"}
    assert registry.get_sample_value("stridecast_model_loads_total", loads) == 1


def test_what_a_model_learned_from_is_not_reported_of_the_next_one(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    metrics = made(registry)
    engine: Any = None
    first = har_bundle(tmp_path / "telling")
    labels = {"worker": "activity", "label": "Walking"}
    metrics.model_serves(Model(first, "float32", engine, "cpu", 8))
    assert registry.get_sample_value("stridecast_training_label_ratio", labels) == pytest.approx(1 / 6)
    assert set(metrics.tenths) == {"movement"}
    metrics.model_serves(Model(har_bundle(tmp_path / "silent", population=None), "float32", engine, "cpu", 8))
    assert registry.get_sample_value("stridecast_training_label_ratio", labels) is None
    assert metrics.tenths == {}


amounts_of_seconds = st.floats(0, 40) | st.sampled_from(END_TO_END_BUCKETS)


def shown_after(observe: Callable[[Histogram], object]) -> tuple[list[Any], float]:
    registry = CollectorRegistry()
    observe(Histogram("seconds", "", registry=registry, buckets=END_TO_END_BUCKETS))
    (family,) = registry.collect()
    *buckets, (_, _, total) = [(sample.name, sample.labels, sample.value) for sample in family.samples][:-1]
    return buckets, total


def one_by_one(amounts: list[float]) -> tuple[list[Any], float]:
    def observe(histogram: Histogram) -> None:
        for amount in amounts:
            histogram.observe(amount)

    return shown_after(observe)


@given(st.lists(amounts_of_seconds, max_size=40))
def test_observing_many_at_once_is_observing_them_one_by_one(amounts: list[float]) -> None:
    """At the very bounds of the buckets as well."""
    buckets, total = shown_after(lambda histogram: observe_all(histogram, np.array(amounts, np.float64)))
    wanted, wanted_total = one_by_one(amounts)
    assert buckets == wanted
    assert total == pytest.approx(wanted_total)


@given(amounts_of_seconds, st.integers(0, 40))
def test_observing_the_same_many_times_at_once_is_observing_it_each_time(amount: float, times: int) -> None:
    buckets, total = shown_after(lambda histogram: observe_times(histogram, amount, times))
    wanted, wanted_total = one_by_one([amount] * times)
    assert buckets == wanted
    assert total == pytest.approx(wanted_total)
