"""Logs what gets no label: refused records, and readings that came too late."""

import collections
import logging
from collections.abc import Iterable, Sequence

from kafka.structs import TopicPartition

from ingest.record_batches.record_columns import Records
from ingest.rejections import Rejection
from service.kind import Stream

log = logging.getLogger(__name__)

LOOK_S = 5.0
QUIET_S = 60.0
# Fewer late readings than one device sends in a second are not worth a line.
FEW_READINGS = 20


class Losses:
    """Warns of each kind of loss once a minute at most; called on the worker's thread.

    What comes within five seconds of the first is told with it.
    """

    def __init__(self) -> None:
        self._refused: collections.Counter[str] = collections.Counter()
        self._last = ""
        self._readings = self._late = 0
        self._looked_at = self._refused_told_at = self._late_told_at = self._counted_since = float("-inf")

    def refused(self, source: TopicPartition, records: Records, rejections: Sequence[Rejection]) -> None:
        """Take note of the rejections, at least one, of a partition's records."""
        self._refused.update(rejection.reason.value for rejection in rejections)
        last = rejections[-1]
        self._last = f"{source.topic}[{source.partition}]@{records.offset[last.record]}: {last.detail}"

    def notice(self, now: float, streams: Iterable[Stream]) -> None:
        """Warn of what is due; does nothing within `LOOK_S` of the last look."""
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        if self._refused and now - self._refused_told_at >= QUIET_S:
            self._refused_told_at = now
            self.tell_refused()
        if now - self._counted_since >= QUIET_S:
            self._counted_since, self._readings, self._late = now, 0, 0
        for stream in streams:
            readings, late = stream.take_late()
            self._readings += readings
            self._late += late
        many = self._late >= FEW_READINGS and 2 * self._late > self._readings
        if many and now - self._late_told_at >= QUIET_S:
            self._late_told_at = now
            log.warning(
                "%d of the last %d readings were dropped as late: their devices had sent newer ones, by more than "
                "activity.lateness_slots allows; is this a replay of old readings?",
                self._late,
                self._readings,
            )

    def tell_refused(self) -> None:
        """Warn of the records that were refused since the last time, if there are any."""
        if not self._refused:
            return
        reasons = self._refused.most_common()
        total = self._refused.total()
        shown = reasons[0][0] if total == 1 else ", ".join(f"{number} {reason}" for reason, number in reasons)
        log.warning(
            "%s refused (%s), %s %s; see stridecast dead-letters",
            "1 record was" if total == 1 else f"{total} records were",
            shown,
            "at" if total == 1 else "the last at",
            self._last,
        )
        self._refused.clear()
