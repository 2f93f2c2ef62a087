"""Watches a backfill: how much its group has committed, and when nothing is left to do."""

import threading
import time
from collections.abc import Callable, Mapping

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.protocol.consumer import OffsetSpec
from kafka.structs import TopicPartition

from service.backfill.other_workers import OtherWorkers
from service.backfill.stretch import require_end, unfinished
from service.host.progress import Reached
from service.kafka_admin.groups import Commits, commits_of
from service.kind import WorkerError

LOOK_S = 0.25
LOOK_AROUND_S = 2.0


class Watch(threading.Thread):
    """Shows a group's progress; sets ``stop`` when it is ``complete``, or can't get there for the reason in ``error``.

    While Kafka is away, which the worker logs, it waits.
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
        """Check now and then, until nothing is left or ``stop`` is set."""
        try:
            while not self.complete and not self._stop_all.wait(LOOK_S):
                try:
                    self._look()
                except KafkaError as error:
                    if not error.retriable:
                        raise
        except BaseException as error:  # also the error of showing progress on a closed terminal
            self.error = error
        finally:
            self._stop_all.set()

    def _look(self) -> None:
        commits = commits_of(self._admin, self._group, self._ends)
        gone = sorted(source for source, at in commits.items() if at.offset < 0)
        if gone:
            self._look_around({})  # deleting the topic deletes its commits
            if len(gone) < len(self._ends):
                raise WorkerError(f"group {self._group} has lost its commit of {gone[0].topic}[{gone[0].partition}]")
            self.complete = True  # another process finished and deleted the group before this one joined
            return
        ends = {source: require_end(self._group, source, at) for source, at in commits.items()}
        self._show(self._reached(commits))
        left = unfinished(commits, ends)
        self.complete = not left
        if left and time.monotonic() - self._looked_around >= LOOK_AROUND_S:
            self._looked_around = time.monotonic()
            self._look_around(left)

    def _look_around(self, left: Mapping[TopicPartition, int]) -> None:
        """Raise WorkerError if the log is gone, or other workers label what is left."""
        self._others.refuse(self._admin, left)
        log_ends = self._admin.list_partition_offsets(dict.fromkeys(self._ends, OffsetSpec.LATEST))
        for source, end in sorted(self._ends.items()):
            if log_ends[source].offset < end:
                raise WorkerError(
                    f"{source.topic}[{source.partition}] ends at {log_ends[source].offset:,}, and went on to {end:,} "
                    "before: it was cut off, or made anew"
                )

    def _reached(self, commits: Commits) -> Reached:
        """Return how many of the records are done, by all processes."""
        at = {source: min(int(commits[source].offset), end) for source, end in self._ends.items()}
        self._firsts = self._firsts or at
        first = sum(self._firsts.values())
        done, total = sum(at.values()) - first, sum(self._ends.values()) - first
        return Reached(done, total, time.monotonic() - self._began, f"{done:,} of {total:,} records")
