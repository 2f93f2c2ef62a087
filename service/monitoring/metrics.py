"""The worker's Prometheus metrics: names, labels and buckets as docs/operations.md lists them.

Families are registered in the registry that is passed in; every series has the label ``worker``. Depths are read where
they are kept, at the moment of the scrape, never counted up and down.
"""

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from inference.lanes import OUTCOMES as FAILURE_OUTCOMES
from inference.lanes import REASONS
from inference.manifest import Population
from inference.models import Model

STAGES = ("decode", "window", "queue", "inference", "publish")
WINDOW_OUTCOMES = ("labelled", "incomplete", "duplicate")
SAMPLE_DROPS = ("late", "superseded")
KEPT_OUTCOMES = ("written", "dropped", "failed")
OUTCOMES = ("success", "failure")
# Fewer amounts are faster observed one by one: together they take 10 microseconds, whatever their number, else 2 each.
WORTH_COUNTING = 5
TRANSACTION_ENDS = ("committed", "aborted", "fenced")


def geometric(start: float, factor: float, until: float) -> tuple[float, ...]:
    """Return bucket bounds from ``start``, each ``factor`` times the one before, the last at least ``until``."""
    bounds = [start]
    while bounds[-1] < until:
        bounds.append(float(f"{bounds[-1] * factor:.3g}"))
    return tuple(bounds)


