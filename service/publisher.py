"""The thread that turns predictions into labels on Kafka, and notes what Kafka acknowledged."""

import collections
import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import kafka
import numpy as np
from kafka.errors import KafkaError, MessageSizeTooLargeError
from kafka.structs import TopicPartition

from inference.core import Result
from ingest.contract import SOURCE_OFFSET_HEADER, SOURCE_PARTITION_HEADER, SOURCE_TOPIC_HEADER
from ingest.dead_letters import NULL, ConsumedRecord, dead_letter
from ingest.producer import has_failed
from ingest.rejections import Rejection
from service.kind import Block, Kind, Stream
from service.ledger import Segment
from service.metrics import WorkerMetrics

log = logging.getLogger(__name__)

# What a log line tells of a dead letter: where its record is. The record's own headers have no bound.
PLACE_HEADERS = (SOURCE_TOPIC_HEADER, SOURCE_PARTITION_HEADER, SOURCE_OFFSET_HEADER)


@dataclass(frozen=True, slots=True)
class Message:
    """One record to produce."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int | None = None


class Owner(Protocol):
    """The partition that a label belongs to, for as long as it is assigned to this worker."""

    source: TopicPartition
    stream: Stream
    alive: bool


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """What travels through the core with a block: whose it is, and to which segment its labels are owed."""

    block: Block
    owner: Owner
    segment: Segment
    publish: Callable[[Result], None]


class Publisher(threading.Thread):
    """Says labels and dead letters; what Kafka acknowledged or refused waits here for the worker's own thread."""

    def __init__(
        self,
        producer: kafka.KafkaProducer,
        dead_letter_producer: kafka.KafkaProducer,
        kind: Kind,
        labels: Sequence[str],
        metrics: WorkerMetrics,
    ) -> None:
        super().__init__(name=f"{metrics.worker}-publisher", daemon=True)
        self.acknowledged: collections.deque[Segment] = collections.deque()
        self.failed: collections.deque[tuple[Owner, Exception]] = collections.deque()
        self.error: BaseException | None = None
        self._producer = producer
        self._dead_letter_producer = dead_letter_producer
        self._topic = kind.settings.output_topic
        self._topic_partitions = len(producer.partitions_for(self._topic) or ())
        self._dead_letter_topic = kind.settings.dead_letter_topic
        self._say = kind.say
        self._labels = labels
        self._metrics = metrics
        # Of the dead letters on their way; the worker's own thread alone.
        self._letters: collections.deque[tuple[Any, int]] = collections.deque()  # futures and bytes
        self._letter_bytes = 0
        self._results: queue.SimpleQueue[tuple[Result, float] | None] = queue.SimpleQueue()

    def put(self, result: Result) -> None:
        """Take one piece of predictions; called on the core's thread."""
        self._results.put((result, time.monotonic()))

    def run(self) -> None:
        """Publish until closed; an error that isn't Kafka's ends the thread and waits in ``error``."""
        try:
            while (item := self._results.get()) is not None:
                self._publish(*item)
        except BaseException as error:
            self.error = error
            log.exception("the publisher died")

    def close(self, timeout_s: float) -> None:
        """Publish what has been put, then end."""
        self._results.put(None)
        if self.is_alive():
            self.join(timeout_s)

    def _publish(self, result: Result, delivered_at: float) -> None:
        ticket: Ticket = result.ticket
        if not ticket.owner.alive:  # predictions of an older assignment
            return
        metrics, source = self._metrics, ticket.owner.source.partition
        self._count_batch(result)
        chosen = result.probabilities.argmax(axis=1)
        labels = self._say(result, ticket.block, source)
        for row, (key, value, headers) in enumerate(labels):
            metrics.predictions[self._labels[chosen[row]]].inc()
            metrics.confidence.observe(result.probabilities[row, chosen[row]])
            arrived = functools.partial(self._label_arrived, ticket, result.start + row, delivered_at)
            self._send(Message(self._topic, self.output_of(source), key, value, headers), ticket, arrived)

    def _count_batch(self, result: Result) -> None:
        metrics = self._metrics
        metrics.stages["queue"].observe(result.queue_s)
        if result.opens_batch:
            metrics.stages["inference"].observe(result.inference_s)
            metrics.batch_frames.observe(result.batch_frames)
            metrics.batches[result.reason].inc()

    def output_of(self, source: int) -> int:
        """Return the output partition of an input partition's labels."""
        return source % self._topic_partitions

    def send_dead_letter(self, record: ConsumedRecord, rejection: Rejection, owner: Owner, segment: Segment) -> None:
        """Send a rejected record to the dead letters; called on the worker's own thread."""
        letter = dead_letter(record, rejection, owner.source.topic, owner.source.partition)
        message = Message(self._dead_letter_topic, None, letter.key, letter.value, letter.headers, letter.timestamp)
        future = self._send(message, Ticket(_NO_BLOCK, owner, segment, self.put), None)
        if future is not None:
            size = len(letter.key or b"") + len(letter.value or b"")
            self._letters.append((future, size))
            self._letter_bytes += size

    def letter_bytes_waiting(self) -> int:
        """Return how much of the dead letters Kafka has not answered for; called on the worker's own thread."""
        while self._letters and self._letters[0][0].is_done:
            self._letter_bytes -= self._letters.popleft()[1]
        return self._letter_bytes

    def _send(self, message: Message, ticket: Ticket, arrived: Callable[[], None] | None) -> Any:
        """Hand a message to the producer; return its future, None where it was refused at once."""
        producer = self._dead_letter_producer if arrived is None else self._producer
        try:
            future = producer.send(
                message.topic,
                key=message.key,
                value=NULL if message.value is None else message.value,
                headers=message.headers,
                partition=message.partition,
                timestamp_ms=message.timestamp_ms,
            )
        except KafkaError as error:
            self._refused(message, ticket, arrived is None, error)
            return None
        future.add_callback(self._acknowledged, ticket.segment, arrived)
        future.add_errback(functools.partial(self._refused, message, ticket, arrived is None))
        return future

    def _acknowledged(self, segment: Segment, arrived: Callable[[], None] | None, _metadata: object) -> None:
        if arrived is not None:
            arrived()
        self.acknowledged.append(segment)

    def _label_arrived(self, ticket: Ticket, row: int, delivered_at: float) -> None:
        metrics, now = self._metrics, time.time()
        metrics.stages["publish"].observe(time.monotonic() - delivered_at)
        source_timestamp_ms = ticket.block.source_timestamp_ms[row]
        if source_timestamp_ms >= 0:
            metrics.end_to_end.observe(max(0.0, now - source_timestamp_ms / 1000))
        ticket.owner.stream.labelled(ticket.block, row, now)

    def _refused(self, message: Message, ticket: Ticket, dead_letter: bool, error: Exception) -> None:
        """Hand a failure to the worker's thread, which recovers the partition from the log.

        A dead letter that is too large for its topic would be refused for ever: it is counted, named and left
        where it still is, in the input topic. A producer of labels that has failed takes the worker with it.
        """
        if dead_letter:
            self._metrics.dead_letter_failures.inc()
        if dead_letter and isinstance(error, MessageSizeTooLargeError):
            told = {name: value.decode(errors="replace") for name, value in message.headers if name in PLACE_HEADERS}
            log.error("a rejected record is too large for %s: %s", message.topic, told)
            self.acknowledged.append(ticket.segment)
        else:
            self.failed.append((ticket.owner, error))
        if not dead_letter and has_failed(self._producer):
            self.error = error


_NO_BLOCK = Block(np.empty(0), np.empty(0, np.int64), None)
