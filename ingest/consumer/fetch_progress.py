"""How far the worker has caught up with each partition, as a moment: silence is judged by it, not by the clock.

A worker is caught up at the moment when a fetch was sent whose high watermark it has reached since. Judged by the clock
alone, a worker that lags or gets no answer would take devices for silent whose records it just hasn't read yet. The
response handler of kafka-python's fetcher is wrapped for this, because it is called with the moment of sending.
"""

import collections
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import kafka
from kafka.errors import OffsetOutOfRangeError
from kafka.structs import TopicPartition

_REMEMBERED_FETCHES = 4096


class FetchProgress:
    """The moment at which each partition was caught up, on the clock of ``time.monotonic``.

    The consumer's IO thread writes; the worker's thread reads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetches: dict[TopicPartition, collections.deque[tuple[float, int]]] = {}
        self._high_watermarks: dict[TopicPartition, int] = {}
        self._caught_up_at: dict[TopicPartition, float] = {}
        self._last_answer: float | None = None
        self._unreadable = 0
        self._expired: set[TopicPartition] = set()

    def note_response(
        self,
        partitions: Iterable[TopicPartition],
        sent_at: float,
        high_watermarks: Mapping[TopicPartition, int],
    ) -> None:
        """Record one fetch response; called on the consumer's IO thread.

        ``partitions`` are those that it answers for. One that is absent from the response of an incremental fetch
        session has the same high watermark as before (KIP-227).
        """
        with self._lock:
            self._last_answer = sent_at
            for partition in partitions:
                mark = high_watermarks.get(partition, self._high_watermarks.get(partition))
                if mark is not None and mark >= 0:
                    self._note(partition, sent_at, mark)

    def _note(self, partition: TopicPartition, sent_at: float, mark: int) -> None:
        self._high_watermarks[partition] = mark
        fetches = self._fetches.setdefault(partition, collections.deque(maxlen=_REMEMBERED_FETCHES))
        if fetches and fetches[-1][1] == mark:  # only the latest fetch of a high watermark matters
            fetches.pop()
        fetches.append((sent_at, mark))

    def caught_up_at(self, partition: TopicPartition, position: int) -> float:
        """Return when the latest fetch was sent whose high watermark is at or below ``position``; -inf for none."""
        with self._lock:
            fetches = self._fetches.get(partition)
            while fetches and fetches[0][1] <= position:
                self._caught_up_at[partition] = fetches.popleft()[0]
            return self._caught_up_at.get(partition, float("-inf"))

    @property
    def last_answer(self) -> float | None:
        """When the latest answered fetch was sent, of any partition; None before the first."""
        return self._last_answer

    def high_watermark(self, partition: TopicPartition) -> int | None:
        """Return the high watermark in the last response; None before the first."""
        return self._high_watermarks.get(partition)

    def note_expired(self, partitions: Iterable[TopicPartition]) -> None:
        """Record partitions whose fetch was refused because their records have expired."""
        with self._lock:
            self._expired.update(partitions)

    def take_expired(self, partition: TopicPartition) -> bool:
        """Return whether a fetch of the partition was refused since the last call: its records have expired."""
        with self._lock:
            refused = partition in self._expired
            self._expired.discard(partition)
            return refused

    def note_unreadable(self, _partition: TopicPartition, records: int) -> None:
        """Count records that were skipped because they can't be read."""
        with self._lock:
            self._unreadable += records

    def take_unreadable(self) -> int:
        """Return how many records have been skipped since the last call."""
        with self._lock:
            taken, self._unreadable = self._unreadable, 0
            return taken

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop what is known of partitions that were revoked."""
        with self._lock:
            for partition in partitions:
                self._expired.discard(partition)
                for table in (self._fetches, self._high_watermarks, self._caught_up_at):
                    table.pop(partition, None)


def track(consumer: kafka.KafkaConsumer, fetch_progress: FetchProgress) -> None:
    """Record each fetch response of a consumer in ``fetch_progress``."""
    fetcher = consumer._fetcher
    handle = fetcher._handle_fetch_response

    def handle_and_note(
        node_id: int, fetch_offsets: Mapping[TopicPartition, int], sent_at: float, response: Any
    ) -> None:
        high_watermarks = {
            TopicPartition(topic.topic, partition.partition_index): partition.high_watermark
            for topic in response.responses
            for partition in topic.partitions
        }
        fetch_progress.note_expired(
            TopicPartition(topic.topic, partition.partition_index)
            for topic in response.responses
            for partition in topic.partitions
            if partition.error_code == OffsetOutOfRangeError.errno
        )
        handle(node_id, fetch_offsets, sent_at, response)
        if response.error_code == 0:
            # A client over its quota gets an empty response at once: what is absent from that may well have changed.
            answered = high_watermarks if response.throttle_time_ms else fetch_offsets
            fetch_progress.note_response(answered, sent_at, high_watermarks)

    fetcher._handle_fetch_response = handle_and_note
