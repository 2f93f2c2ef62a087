"""The parts of the activity worker, each measured by itself in this process, in CPU time and without Kafka."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from inference.bundle import find_bundle, load_bundle
from inference.core import Result
from inference.devices import answer
from inference.models import Model, load_model
from ingest.messages.decode import Readings
from ingest.messages.decode import warm_up as warm_up_decoding
from ingest.record_batches.bodies import Outgoing
from ingest.record_batches.record_columns import Records
from ingest.record_batches.record_places import COLUMNS, find_records
from service.activity_worker import decoder, windower
from service.bench.figures import FormFigures, InferenceFigures, Parts
from service.configuration.settings import ActivitySettings, InferenceSettings
from service.kind import Block, check_input
from service.pipeline.each_window import Windows, encode_labels
from service.replay.messages import Form, Messages, headers_of, packer
from service.replay.synthesiser import SyntheticFleet
from service.serving import engines
from windowing import WINDOW_SLOTS, Frames, Smoother, Windower
from windowing import warm_up as warm_up_windowing

DEVICES = 500
STREAM_MS = 10_000
CHUNK_MS = 2000.0
RECORDS_AT_ONCE = 1000
DEVICES_FOR_MEMORY = 4096

# The newest reading of a stream is this long before its records' timestamps, so no device clock runs ahead of them.
SENT_AFTER_MS = 10_000
_ORIGIN_MS = 1_700_000_000_000

Tell = Callable[[str], None]


def measure_parts(activity: ActivitySettings, inference: InferenceSettings, seconds: float, tell: Tell) -> Parts:
    """Measure for about this many seconds in all, plus what compiling and loading take.

    Raises BundleError, DeviceError, or WorkerError for a bundle that takes other frames.
    """
    tell("loading the model")
    model = open_model(activity, inference)
    warm_up_decoding()
    warm_up_windowing()
    forms, frames = {}, None
    for form in Form:
        tell(f"decoding and windowing {form} messages")
        forms[form], frames = measure_form(form, activity, seconds / 6)
    assert frames is not None
    tell(f"inference of {model.bundle.title}")
    figures, answers = measure_inference(model, frames.values, inference.threads, seconds / 3)
    tell("writing labels")
    labels = measure_labels(model, frames, answers, seconds / 6)
    return Parts(
        forms=forms, inference=figures, labels_per_cpu_s=labels, bytes_per_device=measure_memory(model, activity)
    )


def open_model(activity: ActivitySettings, inference: InferenceSettings) -> Model:
    """Load the settings' bundle as a worker would serve it here."""
    bundle = load_bundle(find_bundle(activity.bundle))
    check_input(bundle, (WINDOW_SLOTS, 3), "float32", "activity.bundle")
    device = engines.device_of(inference)
    return load_model(bundle, device, engines.max_batch_of(inference, device))


@dataclass(frozen=True, slots=True)
class Batch:
    """The bytes of a batch of records, as Kafka stores them, and the number of records."""

    raw: bytes
    records: int

    def find(self) -> Records:
        """Find the records in the bytes."""
        places = np.empty((COLUMNS, self.records), np.int64)
        raw = np.frombuffer(self.raw, np.uint8)
        found, _, _ = find_records(raw, DefaultRecordBatch.HEADER_STRUCT.size, 0, _ORIGIN_MS, 1, places)
        assert found == self.records
        return Records(self.raw, places)


