"""Sends a fleet's readings to Kafka as its devices would: each close to the moment when it is due."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaProducer
from rich.console import Console

from ingest.client.access import Servers
from service.replay.fleet import Fleet, RecordedFleet
from service.replay.messages import Form, Messages, headers_of, packer, partition_of
from service.replay.sending import MAX_SENDS_AT_ONCE, TICK_S, ReplayError, Sending
from service.replay.synthesiser import SyntheticFleet
from training.data.datasets import read_file
from training.data.files import DataError

SYNTHETIC = "synthetic"
"""The name of the synthetic source."""

BLOCK_MS = 500.0  # of wall time, generated ahead of sending
MAX_BLOCK_READINGS = 50_000  # readings


def open_fleet(
    source: str | Path,
    devices: int | None = None,
    *,
    seed: int = 0,
    repeat: bool = False,
) -> Fleet:
    """Open the fleet of a source, `SYNTHETIC` or a file, showing progress on standard error.

    `devices` defaults to one for each recorded person, or 100 synthetic ones. Raises ReplayError.
    """
    try:
        if str(source) == SYNTHETIC:
            return SyntheticFleet(100 if devices is None else devices, seed)
        return RecordedFleet(read_file(Path(source), Console(stderr=True)).recordings, devices, repeat=repeat)
    except (DataError, ValueError) as error:
        raise ReplayError(f"{error}; a source is {SYNTHETIC!r} or such a file") from error


def refuse_endless(speed: float, *, endless: bool) -> None:
    """Raise ReplayError for a stream without an end that can't be dated so that it ends now."""
    if endless and speed != 1:
        raise ReplayError(
            "this stream never ends: at a --speed other than 1, say with --seconds how many seconds of it to send"
        )


class Replay(Sending):
    """One replay of a fleet.

    `speed` 1 is real time and 0 as fast as possible. `seconds` bounds the stream's own time: 60 s at speed 10 take 6 s.
    The stream is placed in time so that its newest reading has just been taken when it is sent (at speed 0: when the
    replay starts), because workers reject the future. So an endless fleet needs `seconds` at any speed but 1.
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
        refuse_endless(speed, endless=self.length_ms is None)
        self.fleet = fleet
        self.origin_ms: int | None = None
        self._speed = speed
        self._form = form
        self._chunk_ms = chunk_seconds * 1000

    @property
    def begins_ago_s(self) -> float:
        """How far in the past the stream begins; 0 where it begins when it is sent."""
        length_ms = self.length_ms or 0.0
        return max(0.0, length_ms - self._wall_ms) / 1000

    @property
    def _wall_ms(self) -> float:
        return 0.0 if self._speed == 0 else (self.length_ms or 0.0) / self._speed

    def truth(self, device: int, timestamp_ms: float) -> str | None:
        """Return the activity of a device's wearer at a time of its clock (epoch ms); None before the start."""
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
        self.origin_ms = int(time.time() * 1000 + self._wall_ms - (self.length_ms or 0.0))
        for messages in self._blocks(stop):
            for first, last in self._due(messages.due_ms, stop):
                self._sent_readings += int(messages.readings[first:last].sum())
                self._sent(sender.send(messages, first, last), report)

    def _blocks(self, stop: threading.Event) -> Iterator[Messages]:
        """Yield the stream's messages in blocks of a few hundred milliseconds."""
        assert self.origin_ms is not None
        pack = packer(self.fleet, self._form, self.origin_ms, self._chunk_ms)
        end = np.inf if self.length_ms is None else self.length_ms
        block_ms = MAX_BLOCK_READINGS / float((1 / self.fleet.period_ms).sum())
        if self._speed:
            block_ms = min(block_ms, BLOCK_MS * self._speed)
        for number in itertools.count():
            start_ms, stop_ms = number * block_ms, min((number + 1) * block_ms, end)
            if stop.is_set() or start_ms >= end:
                return
            yield pack(self.fleet.readings(start_ms, stop_ms), stop_ms, last=stop_ms == end)

    def _due(self, due_ms: np.ndarray, stop: threading.Event) -> Iterator[tuple[int, int]]:
        """Yield ranges of messages as they become due, waiting in between; small ones, for progress and `stop`."""
        first = 0
        while first < len(due_ms) and not stop.is_set():
            last = min(len(due_ms), first + MAX_SENDS_AT_ONCE)
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
    """A producer, with what each device's messages have in common."""

    def __init__(
        self, producer: KafkaProducer, topic: str, partitions: int, device_ids: Sequence[str], form: Form
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._keys = [device_id.encode() for device_id in device_ids]
        self._partitions = [partition_of(key, partitions) for key in self._keys]
        self._headers = headers_of(form)

    def send(self, messages: Messages, first: int, last: int) -> list[Any]:
        """Pass messages [first, last) to the producer; return their futures."""
        send, topic, keys, partitions = self._producer.send, self._topic, self._keys, self._partitions
        return [
            send(topic, value, keys[device], self._headers, partitions[device])
            for device, value in zip(messages.device[first:last].tolist(), messages.values[first:last], strict=True)
        ]