STAGE_BUCKETS = geometric(50e-6, 2, 5)
# A factor of 1.45, so that bounds rounded to three digits are at most 1.5 apart.
END_TO_END_BUCKETS = (*geometric(1e-3, 1.45, 0.25), 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
RECOVERY_BUCKETS = geometric(0.01, 2, 600)
LATENESS_BUCKETS = geometric(0.05, 2, 3600)
BATCH_BUCKETS = tuple(float(2**power) for power in range(17))
CONFIDENCE_BUCKETS = tuple(tenth / 20 for tenth in range(1, 21))


Family = TypeVar("Family", Counter, Gauge, Histogram)


class Families:
    """The metric families of a process; workers that share one add their series to the same families."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._by_name: dict[str, Any] = {}
        self.partitions = PartitionGauges()
        registry.register(self.partitions)

    def get(
        self, kind: type[Family], name: str, documentation: str, labels: tuple[str, ...] = (), **options: Any
    ) -> Family:
        """Return the family ``stridecast_<name>``, made on first use; its first label is ``worker``."""
        if name not in self._by_name:
            self._by_name[name] = kind(
                f"stridecast_{name}", documentation, ("worker", *labels), registry=self._registry, **options
            )
        family: Family = self._by_name[name]
        return family


class WorkerMetrics:
    """One worker's series, each initialised to 0 for every label that is known beforehand.

    ``worker`` is the value of the label of that name; ``labels`` are the classes of the model, ``reasons`` the
    reasons for which a record may be rejected.
    """

    def __init__(
        self,
        families: Families,
        worker: str,
        *,
        topics: Sequence[str],
        reasons: Sequence[str],
        labels: Sequence[str],
    ) -> None:
        self.worker = worker
        self._families = families
        # flow
        self.records = self.counters("records", "Records taken from the topic.", topic=topics)
        self.rejected = self.counters("records_rejected", "Records sent to the dead letters.", reason=reasons)
        self.predictions = self.counters("predictions", "Labels published.", label=labels)
        self.confidence = self.histogram(
            "prediction_confidence_ratio", "Probability of the label given.", CONFIDENCE_BUCKETS
        )
        self.familiarity: Histogram | None = None  # if the model has it
        # time
        self.stages = {
            stage: self.histogram("stage_duration_seconds", "Time in a stage.", STAGE_BUCKETS, stage=stage)
            for stage in STAGES
        }
        self.end_to_end = self.histogram(
            "end_to_end_latency_seconds",
            "From the Kafka timestamp of the record that completed the frame to its label's acknowledgement.",
            END_TO_END_BUCKETS,
        )
        # batches
        self.batch_frames = self.histogram("inference_batch_frames", "Frames in a batch.", BATCH_BUCKETS)
        self.batches = self.counters("batches", "Batches by why they left.", reason=REASONS)
        self.inference_failures = self.counters(
            "inference_failures",
            "Batches that the device failed on, by what was done: answered in smaller ones, or by the fallback.",
            outcome=FAILURE_OUTCOMES,
        )
        # Kafka
        self.last_poll = self.gauge("last_poll_timestamp_seconds", "When the worker last polled.")
        self.rebalances = self.counter("rebalances", "Times that partitions came or went.")
        self.commits = self.counters("commits", "Commits of offsets.", outcome=OUTCOMES)
        self.recovered = self.counter("recovered_records", "Records replayed to rebuild what was open.")
        self.unreadable = self.counter("unreadable_records", "Records passed over: their batch can't be decompressed.")
        self.expired = self.counter("expired_records", "Records that expired before they were read.")
        self.reread = self.counter("reread_labels", "Labels read back to know what has been published.")
        self.recovery = self.histogram(
            "recovery_duration_seconds", "From a partition's assignment until it is read on.", RECOVERY_BUCKETS
        )
        self.restarts = self.counter("partition_restarts", "Recoveries of partitions whose output failed.")
        self.transaction_time = self.histogram(
            "transaction_duration_seconds", "From a transaction's beginning to its commit.", END_TO_END_BUCKETS
        )
        self.transactions = self.counters("transactions", "Transactions by how they ended.", outcome=TRANSACTION_ENDS)
        self.dead_letter_failures = self.counter("dead_letter_failures", "Dead letters that Kafka refused.")
        # model
        self._serves: tuple[str, ...] | None = None
        self.model_loads = self.counters("model_loads", "Loads of a bundle.", outcome=OUTCOMES)
        self.tenths: dict[str, list[Counter]] = {}  # by feature

    def model_loaded(self, model: Model) -> None:
        """Count a loaded bundle, and show it as the one that serves."""
        self.model_loads["success"].inc()
        self.model_serves(model)

    def model_serves(self, model: Model) -> None:
        """Show which model serves, and on which device, instead of the one before."""
        names = ("name", "version", "device", "precision")
        info = self._families.get(Gauge, "model_info", "The model that serves; always 1.", names)
        manifest = model.bundle.manifest
        if manifest.tells_strangers:
            self.familiarity = self.histogram(
                "prediction_familiarity_ratio",
                "How much a frame is like those that the model knows.",
                CONFIDENCE_BUCKETS,
            )
        self._learned_from(manifest.labels, manifest.population)
        before, self._serves = self._serves, (manifest.name, manifest.version, model.device, model.precision)
        info.labels(self.worker, *self._serves).set(1)
        if before is not None and before != self._serves:
            info.remove(self.worker, *before)

    def _learned_from(self, labels: Sequence[str], population: Population | None) -> None:
        """Show what the model was trained on; if its bundle doesn't say, nothing."""
        if population is None and not self.tenths:
            return
        shares = self._families.get(Gauge, "training_label_ratio", "Share of a label in the training data.", ("label",))
        if population is None:
            self.tenths = {}
            for label in labels:
                shares.remove(self.worker, label)
            return
        for label, share in zip(labels, population.shares, strict=True):
            shares.labels(self.worker, label).set(share)
        frames = self._families.get(
            Counter,
            "feature_frames",
            "Frames by which tenth of the training data's a feature of theirs is in.",
            ("feature", "tenth"),
        )
        self.tenths = {
            name: [frames.labels(self.worker, name, str(tenth)) for tenth in range(1, 11)] for name in population.tenths
        }

    def read_at_scrape(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is read at each scrape."""
        self.gauge(name, documentation).set_function(read)

    def read_partitions_at_scrape(self, read: Callable[[], Iterable["PartitionReading"]]) -> None:
        """Add the gauges of the partitions that the worker holds at each scrape."""
        self._families.partitions.readers[self.worker] = read

    def counter(self, name: str, documentation: str) -> Counter:
        """Return the worker's own counter ``stridecast_<name>_total``."""
        return self._families.get(Counter, name, documentation).labels(self.worker)

    def gauge(self, name: str, documentation: str) -> Gauge:
        """Return the worker's own gauge ``stridecast_<name>``."""
        return self._families.get(Gauge, name, documentation).labels(self.worker)

    def counters(self, name: str, documentation: str, **label: Sequence[str]) -> dict[str, Counter]:
        """Return a counter for each value of one label, by value."""
        ((label_name, values),) = label.items()
        family = self._families.get(Counter, name, documentation, (label_name,))
        return {value: family.labels(self.worker, value) for value in values}

    def histogram(self, name: str, documentation: str, buckets: Sequence[float], **label: str) -> Histogram:
        """Return the worker's own histogram, with the labels given."""
        family = self._families.get(Histogram, name, documentation, tuple(label), buckets=buckets)
        return family.labels(self.worker, *label.values())


def observe_all(histogram: Histogram, amounts: NDArray[np.float64]) -> None:
    """Observe each of float64[n] in a histogram, in one call."""
    if len(amounts) < WORTH_COUNTING:
        for amount in amounts.tolist():
            histogram.observe(amount)
        return
    of_bounds = np.bincount(
        np.searchsorted(histogram._upper_bounds, amounts), minlength=len(histogram._upper_bounds)
    ).tolist()
    histogram._sum.inc(float(amounts.sum()))
    for bucket, count in zip(histogram._buckets, of_bounds, strict=True):
        if count:
            bucket.inc(count)


def observe_times(histogram: Histogram, amount: float, times: int) -> None:
    """Observe the same amount so many times, in one call."""
    histogram._sum.inc(amount * times)
    histogram._buckets[bisect.bisect_left(histogram._upper_bounds, amount)].inc(times)


class WindowMetrics:
    """The series of a worker that cuts windows from devices' readings, in addition to those of every worker."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self.samples = metrics.counter("samples", "Readings decoded.")
        self.dropped = metrics.counters("samples_dropped", "Readings that no window holds.", reason=SAMPLE_DROPS)
        self.windows = metrics.counters("windows", "Windows closed.", outcome=WINDOW_OUTCOMES)
        self.split_devices = metrics.counter("split_devices", "Devices seen on a second partition.")
        self.overflow = metrics.counter(
            "snapshot_overflow_devices",
            "Silent devices that found no room in a commit: a recovery may repeat their windows.",
        )
        self.kept = metrics.counters(
            "kept_windows", "Windows to be kept for labelling, by what became of them.", outcome=KEPT_OUTCOMES
        )
        self.window_age = metrics.histogram(
            "window_age_seconds", "Acknowledgement of the label minus the window's end.", END_TO_END_BUCKETS
        )
        self.lateness = metrics.histogram(
            "sample_lateness_seconds", "How far behind its device's newest a late reading was.", LATENESS_BUCKETS
        )


@dataclass(frozen=True, slots=True)
class PartitionReading:
    """The values of one partition's gauges; None if not known yet."""

    topic: str
    partition: int
    lag: int | None
    rewind: int
    progress_s: float | None


class PartitionGauges(Collector):
    """Lag, rewind and progress of the partitions held now.

    One for all workers of a process, because a family may occur only once on the page.
    """

    def __init__(self) -> None:
        self.readers: dict[str, Callable[[], Iterable[PartitionReading]]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the partitions; called by Prometheus' scrape."""
        labels = ("worker", "topic", "partition")
        lag = GaugeMetricFamily("stridecast_consumer_lag_records", "End of the log minus position.", labels=labels)
        rewind = GaugeMetricFamily("stridecast_rewind_records", "Position minus rewind point.", labels=labels)
        progress = GaugeMetricFamily(
            "stridecast_partition_progress_timestamp_seconds",
            "Kafka timestamp of the last record.",
            labels=labels,
        )
        for worker, read in list(self.readers.items()):
            for reading in read():
                values = (worker, reading.topic, str(reading.partition))
                if reading.lag is not None:
                    lag.add_metric(values, reading.lag)
                rewind.add_metric(values, reading.rewind)
                if reading.progress_s is not None:
                    progress.add_metric(values, reading.progress_s)
        yield from (lag, rewind, progress)
