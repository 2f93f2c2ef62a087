"""Paced sending of anything to a topic, with progress.

Errors:
    ReplayError           it can't start or continue; its text says what to do
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from rich.console import Console

from ingest.client.access import Servers, remedy
from ingest.client.connection import connect
from ingest.client.errors import IngestError
from ingest.producer.producer import close_producer
from service.host.progress import Reached, progress_shown
from service.kafka_admin.topics import TopicError, count_partitions

TICK_S = 0.01
MAX_SENDS_AT_ONCE = 1000
REPORT_S = 0.25
MAX_UNACKNOWLEDGED = 20_000  # sends; kafka-python's own buffer has no bound
FLUSH_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 1.0


class ReplayError(Exception):
    """A replay can't start or continue; the text is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What has been sent so far: acknowledged messages, the readings in all sent ones, and the duration.

    Texts have no `readings`.
    """

    messages: int
    readings: int
    seconds: float
    behind_s: float
    finished: bool

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        late = f", {self.behind_s:.1f} s behind" if self.behind_s >= 1 else ""
        readings = f" with {self.readings:,} readings" if self.readings else ""
        return f"{self.messages:,} messages{readings} in {self.seconds:.1f} s ({self.rate:,.0f} messages/s){late}"


def replay(sending: "Sending", stop: threading.Event | None = None, console: Console | None = None) -> Summary:
    """Run a replay until it ends or `stop` is set, showing progress on `console` (standard error).

    That is a bar on a terminal, a line now and then elsewhere, and a summary at the end. Raises ReplayError.
    """
    console = console or Console(stderr=True)
    with progress_shown(console, "connecting") as show:
        summary = sending.run(stop or threading.Event(), lambda: show(sending.reached()))
    console.print(f"{'sent' if summary.finished else 'stopped after'} {summary}", highlight=False)
    return summary


class Sending:
    """A paced stream of messages to a topic: made, then run once. Its counters may be read meanwhile.

    `length_ms` is its length in its own time, None if endless; `done_ms` how much of that has been sent.
    """

    length_ms: float | None
    done_ms: float = 0.0

    def __init__(
        self, bootstrap_servers: Servers, topic: str, compression: str | None = None, connect_timeout_s: float = 10.0
    ) -> None:
        self._connection = (bootstrap_servers, topic, compression)
        self._connect_timeout_s = connect_timeout_s
        self._sent_readings = 0
        self._acknowledged = 0
        self._waiting: deque[Any] = deque()
        self._behind_s = 0.0
        self._started = 0.0
        self._reported = 0.0

    def summary(self, *, finished: bool = False) -> Summary:
        """What has been sent so far."""
        seconds = time.monotonic() - self._started if self._started else 0.0
        return Summary(self._acknowledged, self._sent_readings, seconds, self._behind_s, finished)

    def reached(self) -> Reached:
        """Return the progress, in its own time."""
        summary = self.summary()
        return Reached(self.done_ms, self.length_ms, summary.seconds, str(summary))

    def run(self, stop: threading.Event, report: Callable[[], None] = lambda: None) -> Summary:
        """Send until the end or until `stop` is set, calling `report` now and then; flush what was sent.

        Raises ReplayError if the broker can't be reached, lacks the topic or does not accept a message.
        """
        servers, topic, compression = self._connection
        partitions = _partitions(servers, topic, self._connect_timeout_s)
        try:
            producer: KafkaProducer = connect(
                KafkaProducer,
                servers,
                acks="all",
                linger_ms=5,
                batch_size=64 * 1024,
                compression_type=compression,
                allow_auto_create_topics=False,
            )
        except IngestError as error:
            raise ReplayError(str(error)) from error
        try:
            self._started = self._reported = time.monotonic()
            self._send_all(producer, topic, partitions, stop, report)
            finished = not stop.is_set()
            producer.flush(timeout=FLUSH_TIMEOUT_S)
            self._await_acknowledged(0)
        except KafkaError as error:
            raise ReplayError(self._told(error)) from error
        finally:
            close_producer(producer, CLOSE_TIMEOUT_S)
        report()
        return self.summary(finished=finished)

    def _told(self, error: KafkaError) -> str:
        """Say how many messages Kafka has taken, and how many of those that were sent it has not."""
        servers, topic, _ = self._connection
        late = sum(future.succeeded() for future in self._waiting)
        why, remark = remedy(error), ""
        if isinstance(error, KafkaTimeoutError):  # nobody can tell whether what was sent has arrived
            why, remark = "no answer in time: is it running", "; some of them may have arrived all the same"
        return (
            f"the Kafka broker at {servers} took {self._acknowledged + late:,} messages for {topic}, and not the "
            f"{len(self._waiting) - late:,} others that were sent ({why}){remark}"
        )

    def _send_all(
        self,
        producer: KafkaProducer,
        topic: str,
        partitions: int,
        stop: threading.Event,
        report: Callable[[], None],
    ) -> None:
        """Pass all messages to the producer, each when it is due, and their futures to `_sent`."""
        raise NotImplementedError

    def _sent(self, futures: Sequence[Any], report: Callable[[], None]) -> None:
        """Add sent messages; wait if too many are unacknowledged."""
        self._waiting.extend(futures)
        self._await_acknowledged(MAX_UNACKNOWLEDGED)
        if time.monotonic() - self._reported >= REPORT_S:
            self._reported = time.monotonic()
            report()

    def _await_acknowledged(self, most: int) -> None:
        """Remove acknowledged sends, and wait until at most `most` are left."""
        waiting = self._waiting
        while waiting and (len(waiting) > most or waiting[0].is_done):
            waiting[0].get(timeout=FLUSH_TIMEOUT_S)
            waiting.popleft()
            self._acknowledged += 1


def _partitions(servers: Servers, topic: str, timeout_s: float) -> int:
    try:
        partitions = count_partitions(servers, topic, timeout_s=timeout_s)
    except TopicError as error:
        raise ReplayError(str(error)) from error
    if partitions is None:
        raise ReplayError(
            f"there is no topic {topic!r} at {servers}: create it with `stridecast topics`, or name another"
        )
    return partitions
