"""Counts what a read-committed reader of another client library finds against what must be there."""

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import confluent_kafka
import numpy as np
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # public, says its manual

from tests.chaos.expected import TOLERANCE, Content, Expected, Identity
from tests.chaos.load import QUIET
from tests.kafka.expected import may_be_smoothed
from tests.kafka.outside_client import Label, as_label

QUIET_S = 60.0
NEW_LEADER = confluent_kafka.KafkaError.UNKNOWN_LEADER_EPOCH
END_WITHIN_S = 60.0
OWN_HEADERS = 5  # of dead letters, behind those of their records


@dataclass(frozen=True)
class Tally:
    """How many were expected and seen, and which are missing, came again, or should not be or not be so."""

    what: str
    expected: int
    seen: int
    missing: Sequence[Identity]
    duplicate: Sequence[Identity]
    wrong: Sequence[str]

    def __str__(self) -> str:
        return (
            f"{self.what}: expected {self.expected}, seen {self.seen}, missing {len(self.missing)}, "
            f"duplicate {len(self.duplicate)}, wrong {len(self.wrong)}"
        )

    def examples(self) -> str:
        """Show the first of each kind."""
        return f"missing {self.missing[:5]}, duplicate {self.duplicate[:5]}, wrong {self.wrong[:5]}"


class Reader:
    """Reads a topic from its start, committed records only unless told; ``messages`` is what it has found."""

    def __init__(self, bootstrap_servers: str, topic: str, isolation: str = "read_committed") -> None:
        self.messages: list[confluent_kafka.Message] = []
        self._topic = topic
        self._settings = {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            **QUIET,
            "topic.metadata.refresh.interval.ms": 1000,
        }
        self._client = confluent_kafka.Consumer(self._settings)
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, **QUIET})
        self._assigned: set[int] = set()
        self._ends: dict[int, int] = {}

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def read(self, seconds: float) -> None:
        """Take in what comes in so many seconds."""
        self._assign()
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for message in self._client.consume(1000, timeout=min(left, 0.2)):
                error = message.error()
                if error is None:
                    self.messages.append(message)
                elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    partition, offset = message.partition(), message.offset()
                    assert partition is not None
                    assert offset is not None
                    self._ends[partition] = offset
                # What else comes here are brokers that don't answer: librdkafka tries on.

    def read_until(self, wanted: set[Identity], identify: Any) -> None:
        """Read until all that is wanted has come, or nothing new has for a minute."""
        missing, taken, last_news = set(wanted), 0, time.monotonic()
        while missing and time.monotonic() - last_news < QUIET_S:
            self.read(0.5)
            if len(self.messages) > taken:
                missing -= {identify(message) for message in self.messages[taken:]}
                taken, last_news = len(self.messages), time.monotonic()

    def read_to_the_end(self) -> None:
        """Read all there is, when nobody writes any more: open transactions have to end first."""
        deadline = time.monotonic() + END_WITHIN_S
        while not self._at_the_end():
            assert time.monotonic() < deadline, (
                f"{self._topic} can't be read to its end: {self._ends}, {self._log_ends()}"
            )
            self.read(0.3)

    def _at_the_end(self) -> bool:
        try:
            ends = self._log_ends()
        except confluent_kafka.KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() != NEW_LEADER:
                raise
            return False  # leaders have just been moved, and what is known of them is old
        return all(self._ends.get(partition, 0) >= end for partition, end in ends.items())

    def _log_ends(self) -> dict[int, int]:
        self._assign()
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {confluent_kafka.TopicPartition(self._topic, number): latest for number in self._assigned}
        answers = self._admin.list_offsets(asked, request_timeout=10)
        return {partition.partition: answer.result().offset for partition, answer in answers.items()}

    def _assign(self) -> None:
        """Assign what partitions there are, from their starts; more may have come."""
        found = set(self._client.list_topics(self._topic, timeout=10).topics[self._topic].partitions)
        if new := found - self._assigned:
            self._client.incremental_assign(
                [confluent_kafka.TopicPartition(self._topic, number, 0) for number in sorted(new)]
            )
            self._assigned |= new


