"""Watches a backfill: how much of it its group has committed, and when there is nothing left to do."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from service.backfill.stretch import open_from
from service.delivery.span import Span

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

    It is when everything before the ends has been committed, with nothing open but what is left so: whoever dies
    between the two leaves it to the others. Kafka may be away meanwhile; the worker tells of that.
    """

    def __init__(
        self,
        admin: KafkaAdminClient,
        group: str,
        span: Span,
        show: Callable[[Progressed], None],
        stop: threading.Event,
    ) -> None:
        super().__init__(name="backfill-watch", daemon=True)
        self.complete = False
        self._admin = admin
        self._group = group
        self._ends = span.ends or {}
        self._span = span
        self._show = show
        self._stop_all = stop
        self._began = time.monotonic()

    def run(self) -> None:
        """Look now and then, until there is nothing left or somebody else has set ``stop``."""
        try:
            self._watch()
        except Exception:  # else nobody would ever end it
            log.exception("the thread that watches the backfill died")
            self._stop_all.set()

    def _watch(self) -> None:
        while not self._stop_all.wait(LOOK_S):
            try:
                commits = self._admin.list_group_offsets({self._group: list(self._ends)})[self._group]
            except KafkaError as error:
                log.debug("can't see how far the backfill is: %s", error)
                continue
            self._show(self._progressed(commits))
            if all(self._is_done(source, commits[source]) for source in self._ends):
                self.complete = True
                self._stop_all.set()

    def _progressed(self, commits: Mapping[TopicPartition, OffsetAndMetadata]) -> Progressed:
        firsts = {source: self._span.first(source) for source in self._ends}
        total = sum(max(0, end - firsts[source]) for source, end in self._ends.items())
        done = sum(max(0, min(int(commits[source].offset), end) - firsts[source]) for source, end in self._ends.items())
        return Progressed(done, total, time.monotonic() - self._began)

    def _is_done(self, source: TopicPartition, commit: OffsetAndMetadata) -> bool:
        end = self._ends[source]
        if self._span.first(source) >= end:
            return True
        if commit.offset < end or source in self._span.left_open:
            return bool(commit.offset >= end)
        return open_from(commit) >= end
