"""What must be on the topics, of what was sent: by the references of decoding, of windows, and by plain networks."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from inference.bundle import Bundle
from tests.chaos.load import Record, Sent, by_partition
from tests.ingest.reference import reference_decode, reference_decode_text
from tests.kafka.expected import PlainTextCnn, expected_smoothed, plain_probabilities
from tests.windowing.reference import Reading, Reference, Window

MAX_AHEAD_MS = 3_600_000
MAX_TEXT_BYTES = 65_536
MOST_HEADERS = 100
TOLERANCE = 1e-3
BATCH = 1000

Identity = tuple[Any, ...]
Content = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""A dead letter's key, value and headers, but for those that tell why and whence."""


@dataclass(frozen=True)
class Expected:
    """Labels by identity, each as (output partition's source, fields, probabilities), and dead letters.

    ``letters`` are by (source partition, source offset). ``smoothed`` is, by identity, how probable each activity is by
    the device's last windows, None where it is too early to say.
    """

    labels: Mapping[Identity, tuple[int, Mapping[str, Any], np.ndarray]]
    letters: Mapping[Identity, Content]
    smoothed: Mapping[Identity, tuple[float, ...] | None] = field(default_factory=dict)

    def without_letters(self, identities: Collection[Identity]) -> "Expected":
        return replace(self, letters={at: letter for at, letter in self.letters.items() if at not in identities})


def expected_activities(
    sent: Iterable[Sent],
    bundle: Bundle,
    *,
    silent: bool = False,
    lateness_slots: int = 4,
    max_gap_ms: int = 250,
    max_devices: int = 65_536,
) -> Expected:
    """Decode and cut what was sent, in the order of the log. With ``silent`` all devices fall silent in the end.

    Before that none does: of each partition the first ``max_devices`` have their windows, and the others none.
    """
    windows: list[tuple[int, Window]] = []
    letters: dict[Identity, Content] = {}
    for partition, log in by_partition(sent).items():
        reference = Reference(lateness_slots=lateness_slots, max_gap_ms=max_gap_ms, idle_timeout_s=1e9)
        devices = set[bytes]()
        for each in log:
            record = each.record
            readings = _decode(each)
            if readings and len(devices) < max_devices:
                devices.add(readings[0][0])
            if readings and readings[0][0] not in devices:
                readings = None
            if readings is None:
                letters[partition, each.offset] = _content(record)
            for reading in readings or ():
                closed = reference.read(Reading(*reading), each.offset, 0.0)
                windows += [(partition, window) for window in closed]
        if silent:
            windows += [(partition, window) for window in reference.hear(float("inf"))]
    labels = _labels_of(windows, bundle)
    rows = np.array([row for *_, row in labels.values()]).reshape(-1, len(bundle.manifest.labels))
    return Expected(labels, letters, expected_smoothed(list(labels), rows, bundle.folder))


def _content(record: Record) -> Content:
    """A dead letter has so many headers of its record as decoders look at, and none that is null."""
    return record.key, record.value, [(name, content or b"") for name, content in record.headers[:MOST_HEADERS]]


def _decode(sent: Sent) -> list[tuple[bytes, int, float, float, float]] | None:
    record = sent.record
    try:
        return reference_decode(record.value, record.key, record.headers, sent.timestamp_ms, MAX_AHEAD_MS, scale=1.0)
    except RecursionError:  # more levels than the stack holds are more than are allowed
        return None


def _labels_of(
    windows: list[tuple[int, Window]], bundle: Bundle
) -> dict[Identity, tuple[int, Mapping[str, Any], np.ndarray]]:
    if not windows:
        return {}
    frames = np.array([window.values for _, window in windows], dtype=np.float32)
    some = (plain_probabilities(bundle.folder, frames[at : at + BATCH]) for at in range(0, len(frames), BATCH))
    labels: dict[Identity, tuple[int, Mapping[str, Any], np.ndarray]] = {}
    for (partition, window), row in zip(windows, np.concatenate(list(some)), strict=True):
        fields = {
            "device_id": window.device_id.decode(),
            "window_end": window.start_ms + 4000,
            "coverage": window.measured / 80,
            "longest_gap_ms": window.longest_gap_ms,
            "closed_by": window.closed_by,
            "source": (partition, window.source_offset),
        }
        identity = (window.device_id, window.start_ms)
        assert identity not in labels, f"the load is ambiguous: {identity} twice"
        labels[identity] = (partition, fields, row)
    return labels


def expected_texts(sent: Iterable[Sent], folder: Path) -> Expected:
    """Decode and classify what was sent, a record at a time."""
    texts: dict[Identity, tuple[bytes, str]] = {}
    letters: dict[Identity, Content] = {}
    for each in sent:
        identity = (each.record.partition, each.offset)
        decoded = reference_decode_text(each.record.value, MAX_TEXT_BYTES)
        if decoded is None:
            letters[identity] = _content(each.record)
        else:
            texts[identity] = decoded
    rows = PlainTextCnn(folder).probabilities([text for _, text in texts.values()])
    labels = {
        identity: (identity[0], {"id": text_id.decode(), "source": identity}, row)
        for (identity, (text_id, _)), row in zip(texts.items(), rows, strict=True)
    }
    return Expected(labels, letters)