def tally_labels(
    kind: str,
    messages: Iterable[confluent_kafka.Message],
    expected: Expected,
    *,
    outputs: int | None,
    allowed: Collection[Identity] = (),
) -> Tally:
    """Compare labels with what was expected of them, in identity, place and content.

    Labels of the identities ``allowed`` may be there too, and say what they like.
    """
    labels = [as_label(message) for message in messages]
    identify = {"activity": activity_identity, "text": text_identity}[kind]
    counted = Counter(identify(label) for label in labels)
    wrong = []
    for label in labels:
        identity = identify(label)
        if identity in allowed:
            continue
        if identity not in expected.labels:
            wrong.append(f"{identity} is not expected")
        elif faults := _faults(label, *expected.labels[identity], outputs):
            wrong.append(f"{identity}: {faults}")
        elif expected.smoothed and not _may_be_smoothed(label, expected.smoothed[identity]):
            said = label.value["smoothed_activity"]
            wrong.append(f"{identity}: smoothed to {said}, and its last windows say {expected.smoothed[identity]}")
    return Tally(
        {"activity": "activities", "text": "texts"}[kind],
        len(expected.labels),
        len(labels),
        [identity for identity in expected.labels if identity not in counted],
        [identity for identity, times in counted.items() for _ in range(times - 1)],
        wrong,
    )


def tally_letters(
    messages: Sequence[confluent_kafka.Message], expected: Expected, allowed: Expected | None = None
) -> Tally:
    """Compare dead letters with the records that should be there, byte for byte; those ``allowed`` may be there too."""
    known = {**(allowed.letters if allowed else {}), **expected.letters}
    counted = Counter(letter_identity(message) for message in messages)
    wrong = [
        f"{letter_identity(message)}: {str(message.value())[:300]}"
        for message in messages
        if known.get(letter_identity(message)) != _content(message)
    ]
    return Tally(
        "dead letters",
        len(expected.letters),
        len(messages),
        [identity for identity in expected.letters if identity not in counted],
        [identity for identity, times in counted.items() for _ in range(times - 1)],
        wrong,
    )


def activity_identity(label: Label) -> Identity:
    return label.key, label.value["window_start"]


def text_identity(label: Label) -> Identity:
    return int(label.headers["source-partition"]), int(label.headers["source-offset"])


def letter_identity(message: confluent_kafka.Message) -> Identity:
    given = message.headers()
    assert isinstance(given, list)
    headers = {name: content for name, content in given if isinstance(content, bytes)}
    return int(headers["source-partition"]), int(headers["source-offset"])


def _content(letter: confluent_kafka.Message) -> Content:
    headers: Any = letter.headers()
    return letter.key(), letter.value(), headers[:-OWN_HEADERS]


def identity_of(kind: str) -> Any:
    """Return what tells one message of the output topic from another."""
    if kind == "activity":
        return lambda message: (message.key(), json.loads(message.value())["window_start"])
    return lambda message: text_identity(as_label(message))


def _may_be_smoothed(label: Label, shares: tuple[float, ...] | None) -> bool:
    return may_be_smoothed(label.value["smoothed_activity"], shares, list(label.value["probabilities"]))


def _faults(
    label: Label, partition: int, fields: Mapping[str, Any], probabilities: np.ndarray, outputs: int | None
) -> dict[str, Any]:
    """Return the fields that are not as they should be."""
    found = {**label.value, "source": text_identity(label)}
    faults = {
        name: (found[name], value)
        for name, value in fields.items()
        if (abs(found[name] - value) > TOLERANCE if isinstance(value, float) else found[name] != value)
    }
    said = np.array(list(label.value["probabilities"].values()))
    if np.abs(said - probabilities).max() > TOLERANCE:
        faults["probabilities"] = (said.tolist(), probabilities.tolist())
    if outputs is not None and label.partition != partition % outputs:
        faults["partition"] = (label.partition, partition % outputs)
    return faults