def batch_of(outgoing: Iterable[Outgoing], timestamp_ms: int) -> Batch:
    """Write records as a batch of message format v2, uncompressed; all have one timestamp, epoch ms."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 2**31 - 1)
    count = 0
    for key, value, headers in outgoing:
        builder.append(count, timestamp_ms, key, value, headers)
        count += 1
    return Batch(bytes(builder.build()), count)


def outgoing_of(messages: Messages, keys: Sequence[bytes], form: Form) -> list[Outgoing]:
    """Return messages as keys, values and headers of records."""
    headers = headers_of(form)
    return [
        (keys[device], value, headers) for device, value in zip(messages.device.tolist(), messages.values, strict=True)
    ]


def measure_form(form: Form, activity: ActivitySettings, seconds: float) -> tuple[FormFigures, Frames]:
    """Decode and window a stream repeatedly, shifted by its length each time; the first time doesn't count.

    Returns the results and some frames.
    """
    fleet, sent_ms = SyntheticFleet(DEVICES), _ORIGIN_MS + STREAM_MS + SENT_AFTER_MS
    messages = packer(fleet, form, _ORIGIN_MS, CHUNK_MS)(fleet.readings(0, STREAM_MS), STREAM_MS, last=True)
    samples = int(messages.readings.sum())
    outgoing = outgoing_of(messages, [device_id.encode() for device_id in fleet.device_ids], form)
    starts = range(0, len(outgoing), RECORDS_AT_ONCE)
    batches = [batch_of(outgoing[start : start + RECORDS_AT_ONCE], sent_ms) for start in starts]
    decode, rings = decoder(activity), windower(activity)
    decoded, windowed, kept, until = list[float](), list[float](), None, 0.0
    for turn in itertools.count():
        decoding = windowing = 0.0
        for number, batch in enumerate(batches):
            began = time.thread_time()
            readings, _ = decode(batch.find())
            decoding += time.thread_time() - began
            later = readings.timestamp_ms + turn * STREAM_MS
            offsets = readings.record + (turn * len(batches) + number) * RECORDS_AT_ONCE
            began = time.thread_time()
            steps = _windows(rings, readings, later, offsets)
            windowing += time.thread_time() - began
            kept = max([*steps, kept], key=lambda frames: -1 if frames is None else len(frames))
        if not turn:
            until = time.perf_counter() + seconds
            continue
        decoded.append(decoding)
        windowed.append(windowing)
        if time.perf_counter() >= until:
            break
    assert kept is not None
    figures = FormFigures(
        readings_a_message=samples / len(outgoing),
        decoded_samples_per_s=samples / _median(decoded),
        windowed_samples_per_s=samples / _median(windowed),
    )
    return figures, kept


def measure_inference(
    model: Model, frames: np.ndarray, threads: int, seconds: float
) -> tuple[InferenceFigures, np.ndarray]:
    """Answer full batches, and single frames; return the results and the last batch's answers."""
    batch = np.resize(frames, (model.max_batch, *frames.shape[1:]))
    answers, walls, cpus, singles = (
        answer(model.engine, batch, model.max_batch),
        list[float](),
        list[float](),
        list[float](),
    )
    clock = engines.measurement(threads).clock if model.device == "cpu" else time.perf_counter
    until = time.perf_counter() + seconds
    while not walls or time.perf_counter() < until:
        began, spent = time.perf_counter(), time.process_time()
        answers = answer(model.engine, batch, model.max_batch)
        cpus.append(time.process_time() - spent)
        walls.append(time.perf_counter() - began)
        began = clock()
        answer(model.engine, batch[:1], model.max_batch)
        singles.append(clock() - began)
    # For a single CPU thread, CPU time counts, so that waiting on a busy machine does not.
    alone = model.device == "cpu" and threads == 1
    figures = InferenceFigures(
        bundle=model.bundle.title,
        device=model.device,
        engine=model.way or model.device,
        precision=model.precision,
        threads=threads,
        max_batch=model.max_batch,
        windows_per_s=len(batch) / _median(cpus if alone else walls),
        windows_per_cpu_s=len(batch) / _median(cpus),
        single_ms=1000 * statistics.median(singles),
    )
    return figures, answers


def measure_labels(model: Model, frames: Frames, answers: np.ndarray, seconds: float) -> float:
    """Write the labels of a batch repeatedly; return the labels a second of CPU time."""
    rows = min(len(frames), len(answers))
    probabilities, familiarity = model.split_columns(answers[:rows])
    block = Block(frames.values, np.zeros(len(frames), np.int64), Windows(frames, Smoother()))
    result = Result(None, 0, rows, probabilities, model.bundle, 0.0, 0.0, rows, "full", True, familiarity=familiarity)
    encode_labels(result, block, 0)
    spent, until = list[float](), time.perf_counter() + seconds
    while not spent or time.perf_counter() < until:
        began = time.thread_time()
        encode_labels(result, block, 0)
        spent.append(time.thread_time() - began)
    return rows / _median(spent)


def measure_memory(model: Model, activity: ActivitySettings) -> float:
    """Return the bytes a device takes for its open windows, and for its last ones if labels are smoothed."""
    rings = windower(activity)
    ids = np.arange(DEVICES_FOR_MEMORY, dtype=np.uint32)
    at, zeros = 4 * np.arange(DEVICES_FOR_MEMORY, dtype=np.int64), np.zeros(DEVICES_FOR_MEMORY, np.int64)
    xyz = np.zeros((DEVICES_FOR_MEMORY, 3), np.float32)
    rings.push(ids.view(np.uint8), at, at + 4, zeros + _ORIGIN_MS, xyz, zeros, 0.0)
    smoother = Smoother()
    if activity.smoothing and (follow := model.bundle.manifest.transitions) is not None:
        rows, labels = np.arange(DEVICES_FOR_MEMORY), len(follow)
        probabilities = np.full((DEVICES_FOR_MEMORY, labels), 1 / labels, np.float32)
        smoother.smooth(rows, rows.astype(np.uint64), zeros, probabilities, np.array(follow, np.float32))
    return (rings.nbytes + smoother.nbytes) / len(rings)


def _windows(rings: Windower, readings: Readings, timestamp_ms: np.ndarray, offsets: np.ndarray) -> list[Frames]:
    frames, start, columns = [], 0, (readings.ids, readings.id_at, readings.id_end, timestamp_ms, readings.xyz, offsets)
    while start < len(offsets):
        step = rings.push(*columns, 0.0, start)
        start = step.consumed
        frames.append(step.frames)
    return frames


def _median(seconds: list[float]) -> float:
    """Return the median duration, at least 1 ns: a coarse clock may show 0."""
    return max(statistics.median(seconds), 1e-9)
