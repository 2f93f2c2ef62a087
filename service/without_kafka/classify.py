"""Labels without Kafka, by the workers' own code: decoders, framing, core and labels.

A file's records go through the same `Kind` as a worker's, all at once. A device's last windows are closed as by its
silence.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from inference.bundle import find_bundle, load_bundle
from inference.core import Result
from inference.lanes import Lane
from ingest.messages.readings import Readings
from ingest.messages.texts import decode_texts
from ingest.record_batches.bodies import unpack
from ingest.record_batches.record_columns import Records
from ingest.rejections import Reason
from service.activity_worker import activity_kind, decoder
from service.configuration.settings import ActivitySettings, InferenceSettings, TextSettings
from service.kind import Block, Kind
from service.monitoring.metrics import Families, WorkerMetrics
from service.run import open_core
from service.text_worker import text_kind
from service.time_units import unit_of
from service.without_kafka.files import ClassifyError, Line, Source
from windowing import WINDOW_MS

ANSWER_TIMEOUT_S = 600.0  # for a block of frames; only a device that hangs takes so long
CENTURY_MS = 946_684_800_000, 4_102_444_800_000


@dataclass(frozen=True, slots=True)
class Label:
    """The message that a worker would publish, and its fields."""

    message: bytes
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """Texts and their labels, in the same order."""

    texts: list[str]
    labels: list[Label]


@dataclass(frozen=True, slots=True)
class LabelledReadings:
    """The readings as given, and the labels of their windows, by device and time.

    `names` are all labels of the model.
    """

    readings: Readings
    labels: list[Label]
    names: tuple[str, ...]


def classify_texts(source: Source, settings: TextSettings, inference: InferenceSettings) -> LabelledTexts:
    """Label texts; raises ClassifyError for one that a worker would reject, BundleError or WorkerError."""
    texts, rejections = decode_texts(source.lines, max_bytes=settings.max_bytes)
    source.refuse(rejections)
    labels, _ = _classify(text_kind(settings), source.lines, inference)
    return LabelledTexts(texts.texts, labels)


def classify_readings(source: Source, settings: ActivitySettings, inference: InferenceSettings) -> LabelledReadings:
    """Label the windows of readings, which may come in any order; raises as `classify_texts` does."""
    readings, rejections = decoder(settings)(source.lines)
    source.refuse(rejections, lambda line: _other_unit(json.loads(line.value)["timestamp"]))
    order = np.argsort(readings.timestamp_ms, kind="stable")
    in_time = [dataclasses.replace(source.lines[row], offset=offset) for offset, row in enumerate(order)]
    labels, names = _classify(activity_kind(settings), in_time, inference)
    if not labels:
        seconds = np.ptp(readings.timestamp_ms) / 1000
        raise ClassifyError(
            f"{source.name} holds no window of {WINDOW_MS // 1000} s without a hole longer than {settings.max_gap_ms} "
            f"ms (activity.max_gap_ms): its {len(in_time):,} readings span {seconds:g} s"
            f"{_other_unit(int(np.median(readings.timestamp_ms)))}"
        )
    place = {device.decode(): number for number, device in enumerate(devices(readings))}
    labels.sort(key=lambda label: (place[label.fields["device_id"]], label.fields["window_start"]))
    return LabelledReadings(readings, labels, names)


def _other_unit(timestamp: float | str) -> str:
    """Add that timestamps may be in another unit, if this one would be of this century in it."""
    try:
        found = unit_of(float(timestamp), *CENTURY_MS)
    except ValueError:
        return ""
    if found is None or (found[0] == "milliseconds" and isinstance(timestamp, int)):
        return ""
    return (
        f". Are the timestamps in {found[0]}? They are to be whole milliseconds since 1970, such as {found[1]}, or "
        f"ISO 8601 times"
    )


def devices(readings: Readings) -> list[bytes]:
    """Return the device ids in the order of their first readings."""
    return list(dict.fromkeys(readings.device_ids()))


def beginnings(readings: Readings) -> dict[str, int]:
    """Return the time of each device's first reading, epoch ms, in the order of `devices`."""
    begins: dict[str, int] = {}
    for device, timestamp_ms in zip(readings.device_ids(), readings.timestamp_ms.tolist(), strict=True):
        name = device.decode()
        begins[name] = min(timestamp_ms, begins.get(name, timestamp_ms))
    return begins


def _classify(kind: Kind, records: Sequence[Line], inference: InferenceSettings) -> tuple[list[Label], tuple[str, ...]]:
    """Return the labels of all records, in the order of their frames, and all labels of the model."""
    bundle = load_bundle(find_bundle(kind.settings.bundle))
    metrics = WorkerMetrics(
        Families(CollectorRegistry()), kind.name, topics=[], reasons=list(Reason), labels=bundle.manifest.labels
    )
    stream = kind.prepare(bundle, metrics)(TopicPartition(kind.settings.input_topic, 0))
    labels: list[Label] = []
    with open_core(inference) as core:
        lane = core.open(bundle)
        _, blocks = stream.push(Records.of(records), 0.0, mute=False)
        for block in itertools.chain(blocks, stream.fall_silent(math.inf)):
            labels += _labels(kind, lane, block)
    return labels, bundle.manifest.labels


def _labels(kind: Kind, lane: Lane, block: Block) -> list[Label]:
    answers = _Answers()
    lane.submit(block.frames, answers)  # nothing else waits in the lane, so there is room for any block
    lane.drain(ANSWER_TIMEOUT_S)
    messages = [message for result in answers for _, message, _ in unpack(kind.encode_labels(result, block, 0))]
    return [Label(message, json.loads(message)) for message in messages]


class _Answers(list[Result]):
    """The results of a block, in order; a ticket that the core publishes to."""

    def publish(self, result: Result) -> None:
        self.append(result)
