"""Sends a fleet's readings to Kafka as its devices would: each close to the moment when it is due. And texts.

Errors:
    ReplayError           the replay can't start or go on; its text says what to do
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaProducer
from kafka.errors import KafkaError
from rich.console import Console

from ingest.access import Servers
from ingest.connection import IngestError, connect
from service.progress import Reached, progress_shown
from service.replay.fleet import Fleet, RecordedFleet
from service.replay.messages import Form, Messages, headers_of, packer, partition_of
from service.replay.synthesiser import SyntheticFleet
from service.topics import TopicError, count_partitions
from training.datasets import read_file
from training.files import DataError

SYNTHETIC = "synthetic"
"""The name of the source that is not a file."""

BLOCK_MS = 500.0  # of wall time, made ahead of the time at which it is sent
MOST_IN_A_BLOCK = 50_000  # readings
TICK_S = 0.01
MOST_AT_ONCE = 1000
REPORT_S = 0.25
MAX_UNACKNOWLEDGED = 20_000  # sends; kafka-python's own buffer has no bound
FLUSH_TIMEOUT_S = 30.0


class ReplayError(Exception):
    """A replay that can't start or go on; the text is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What has been sent so far: acknowledged messages, the readings in all sent ones, and how long it took.

    Where texts are sent there are no `readings`.
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


def open_fleet(
    source: str | Path,
    devices: int | None = None,
    *,
    seed: int = 0,
    repeat: bool = False,
) -> Fleet:
    """Make the fleet that a source names: `SYNTHETIC`, or a file, which is read while standard error shows how far.

    `devices` is one for each recorded person unless given (100 synthetic ones). Raises ReplayError.
    """
    try:
        if str(source) == SYNTHETIC:
            return SyntheticFleet(100 if devices is None else devices, seed)
        return RecordedFleet(read_file(Path(source), Console(stderr=True)).recordings, devices, repeat=repeat)
    except (DataError, ValueError) as error:
        raise ReplayError(f"{error}; a source is {SYNTHETIC!r} or such a file") from error


def replay(sending: "Sending", stop: threading.Event | None = None, console: Console | None = None) -> Summary:
    """Run a replay until it ends or `stop` is set, and show on `console` (standard error) how far it is.

    On a terminal that is a bar, elsewhere a line now and then, and in the end a summary. Raises ReplayError.
    """
    console = console or Console(stderr=True)
    with progress_shown(console, "connecting") as show:
        summary = sending.run(stop or threading.Event(), lambda: show(sending.reached()))
    console.print(f"{'sent' if summary.finished else 'stopped after'} {summary}", highlight=False)
    return summary


class Sending:
    """Something that is sent to a topic at its own pace: made, then run once. Its counters may be read meanwhile.

    `length_ms` is how long it lasts in its own time, None where it never ends; `done_ms` how much of that is sent.
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
        """How far it is, in its own time."""
        summary = self.summary()
        return Reached(self.done_ms, self.length_ms, summary.seconds, str(summary))

    def run(self, stop: threading.Event, report: Callable[[], None] = lambda: None) -> Summary:
        """Send until the end or until `stop` is set, calling `report` now and then; what was sent is flushed.

        Raises ReplayError where the broker can't be reached, lacks the topic or does not take a message.
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
            self._settle(0)
        except KafkaError as error:
            raise ReplayError(f"the Kafka broker at {servers} did not take a message for {topic}: {error}") from error
        finally:
            producer.close(timeout=1)
        report()
        return self.summary(finished=finished)

    def _send_all(
        self,
        producer: KafkaProducer,
        topic: str,
        partitions: int,
        stop: threading.Event,
        report: Callable[[], None],
    ) -> None:
        """Hand all messages to the producer, each when it is due, and their futures to `_sent`."""
        raise NotImplementedError

    def _sent(self, futures: Sequence[Any], report: Callable[[], None]) -> None:
        """Take in what has been sent; wait where too much isn't acknowledged."""
        self._waiting.extend(futures)
        self._settle(MAX_UNACKNOWLEDGED)
        if time.monotonic() - self._reported >= REPORT_S:
            self._reported = time.monotonic()
            report()

    def _settle(self, most: int) -> None:
        """Take what Kafka has acknowledged off the list, and wait until no more than `most` sends are on it."""
        waiting = self._waiting
        while waiting and (len(waiting) > most or waiting[0].is_done):
            waiting[0].get(timeout=FLUSH_TIMEOUT_S)
            waiting.popleft()
            self._acknowledged += 1


