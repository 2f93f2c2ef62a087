"""Sends the texts of a file to Kafka at a given rate."""

import itertools
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kafka import KafkaProducer

from ingest.client.access import Servers
from ingest.contract import MAX_TEXT_BYTES
from ingest.messages.texts import decode_texts
from service.replay.sending import MAX_SENDS_AT_ONCE, TICK_S, ReplayError, Sending
from service.without_kafka.files import texts_of_file

MS_PER_TEXT_UNPACED = 1.0  # a text's duration in the stream's own time without a rate


class TextReplay(Sending):
    """The texts of a file, one a line, or a .jsonl of ``{"id", "text"}``; their ids are the records' keys.

    `rate` is texts a second, 0 as fast as possible; `repeat` restarts the file at its end; `seconds` ends the replay.
    Raises ClassifyError for a file that can't be read or a text of more than `max_bytes`, ReplayError for an endless
    stream without a rate.
    """

    def __init__(
        self,
        path: Path,
        *,
        bootstrap_servers: Servers,
        topic: str,
        max_bytes: int = MAX_TEXT_BYTES,
        rate: float,
        repeat: bool = False,
        seconds: float | None = None,
        compression: str | None = None,
    ) -> None:
        super().__init__(bootstrap_servers, topic, compression)
        if not rate and (repeat or seconds is not None):
            raise ReplayError("texts that are sent as fast as possible know no time: give a --rate as well")
        source = texts_of_file(path)
        texts, rejections = decode_texts(source.lines, max_bytes=max_bytes)
        source.refuse(rejections)
        self._messages = list(zip(texts.ids, (line.value for line in source.lines), strict=True))
        self._rate = rate
        self._ms_per_text = 1000 / rate if rate else MS_PER_TEXT_UNPACED
        ends = [end for end in (None if repeat else len(self._messages), seconds and math.ceil(seconds * rate)) if end]
        self._end = min(ends, default=None)
        self.length_ms = None if self._end is None else self._end * self._ms_per_text

    def _send_all(
        self,
        producer: KafkaProducer,
        topic: str,
        partitions: int,
        stop: threading.Event,
        report: Callable[[], None],
    ) -> None:
        messages = itertools.islice(itertools.cycle(self._messages), self._end)
        sent = 0
        while sent != self._end and not stop.is_set():
            some = list(itertools.islice(messages, min(self._due() - sent, MAX_SENDS_AT_ONCE)))
            self._sent([producer.send(topic, value, key) for key, value in some], report)
            sent += len(some)
            self.done_ms = sent * self._ms_per_text
            self._behind_s = max(0, self._due() - sent) / self._rate if self._rate else 0.0
            if not some:
                stop.wait(TICK_S)

    def _due(self) -> int:
        """Return how many of the texts are due by now."""
        if not self._rate:
            return len(self._messages)
        due = 1 + int((time.monotonic() - self._started) * self._rate)
        return due if self._end is None else min(due, self._end)
