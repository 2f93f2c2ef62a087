import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from inference.bundle import Bundle, find_bundle, load_bundle
from inference.core import Result
from ingest.record_batches.bodies import unpack
from ingest.record_batches.record_columns import Records
from ingest.rejections import Reason
from service.activity_worker import activity_kind
from service.configuration.settings import ActivitySettings
from service.delivery import silent_devices
from service.kind import OpenStream, Stream, WorkerError
from service.monitoring.metrics import Families, WorkerMetrics
from service.pipeline.each_window import encode_labels, identify
from tests.inference.bundles import constant_bundle, har_bundle
from tests.ingest.records import HandMade, chunk
from windowing import features

FIRST, SECOND = TopicPartition("accelerometer", 0), TopicPartition("accelerometer", 1)
ROWS = [[0.5, 9.5, 0.5]] * 200  # ten seconds
START_MS = 1_700_000_000_000


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return har_bundle(tmp_path_factory.mktemp("bundles") / "tiny-har")


@pytest.fixture
def metrics(registry: CollectorRegistry) -> WorkerMetrics:
    return WorkerMetrics(Families(registry), "activity", topics=[], reasons=list(Reason), labels=["Walking"])


@pytest.fixture
def open_stream(bundle: Bundle, metrics: WorkerMetrics) -> OpenStream:
    return activity_kind(ActivitySettings()).prepare(bundle, metrics)


@pytest.fixture
def counted(registry: CollectorRegistry) -> Callable[..., float]:
    def read(name: str, **labels: str) -> float:
        value = registry.get_sample_value(f"stridecast_{name}", {"worker": "activity", **labels})
        assert value is not None
        return value

    return read


def ten_seconds(device: str, *, second: int = 0, offset: int = 0) -> HandMade:
    return HandMade(chunk(device_id=device, start=START_MS + 1000 * second, samples=ROWS), offset=offset)


def test_a_device_on_two_partitions_is_counted_once(open_stream: OpenStream, counted: Callable[..., float]) -> None:
    first, second = open_stream(FIRST), open_stream(SECOND)
    for stream, device in [(first, "torn"), (first, "whole"), (second, "torn")]:
        list(stream.push(Records.of([ten_seconds(device)]), 0.0, mute=False)[1])
    list(second.push(Records.of([ten_seconds("torn", second=10, offset=1)]), 1.0, mute=False)[1])
    assert counted("split_devices_total") == 1


def test_a_partition_that_comes_back_does_not_split_its_devices(
    open_stream: OpenStream, counted: Callable[..., float]
) -> None:
    """Frames on their way keep the stream of the last assignment alive, and its devices were taken for another's."""
    former = open_stream(FIRST)
    list(former.push(Records.of([ten_seconds("whole")]), 0.0, mute=False)[1])
    list(open_stream(FIRST).push(Records.of([ten_seconds("whole")]), 1.0, mute=False)[1])
    assert len(former) == 1
    assert counted("split_devices_total") == 0


def test_a_mute_replay_rebuilds_what_is_open_and_counts_nothing(
    open_stream: OpenStream, counted: Callable[..., float]
) -> None:
    stream = open_stream(FIRST)
    _, blocks = stream.push(Records.of([HandMade(b"not JSON"), ten_seconds("phone", offset=1)]), 0.0, mute=True)
    (closed,) = blocks  # which say what was settled, and are not published
    assert len(stream.identities(closed)) == len(closed.frames)
    assert (len(stream), stream.rewind_to(2)) == (1, 1)
    assert counted("samples_total") == 0
    assert counted("records_rejected_total", reason=Reason.NOT_JSON) == 0
    assert counted("windows_total", outcome="incomplete") == 0


def test_late_readings_are_counted_beside_all_for_the_log_but_not_in_a_mute_replay(open_stream: OpenStream) -> None:
    stream = open_stream(FIRST)
    for mute in (True, False, False):
        list(stream.push(Records.of([ten_seconds("phone")]), 0.0, mute=mute)[1])
    readings, late = stream.take_late()
    assert readings == 400
    assert 0 < late < 400
    assert stream.take_late() == (0, 0)


def test_a_block_tells_when_the_record_that_closed_its_windows_was_written(open_stream: OpenStream) -> None:
    stream = open_stream(FIRST)
    (block,) = stream.push(Records.of([ten_seconds("phone")]), 0.0, mute=False)[1]
    assert set(block.source_timestamp_ms) == {ten_seconds("phone").timestamp}
    assert block.frames.shape == (len(block.columns.frames.start_ms), 80, 3)


