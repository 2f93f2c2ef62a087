"""Up to which moment a partition has been heard: silence is judged against that, never against the clock alone.

That is when the latest fetch was sent whose high watermark has been processed since. kafka-python's fetcher is watched
for it, by its response handler, which is called with the moment of sending.
"""

import collections
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import kafka
from kafka.errors import OffsetOutOfRangeError
from kafka.structs import TopicPartition

_REMEMBERED_FETCHES = 4096


class Hearing:
    """Up to which moment each partition has been heard, on the clock of ``time.monotonic``.

    The consumer's IO thread notes, the worker's asks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetches: dict[TopicPartition, collections.deque[tuple[float, int]]] = {}
        self._high_watermarks: dict[TopicPartition, int] = {}
        self._heard_until: dict[TopicPartition, float] = {}
        self._last_answer: float | None = None
        self._unreadable = 0
        # Whose fetch was refused because its records have expired; who tells of it takes it out.
        self.expired: set[TopicPartition] = set()

    def note_response(
        self,
        partitions: Iterable[TopicPartition],
        sent_at: float,
        high_watermarks: Mapping[TopicPartition, int],
    ) -> None:
        """Take in one fetch response; called on the consumer's IO thread.

        A partition that was asked for but is absent from an incremental fetch session's response has the same
        high watermark as before (KIP-227).
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
        if fetches and fetches[-1][1] == mark:  # only the latest fetch of a high watermark is ever asked for
            fetches.pop()
        fetches.append((sent_at, mark))

    def heard_until(self, partition: TopicPartition, position: int) -> float:
        """Return when the latest fetch was sent whose high watermark is at or below ``position``."""
        with self._lock:
            fetches = self._fetches.get(partition)
            while fetches and fetches[0][1] <= position:
                self._heard_until[partition] = fetches.popleft()[0]
            return self._heard_until.get(partition, float("-inf"))

    @property
    def last_answer(self) -> float | None:
        """When the latest fetch was sent that Kafka has answered, for whatever partition; None before the first."""
        return self._last_answer

    def high_watermark(self, partition: TopicPartition) -> int | None:
        """Return the end of the log as the last response had it."""
        return self._high_watermarks.get(partition)

    def note_unreadable(self, _partition: TopicPartition, records: int) -> None:
        """Take in that records were passed over."""
        with self._lock:
            self._unreadable += records

    def take_unreadable(self) -> int:
        """Return how many records have been passed over since this was asked last."""
        with self._lock:
            taken, self._unreadable = self._unreadable, 0
            return taken

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop what was heard of partitions that have gone."""
        with self._lock:
            for partition in partitions:
                self.expired.discard(partition)
                for table in (self._fetches, self._high_watermarks, self._heard_until):
                    table.pop(partition, None)


def listen(consumer: kafka.KafkaConsumer, hearing: Hearing) -> None:
    """Have a hearing told of each fetch response that a consumer gets."""
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
        hearing.expired |= {
            TopicPartition(topic.topic, partition.partition_index)
            for topic in response.responses
            for partition in topic.partitions
            if partition.error_code == OffsetOutOfRangeError.errno
        }
        handle(node_id, fetch_offsets, sent_at, response)
        if response.error_code == 0:
            # A client over its quota is answered at once and with nothing: what is absent then may well have changed.
            told = high_watermarks if response.throttle_time_ms else fetch_offsets
            hearing.note_response(told, sent_at, high_watermarks)

    fetcher._handle_fetch_response = handle_and_note
