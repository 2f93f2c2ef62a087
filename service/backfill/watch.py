"""Watches a backfill: how much of it its group has committed, and when there is nothing left to do."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from service.delivery.span import Span
from service.worker import Worker

log = logging.getLogger(__name__)

LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Progressed:
    """How many of the records are done with, by all who share them, and since when this process has been at it."""

    done: int
    total: int
    seconds: float


class Watch(threading.Thread):
    """Shows how far a group is in a span, and sets ``stop`` when it is through: ``complete`` tells whether it is.

    It is when all that is before the ends has been committed, and the worker has closed what it holds. Kafka may be
    away meanwhile; the worker tells of that.
    """

    def __init__(
        self,
        worker: Worker,
        span: Span,
        admin: KafkaAdminClient,
        group: str,
        show: Callable[[Progressed], None],
        stop: threading.Event,
    ) -> None:
        super().__init__(name="backfill-watch", daemon=True)
        self.complete = False
        self._worker = worker
        self._span = span
        self._admin = admin
        self._group = group
        self._show = show
        self._stop_all = stop
        self._began = time.monotonic()

    def run(self) -> None:
        """Look now and then, until there is nothing left or somebody else has set ``stop``."""
        while not self._stop_all.wait(LOOK_S):
            try:
                left = self._look()
            except KafkaError as error:
                log.debug("can't see how far the backfill is: %s", error)
                continue
            if not left and self._worker.ended:
                self.complete = True
                self._stop_all.set()

    def _look(self) -> int:
        """Show how many records have been committed; return how many have not."""
        spans = {source: (self._span.first(source), end) for source, end in (self._span.ends or {}).items()}
        committed: Mapping[TopicPartition, OffsetAndMetadata] = self._admin.list_group_offsets(
            {self._group: list(spans)}
        )[self._group]
        total = sum(max(0, end - first) for first, end in spans.values())
        reached = {source: max(first, int(committed[source].offset)) for source, (first, _) in spans.items()}
        left = sum(max(0, end - reached[source]) for source, (_, end) in spans.items())
        self._show(Progressed(total - left, total, time.monotonic() - self._began))
        return left
