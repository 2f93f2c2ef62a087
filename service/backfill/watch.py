"""Watches a backfill: how much of it its group has committed, and when there is nothing left to do."""

import threading
import time
from collections.abc import Callable, Mapping

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.protocol.consumer import OffsetSpec
from kafka.structs import TopicPartition

from service.backfill.other_workers import OtherWorkers
from service.backfill.stretch import require_end, unfinished
from service.groups import Commits, commits_of
from service.kind import WorkerError
from service.progress import Reached

LOOK_S = 0.25
LOOK_AROUND_S = 2.0


class Watch(threading.Thread):
    """Shows how far a group is, and sets ``stop`` when it is through, which ``complete`` tells, or can't get there.

    What stands in its way waits in ``error``. While Kafka is away, which the worker tells of, it waits.
    """

    def __init__(
        self,
        admin: KafkaAdminClient,
        group: str,
        ends: Mapping[TopicPartition, int],
        others: OtherWorkers,
        show: Callable[[Reached], None],
        stop: threading.Event,
    ) -> None:
        super().__init__(name="backfill-watch", daemon=True)
        self.complete = False
        self.error: BaseException | None = None
        self._admin = admin
        self._group = group
        self._ends = ends
        self._others = others
        self._show = show
        self._stop_all = stop
        self._began = self._looked_around = time.monotonic()
        self._firsts: dict[TopicPartition, int] = {}

    def run(self) -> None:
        """Look now and then, until there is nothing left or somebody else has set ``stop``."""
        try:
            while not self.complete and not self._stop_all.wait(LOOK_S):
                try:
                    self._look()
                except KafkaError as error:
                    if not error.retriable:
                        raise
        except BaseException as error:  # also what a terminal that has gone makes of its progress
            self.error = error
        finally:
            self._stop_all.set()

    def _look(self) -> None:
        commits = commits_of(self._admin, self._group, self._ends)
        gone = sorted(source for source, at in commits.items() if at.offset < 0)
        if gone:
            self._look_around({})  # with the topic its commits go
            if len(gone) < len(self._ends):
                raise WorkerError(f"group {self._group} has lost its commit of {gone[0].topic}[{gone[0].partition}]")
            self.complete = True  # whoever ended it deleted the group before this process was in it
            return
        ends = {source: require_end(self._group, source, at) for source, at in commits.items()}
        self._show(self._reached(commits))
        left = unfinished(commits, ends)
        self.complete = not left
        if left and time.monotonic() - self._looked_around >= LOOK_AROUND_S:
            self._looked_around = time.monotonic()
            self._look_around(left)

    def _look_around(self, left: Mapping[TopicPartition, int]) -> None:
        """Raise WorkerError where the log is no longer there, or others label what is left."""
        self._others.refuse(self._admin, left)
        log_ends = self._admin.list_partition_offsets(dict.fromkeys(self._ends, OffsetSpec.LATEST))
        for source, end in sorted(self._ends.items()):
            if log_ends[source].offset < end:
                raise WorkerError(
                    f"{source.topic}[{source.partition}] ends at {log_ends[source].offset:,}, and went on to {end:,} "
                    "before: it was cut off, or made anew"
                )

    def _reached(self, commits: Commits) -> Reached:
        """How many of the records are done with, by all who share them."""
        at = {source: min(int(commits[source].offset), end) for source, end in self._ends.items()}
        self._firsts = self._firsts or at
        first = sum(self._firsts.values())
        done, total = sum(at.values()) - first, sum(self._ends.values()) - first
        return Reached(done, total, time.monotonic() - self._began, f"{done:,} of {total:,} records")