class Replay(Sending):
    """One replay of a fleet.

    `speed` 1 is real time and 0 as fast as possible. `seconds` bounds the stream's own time: 60 s at speed 10 take
    6 s. The stream is placed in time so that its newest reading has just been taken when it is sent (at speed 0:
    when the replay starts), for the future is refused; so an endless fleet needs `seconds` at any speed but 1.
    `compression` is one of Kafka's, or None.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        bootstrap_servers: Servers,
        topic: str,
        speed: float = 1.0,
        form: Form = Form.SAMPLE,
        seconds: float | None = None,
        chunk_seconds: float = 2.0,
        compression: str | None = None,
        connect_timeout_s: float = 10.0,
    ) -> None:
        super().__init__(bootstrap_servers, topic, compression, connect_timeout_s)
        ends = [end for end in (fleet.length_ms, None if seconds is None else seconds * 1000) if end is not None]
        self.length_ms = min(ends) if ends else None
        if self.length_ms is None and speed != 1:
            raise ReplayError("this fleet never ends: at a speed other than 1, say how many seconds of it to send")
        self.fleet = fleet
        self.origin_ms: int | None = None
        self._speed = speed
        self._form = form
        self._chunk_ms = chunk_seconds * 1000

    def truth(self, device: int, timestamp_ms: float) -> str | None:
        """What a device's wearer really did when its clock said so (epoch ms); None before the start."""
        return None if self.origin_ms is None else self.fleet.truth(device, timestamp_ms - self.origin_ms)

    def _send_all(
        self,
        producer: KafkaProducer,
        topic: str,
        partitions: int,
        stop: threading.Event,
        report: Callable[[], None],
    ) -> None:
        sender = _Sender(producer, topic, partitions, self.fleet.device_ids, self._form)
        wall_ms = 0.0 if self._speed == 0 else (self.length_ms or 0.0) / self._speed
        self.origin_ms = int(time.time() * 1000 + wall_ms - (self.length_ms or 0.0))
        for messages in self._blocks(stop):
            for first, last in self._due(messages.due_ms, stop):
                self._sent_readings += int(messages.readings[first:last].sum())
                self._sent(sender.send(messages, first, last), report)

    def _blocks(self, stop: threading.Event) -> Iterator[Messages]:
        """The stream's messages, some hundred milliseconds of them at a time."""
        assert self.origin_ms is not None
        pack = packer(self.fleet, self._form, self.origin_ms, self._chunk_ms)
        end = np.inf if self.length_ms is None else self.length_ms
        block_ms = MOST_IN_A_BLOCK / float((1 / self.fleet.period_ms).sum())
        if self._speed:
            block_ms = min(block_ms, BLOCK_MS * self._speed)
        for number in itertools.count():
            start_ms, stop_ms = number * block_ms, min((number + 1) * block_ms, end)
            if stop.is_set() or start_ms >= end:
                return
            yield pack(self.fleet.readings(start_ms, stop_ms), stop_ms, last=stop_ms == end)

    def _due(self, due_ms: np.ndarray, stop: threading.Event) -> Iterator[tuple[int, int]]:
        """Ranges of messages as they come due, waiting in between; never many at once, for progress and for stop."""
        first = 0
        while first < len(due_ms) and not stop.is_set():
            last = min(len(due_ms), first + MOST_AT_ONCE)
            if self._speed:
                now_ms = (time.monotonic() - self._started) * 1000 * self._speed
                last = min(last, int(np.searchsorted(due_ms, now_ms, side="right")))
                self._behind_s = max(0.0, now_ms - due_ms[first]) / 1000 / self._speed
            if last > first:
                self.done_ms = float(due_ms[last - 1])
                yield first, last
                first = last
            elif stop.wait(TICK_S):
                return


class _Sender:
    """A producer, and what each device's messages have in common."""

    def __init__(
        self, producer: KafkaProducer, topic: str, partitions: int, device_ids: Sequence[str], form: Form
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._keys = [device_id.encode() for device_id in device_ids]
        self._partitions = [partition_of(key, partitions) for key in self._keys]
        self._headers = headers_of(form)

    def send(self, messages: Messages, first: int, last: int) -> list[Any]:
        """Hand messages [first, last) to the producer; returns their futures."""
        send, topic, keys, partitions = self._producer.send, self._topic, self._keys, self._partitions
        return [
            send(topic, value, keys[device], self._headers, partitions[device])
            for device, value in zip(messages.device[first:last].tolist(), messages.values[first:last], strict=True)
        ]


# --- broker -------------------------------------------------------------------------------------


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
