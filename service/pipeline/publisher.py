"""The thread that encodes predictions as labels and passes them to the delivery."""

import logging
import queue
import threading
import time
from collections.abc import Sequence

import numpy as np

from inference.core import Result
from service.delivery.protocol import Delivery, Labels, Ticket
from service.kind import Block, Keeper, Kind
from service.monitoring.metrics import WorkerMetrics, observe_all

log = logging.getLogger(__name__)

# Labels of a backlog are gathered for so long, because few large requests to Kafka cost less than many; and how often
# the thread looks meanwhile for other labels, which don't wait.
GATHER_S = 0.05
GATHERINGS = 5


class Publisher(threading.Thread):
    """Encodes results as labels in the order in which they come, all that wait at once."""

    def __init__(
        self,
        delivery: Delivery,
        kind: Kind,
        labels: Sequence[str],
        metrics: WorkerMetrics,
        keeper: Keeper | None = None,
    ) -> None:
        super().__init__(name=f"{metrics.worker}-publisher", daemon=True)
        self.error: BaseException | None = None
        self._delivery = delivery
        self._kind = kind
        self._labels = labels
        self._metrics = metrics
        self._keeper = keeper
        self._results: queue.SimpleQueue[tuple[Result, float] | None] = queue.SimpleQueue()
        self._closing = False

    def put(self, result: Result) -> None:
        """Queue a result; called on the core's thread."""
        self._results.put((result, time.monotonic()))

    def wake(self) -> None:
        """Call the delivery's `turn` now; called on any thread."""
        self._results.put(None)

    def run(self) -> None:
        """Publish until closed; an error that isn't Kafka's ends the thread and is kept in ``error``."""
        try:
            wait_s, closing = 0.0, False
            while not closing:
                closing = self._closing  # what was queued by then is still published
                published = self._publish(self._take(0.0 if closing else wait_s))
                wait_s = self._delivery.turn()
                self._count_and_keep(published)
        except BaseException as error:
            self.error = error
            log.exception("the publisher died")

    def close(self, timeout_s: float) -> None:
        """Publish what is queued, then end."""
        self._closing = True
        self.wake()
        if self.is_alive():
            self.join(timeout_s)

    def _take(self, wait_s: float) -> list[tuple[Result, float]]:
        """Wait for results; return all that wait, and, while all are of a backlog, those of the next moment."""
        items = self._drain(wait_s)
        for _ in range(GATHERINGS):
            if not items or not all(item is not None and _may_wait(item[0]) for item in items):
                break
            time.sleep(GATHER_S / GATHERINGS)
            items += self._drain(0.0)
        return [item for item in items if item is not None]

    def _drain(self, wait_s: float) -> list[tuple[Result, float] | None]:
        """Return what is queued, None for each wake-up; wait up to ``wait_s`` for the first."""
        items = []
        try:
            items.append(self._results.get(timeout=wait_s) if wait_s > 0 else self._results.get_nowait())
            while True:
                items.append(self._results.get_nowait())
        except queue.Empty:
            return items

    def _publish(self, items: list[tuple[Result, float]]) -> list[Result]:
        """Publish the labels of results whose partitions are still held; return those results."""
        labels: list[Labels] = []
        published: list[Result] = []
        for result, delivered_at in items:
            ticket: Ticket = result.ticket
            if ticket.owner.alive:  # else predictions of an older assignment
                labels.append(self._encode(result, ticket, delivered_at))
                published.append(result)
        if labels:
            self._delivery.publish(labels)
        return published

    def _count_and_keep(self, published: list[Result]) -> None:
        """Do what their labels needn't wait for: count features, and offer the results to the keeper."""
        for result in published:
            block = result.ticket.block
            self._count_features(result, block)
            if self._keeper is not None:
                self._keeper.offer(result, block, result.ticket.owner.source)

    def _encode(self, result: Result, ticket: Ticket, delivered_at: float) -> Labels:
        self._count_batch(result)
        bodies = self._kind.encode_labels(result, ticket.block, ticket.owner.source.partition)
        self._count_labels(result)
        return Labels(bodies, ticket, result.start, delivered_at)

    def _count_labels(self, result: Result) -> None:
        metrics, chosen = self._metrics, result.probabilities.argmax(axis=1)
        for label, count in enumerate(np.bincount(chosen).tolist()):
            if count:
                metrics.predictions[self._labels[label]].inc(count)
        observe_all(metrics.confidence, result.probabilities.max(axis=1).astype(np.float64))
        if result.familiarity is not None and metrics.familiarity is not None:
            observe_all(metrics.familiarity, result.familiarity.astype(np.float64))

    def _count_features(self, result: Result, block: Block) -> None:
        population, tenths = result.bundle.manifest.population, self._metrics.tenths
        if self._kind.features is None or population is None:
            return
        for name, values in self._kind.features(block.frames[result.start : result.stop]).items():
            if name not in tenths or name not in population.tenths:
                continue
            counts = np.bincount(np.searchsorted(population.tenths[name], values), minlength=10).tolist()
            for counter, count in zip(tenths[name], counts, strict=True):
                if count:
                    counter.inc(count)

    def _count_batch(self, result: Result) -> None:
        metrics = self._metrics
        metrics.stages["queue"].observe(result.queue_s)
        if result.opens_batch:
            metrics.stages["inference"].observe(result.inference_s)
            metrics.batch_frames.observe(result.batch_frames)
            metrics.batches[result.reason].inc()


def _may_wait(result: Result) -> bool:
    owner = result.ticket.owner
    return bool(owner.alive and owner.behind)