def test_labels_that_kafka_has_count_their_windows_and_how_long_their_wearers_waited(
    open_stream: OpenStream, counted: Callable[..., float]
) -> None:
    stream = open_stream(FIRST)
    (block,) = stream.push(Records.of([ten_seconds("phone")]), 0.0, mute=False)[1]
    stream.labelled(block, slice(1, 3), (block.columns.frames.start_ms[1] + 4000) / 1000 + 3.5)
    assert counted("windows_total", outcome="labelled") == 2
    assert counted("window_age_seconds_count") == 2
    assert counted("window_age_seconds_sum") == pytest.approx(3.5 + 1.5, abs=1e-3)


def test_a_label_that_names_no_device_is_nobodys() -> None:
    """Whoever writes one into the output topic could end the worker that reads it back."""
    value = b'{"window_start": 1700000000000}'
    assert identify(HandMade(value, b"phone"), 5) == (b"phone", 1_700_000_000_000)
    assert identify(HandMade(value, None), 5) is None
    assert identify(HandMade(None, b"phone"), 5) is None
    assert identify(HandMade(b'{"a":' + b"[" * 20_000, b"phone"), 5) is None  # somebody else's, among the labels


def test_records_that_are_refused_are_returned_with_their_reasons(open_stream: OpenStream) -> None:
    rejections, blocks = open_stream(FIRST).push(
        Records.of([HandMade(b"not JSON"), ten_seconds("phone")]), 0.0, mute=False
    )
    assert [(rejection.record, rejection.reason) for rejection in rejections] == [(0, Reason.NOT_JSON)]
    assert len(list(blocks)) == 1


def test_a_bundle_for_other_frames_is_refused_with_what_to_do(metrics: WorkerMetrics, tmp_path: Path) -> None:
    other = constant_bundle(tmp_path / "constant", shape=(40, 3))
    with pytest.raises(WorkerError, match=r"constant@1 takes .*float32 \[40, 3\], and .*activity.bundle"):
        activity_kind(ActivitySettings()).prepare(other, metrics)


def labels_of(stream: Stream, bundle: Bundle, records: Sequence[HandMade]) -> list[dict[str, Any]]:
    """Return the labels of the windows that records close, with predictions that waver once and are sure else."""
    (block,) = stream.push(Records.of(records), 0.0, mute=False)[1]
    rows = len(block.frames)
    probabilities = np.full((rows, 6), 0.02, np.float32)
    probabilities[:, 5] = 0.9
    probabilities[rows // 2, [4, 5]] = 0.52, 0.4
    familiarity = np.linspace(0, 1, rows, dtype=np.float32)
    result = Result(None, 0, rows, probabilities, bundle, 0.0, 0.0, rows, "idle", True, familiarity)
    return [json.loads(value) for _, value, _ in unpack(encode_labels(result, block, 0))]


def test_a_label_that_flips_for_one_window_is_smoothed_beside_the_raw_one(
    open_stream: OpenStream, bundle: Bundle
) -> None:
    seconds = [ten_seconds("phone", second=10 * k, offset=k) for k in range(3)]
    labels = labels_of(open_stream(FIRST), bundle, seconds)
    flipped = len(labels) // 2
    assert [label["activity"] for label in labels] == [
        "Upstairs" if number == flipped else "Walking" for number in range(len(labels))
    ]
    assert [label["smoothed_activity"] for label in labels] == [None] * 3 + ["Walking"] * (len(labels) - 3)
    assert [label["familiarity"] for label in labels] == pytest.approx(np.linspace(0, 1, len(labels)), abs=1e-6)


def test_smoothing_can_be_turned_off(bundle: Bundle, metrics: WorkerMetrics) -> None:
    stream = activity_kind(ActivitySettings(smoothing=False)).prepare(bundle, metrics)(FIRST)
    labels = labels_of(stream, bundle, [ten_seconds("phone", second=10 * k, offset=k) for k in range(3)])
    assert {label["smoothed_activity"] for label in labels} == {None}


def test_without_transitions_nothing_is_smoothed(tmp_path: Path, open_stream: OpenStream) -> None:
    """As after a swap to a model that tells none."""
    silent = har_bundle(tmp_path / "tiny-har", transitions=None)
    labels = labels_of(open_stream(FIRST), silent, [ten_seconds("phone", second=10 * k, offset=k) for k in range(3)])
    assert {label["smoothed_activity"] for label in labels} == {None}


def test_the_shipped_model_tells_all_that_labels_and_drift_can_use() -> None:
    """Else both fields are null, and the panel of drift empty, for everybody who doesn't train."""
    manifest = load_bundle(find_bundle(ActivitySettings().bundle)).manifest
    assert manifest.tells_strangers
    assert manifest.transitions is not None
    assert manifest.population is not None
    assert manifest.population.tenths.keys() == features(np.zeros((1, 80, 3), np.float32)).keys()


def history(device: str, second: float, *, offset: int, came: float | None = None) -> HandMade:
    """Two seconds of a device's readings, in a record that came when they were over, or in another second."""
    start_ms = START_MS + int(1000 * second)
    came_ms = START_MS + int(1000 * (second + 2 if came is None else came))
    return HandMade(chunk(device_id=device, start=start_ms, samples=ROWS[:40]), offset=offset, timestamp=came_ms)


def starts(stream: Stream, records: Sequence[HandMade], *, mute: bool = False) -> dict[Any, bool]:
    """Push them at once; return the windows that close, and whether by silence."""
    _, blocks = stream.push(Records.of(records), 0.0, mute=mute)
    return {identity: block.silent for block in blocks for identity in stream.identities(block)}


def crowd(seconds: int, *, first_offset: int) -> list[HandMade]:
    """Forty devices that go on for so long: by them the log tells the time."""
    times = [(second, device) for second in range(0, seconds, 2) for device in range(40)]
    return [history(f"other-{device}", second, offset=first_offset + n) for n, (second, device) in enumerate(times)]


@pytest.fixture
def by_log_time(bundle: Bundle, metrics: WorkerMetrics) -> Stream:
    return activity_kind(ActivitySettings(), until_s=START_MS / 1000 + 3600).prepare(bundle, metrics)(FIRST)


def own(windows: dict[Any, bool]) -> dict[int, bool]:
    return {start: silent for (device, start), silent in windows.items() if device == b"set-back"}


def test_in_history_a_device_falls_silent_when_the_log_says_nothing_of_it_for_long(
    by_log_time: Stream, open_stream: OpenStream
) -> None:
    """Its clock is set back meanwhile: were it still remembered, all that follows would be late."""
    before = [history("set-back", second, offset=second // 2) for second in range(0, 10, 2)]
    others = crowd(120, first_offset=10)
    after = [history("set-back", s - 3000, offset=10_000 + s // 2, came=120 + s) for s in range(0, 10, 2)]
    found = own(starts(by_log_time, [*before, *others, *after, history("set-back", -2980, offset=11_000, came=140)]))
    early = {start for start in found if start > START_MS - 10_000}
    assert len(early) == 4
    assert {found[start] for start in early} == {False, True}  # the last of them by silence
    assert len(found) == 8
    by_the_clock = own(starts(open_stream(FIRST), [*before, *others, *after]))
    assert set(by_the_clock) < early


def test_what_is_only_rebuilt_of_history_hears_no_silence(by_log_time: Stream) -> None:
    """What was open when the position was committed may be closed by time, later: a silence now would lose it."""
    before = [history("set-back", second, offset=second // 2) for second in range(0, 10, 2)]
    closed = own(starts(by_log_time, [*before, *crowd(120, first_offset=10)], mute=True))
    assert not any(closed.values())
    assert by_log_time.rewind_to(10_000) < 5


def test_devices_that_strayed_for_whom_a_commit_has_no_room_are_counted(
    open_stream: OpenStream, counted: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each second one begins, and one sends a reading that is long past, fifty seconds after its newest."""
    monkeypatch.setattr(silent_devices, "MOST", 20)
    stream = open_stream(FIRST)
    position = 0
    for second in range(400):
        sent = [(second, 0)] + ([(second - 50, -5)] if second >= 50 else [])
        records = [
            HandMade(
                chunk(device_id=f"phone-{begun}", start=START_MS + 1000 * (begun + late), samples=ROWS[:1]),
                offset=position + row,
            )
            for row, (begun, late) in enumerate(sent)
        ]
        position += len(sent)
        list(stream.push(Records.of(records), float(second), mute=False)[1])
        list(stream.fall_silent(float(second)))
        assert position - stream.rewind_to(position) <= 2 * 2 * 60
        assert len(stream.skip_until()) <= 20
    assert 0 < counted("snapshot_overflow_devices_total") < 200


@pytest.mark.parametrize(("idle_timeout_s", "lateness_slots", "warns"), [(3, 4, True), (60, 1200, True), (5, 4, False)])
def test_an_idle_timeout_shorter_than_a_window_waits_is_warned_of(
    idle_timeout_s: float,
    lateness_slots: int,
    warns: bool,
    bundle: Bundle,
    metrics: WorkerMetrics,
    counted: Callable[..., float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker with 3 s took every device that sent live for silent, again and again, labelled none, and said nothing.

    So did one with 60 s and a lateness of as many.
    """
    settings = ActivitySettings(idle_timeout_s=idle_timeout_s, lateness_slots=lateness_slots)
    with caplog.at_level(logging.WARNING):
        stream = activity_kind(settings).prepare(bundle, metrics)(FIRST)
    for second in range(130):
        one = HandMade(chunk(device_id="phone", start=START_MS + 1000 * second, samples=ROWS[:20]), offset=second)
        _, blocks = stream.push(Records.of([one]), float(second), mute=False)
        assert not warns or not list(blocks)
        list(blocks)
        list(stream.fall_silent(float(second)))
    assert ("activity.idle_timeout_s is" in caplog.text) == warns
    assert (counted("windows_total", outcome="incomplete") > 2) == warns
