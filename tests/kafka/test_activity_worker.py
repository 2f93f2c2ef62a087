"""The activity worker as a process, on Apache Kafka itself, checked from outside."""

import json
import re
import signal
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.bundle import SHIPPED
from ingest.record_batches.decompression import LARGEST
from service.broker.node import Broker
from service.kafka_admin.topics import admin_client
from tests.ingest.batches import Batch, record
from tests.kafka.expected import (
    expected_windows,
    plain_probabilities,
)
from tests.kafka.outside_client import producer, read_topic
from tests.kafka.raw_client import produce_raw
from tests.kafka.stage import LABELS, START_MS, Message, Stage, check_labels, interleave, sample, walk
from tests.kafka.worker_process import WorkerProcess, running_worker
from tests.other_kafka import with_zookeeper
from tests.service.kept import arrow
from tests.windowing.reference import Reading
from training.data.datasets import read_file
from training.data.frames import served_frames
from training.data.recordings import Recording


def excerpt(device: str, recording: Recording, readings: int = 6000) -> list[Reading]:
    times = START_MS + recording.t_ms[:readings] - recording.t_ms[0]
    rows = zip(times.tolist(), recording.xyz[:readings].tolist(), strict=True)
    return [Reading(device.encode(), at, x, y, z) for at, (x, y, z) in rows]


def test_every_window_of_every_device_is_labelled_once_as_a_plain_network_would(stage: Callable[..., Stage]) -> None:
    here = stage()
    readings = interleave(*(walk(f"phone-{number}", 24, seed=number) for number in range(12)))
    windows = expected_windows([[reading] for reading in readings])
    assert len(windows) > 100
    with running_worker(here.log, *here.flags):
        here.send([sample(reading) for reading in readings])
        check_labels(here, here.labels(len(windows)), windows, whole=True)


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("name", "people"),
    [("WISDM_ar_v1.1_segments_reconstructed.txt.xz", 4), ("phones/mobifall_v2.csv.xz", 12)],
)
def test_recorded_people_get_every_window_once_with_the_right_label(
    name: str, people: int, stage: Callable[..., Stage], recordings_folder: Path
) -> None:
    here = stage(activity__bundle="har-cnn")
    here.bundle = SHIPPED / "har-cnn"
    recorded = read_file(recordings_folder / name).recordings[:people]
    readings = interleave(*(excerpt(f"person-{number}", each) for number, each in enumerate(recorded)))
    windows = expected_windows([[reading] for reading in readings])
    assert len(windows) > 50
    with running_worker(here.log, *here.flags):
        here.send([sample(reading) for reading in readings])
        check_labels(here, here.labels(len(windows)), windows)


def test_the_three_forms_of_messages_mean_the_same(stage: Callable[..., Stage]) -> None:
    here = stage()
    readings = walk("phone", 20, seed=1, jitter_ms=0)
    messages: list[Message] = []
    records: list[list[Reading]] = []
    for number, start in enumerate(range(0, len(readings), 20)):
        part = readings[start : start + 20]
        xyz = [[reading.x, reading.y, reading.z] for reading in part]
        at = part[0].timestamp_ms
        if number % 3 == 0:
            messages += [sample(reading) for reading in part]
            records += [[reading] for reading in part]
            continue
        records.append(part)
        if number % 3 == 1:
            value = json.dumps({"device_id": "phone", "start": at, "rate_hz": 20, "samples": xyz}).encode()
            messages.append((b"phone", value, []))
        else:
            value = struct.pack("<BBHfq", 1, 0, len(part), 20.0, at) + np.array(xyz, "<f4").tobytes()
            messages.append((b"phone", value, [("content-type", b"application/vnd.stridecast.chunk")]))
    windows = expected_windows(records)
    with running_worker(here.log, *here.flags):
        here.send(messages)
        check_labels(here, here.labels(len(windows)), windows)


def test_bad_records_go_to_the_dead_letters_as_they_came_and_their_neighbours_are_labelled(
    stage: Callable[..., Stage],
) -> None:
    here = stage()
    readings = walk("good", 16, seed=2)
    bad: list[Message] = [
        (b"k1", b"not JSON", [("mine", b"kept")]),
        (None, None, []),
        (b"k2", None, []),
        (b"k3", b'{"device_id": "bad", "timestamp": "1700000000000", "x": 1, "y": 2, "z": 3}', []),
        (b"k4", b'{"device_id": "bad", "timestamp": 1700000000000, "x": NaN, "y": 2, "z": 3}', []),
        (b"k5", b'{"device_id": "bad", "timestamp": 1700000000000, "x": true, "y": 2, "z": 3}', []),
        (b"k6", b"\xff\xfe", [("content-type", b"application/vnd.stridecast.chunk")]),
        (b"k7", b"x", [("content-type", b"text/plain")]),
        (b"k8", b"[" * 200_000, []),
    ]
    messages: list[Message] = []
    records: list[list[Reading]] = []
    for number, reading in enumerate(readings):
        messages.append(sample(reading))
        records.append([reading])
        if number % 30 == 0:
            messages.append(bad[number // 30 % len(bad)])
            records.append([])
    sent_bad = [message for message in messages if message in bad]
    windows = expected_windows(records)
    with running_worker(here.log, *here.flags) as worker:
        here.send(messages)
        check_labels(here, here.labels(len(windows)), windows)
        letters = read_topic(
            here.broker.bootstrap_servers, here.dead_letters, until=lambda seen: len(seen) >= len(sent_bad)
        )
        assert worker.metric("stridecast_records_rejected_total") == len(sent_bad)
    assert [(letter.key(), letter.value()) for letter in letters] == [message[:2] for message in sent_bad]
    offsets = [offset for offset, record in enumerate(records) if not record]
    for letter, offset, message in zip(letters, offsets, sent_bad, strict=True):
        headers = letter.headers()
        assert isinstance(headers, list)
        assert headers[: len(message[2])] == message[2]
        told = dict(headers)
        assert told["source-topic"] == here.input.encode()
        assert (told["source-partition"], told["source-offset"]) == (b"0", str(offset).encode())
        assert told["error-reason"]
        assert told["error-detail"]


def test_a_dead_letter_too_large_for_its_topic_harms_no_other_record(stage: Callable[..., Stage]) -> None:
    """kafka-python's idempotent producer fails for good after one such refusal, and no label came through any more."""
    here = stage(dead_letters={"max_message_bytes": "2000"})
    readings = walk("good", 24, seed=9)
    records: list[list[Reading]] = [[reading] for reading in readings]
    messages = [sample(reading) for reading in readings]
    bad: list[tuple[int, Message]] = [(400, (b"small", b"not JSON", [])), (200, (b"large", b"x" * 5000, []))]
    for at, message in bad:
        messages.insert(at, message)
        records.insert(at, [])
    windows = expected_windows(records)
    with running_worker(here.log, *here.flags) as worker:
        here.send(messages)
        check_labels(here, here.labels(len(windows)), windows)
        (letter,) = read_topic(here.broker.bootstrap_servers, here.dead_letters, until=lambda seen: len(seen) >= 1)
        assert letter.key() == b"small"
        assert worker.metric("stridecast_dead_letter_failures_total") == 1
        assert worker.terminate() == 0


def test_what_stands_for_many_megabytes_is_a_dead_letter_and_keeps_nobody_waiting(stage: Callable[..., Stage]) -> None:
    """The parser held the worker for so long that its session expired, whoever came next was given the record again."""
    here = stage(dead_letters={"max_message_bytes": str(64 << 20)})
    readings = walk("good", 16, seed=12)
    records = [[reading] for reading in readings]
    windows = expected_windows([*records[:200], [], [], [], *records[200:]])
    lists = b'{"a":[' + b"[]," * (50_000_000 // 3) + b"[]]}"
    good = sample(readings[0])[1]
    bombs = [record(0, lists, b"lists"), record(0, good, b"headers", [(b"", b"")] * 1_000_000)]
    bombs.append(record(0, 2 * lists, b"more than a producer sends"))
    with running_worker(here.log, *here.flags) as worker:
        here.send([sample(reading) for reading in readings[:200]])
        for bomb in bombs:
            batch = Batch([bomb], attributes=4, first_timestamp=START_MS + 60_000, max_timestamp=START_MS + 60_000)
            assert len(batch.written) < 15_000
            produce_raw(here.broker.bootstrap_servers, here.input, batch.written)
        here.send([sample(reading) for reading in readings[200:]])
        check_labels(here, here.labels(len(windows)), windows)
        assert worker.get("/readyz")[0] == worker.get("/livez")[0] == 200
        assert worker.metric("stridecast_records_rejected_total", reason="too_large") == 3
        letters = read_topic(here.broker.bootstrap_servers, here.dead_letters, until=lambda seen: len(seen) >= 2)
        assert worker.metric("stridecast_dead_letter_failures_total") == 1
        assert worker.terminate() == 0
    by_key = {letter.key(): letter for letter in letters}  # one that was in a batch with a refused one comes later
    values = {key: zlib.crc32(letter.value() or b"") for key, letter in by_key.items()}  # nobody reads a diff of 50 MB
    assert values == {b"lists": zlib.crc32(lists), b"headers": zlib.crc32(good or b"")}
    assert [dict(letter.headers() or [])["error-reason"] for letter in letters] == [b"too_large"] * 2
    assert len(by_key[b"headers"].headers() or []) == 105


def odd_batches(value: bytes) -> Iterator[Batch]:
    """What Kafka takes of any client, and what ended a worker once, again at each start."""
    yield Batch([record(0, value, headers=[(b"\xff\xfe", b"")])])
    yield Batch([record(1, value), record(0, value)])
    yield Batch([record(-3, value), record(1, value)])
    yield Batch([record(0, value), record(2**31 - 2, value)])
    strange = bytearray(record(0, value, b"k"))
    strange[2] = 0x80  # the attributes, behind a size of two bytes
    yield Batch([bytes(strange)])
    yield Batch([record(0, value)], attributes=1, trailer=b"garbage!")
    yield Batch([record(0, bytes(LARGEST + 1))], attributes=4)


def test_what_no_broker_checks_does_not_stop_the_worker(stage: Callable[..., Stage]) -> None:
    here = stage()
    readings = walk("phone", 12, seed=6)
    odd = sample(readings[100])[1]
    assert odd is not None
    batches = list(odd_batches(odd))
    again = sum(len(batch.records) for batch in batches[:-1])
    records = [[reading] for reading in readings]
    windows = expected_windows([*records[:100], *[records[100]] * again, [], *records[101:]])
    with running_worker(here.log, *here.flags) as worker:
        here.send([sample(reading) for reading in readings[:100]])
        for batch in batches:
            stamped = replace(batch, first_timestamp=START_MS + 60_000, max_timestamp=START_MS + 60_000)
            produce_raw(here.broker.bootstrap_servers, here.input, stamped.written)
        here.send([sample(reading) for reading in readings[101:]])
        check_labels(here, here.labels(len(windows)), windows)
        assert worker.metric("stridecast_unreadable_records_total") == 1


def test_a_worker_stopped_mid_stream_and_started_again_loses_no_window_and_says_none_twice(
    stage: Callable[..., Stage],
) -> None:
    here = stage(partitions=2)
    devices = [walk(f"phone-{number}", 40, seed=number) for number in range(8)]
    by_partition = [interleave(*devices[:4]), interleave(*devices[4:])]
    windows = [window for part in by_partition for window in expected_windows([[reading] for reading in part])]
    for from_, to in ((0.0, 0.3), (0.3, 0.7)):
        worker = here.worker()
        worker.wait_until_ready()
        for partition, part in enumerate(by_partition):
            here.send([sample(reading) for reading in part[int(from_ * len(part)) : int(to * len(part))]], partition)
        worker.wait_for("stridecast_samples_total", 1)
        assert worker.terminate() == 0, worker.said()
    with running_worker(here.log, *here.flags) as worker:
        for partition, part in enumerate(by_partition):
            here.send([sample(reading) for reading in part[int(0.7 * len(part)) :]], partition)
        check_labels(here, here.labels(len(windows)), windows)
        assert worker.metric("stridecast_recovered_records_total") > 0


def test_a_device_that_falls_silent_gets_its_last_windows_after_the_idle_timeout(stage: Callable[..., Stage]) -> None:
    here = stage(activity__idle_timeout_s="2")
    readings = walk("quiet", 10, seed=3)
    windows = expected_windows([[reading] for reading in readings], silent=True)
    assert {window.closed_by for window in windows} == {"time", "silence"}
    with running_worker(here.log, *here.flags) as worker:
        here.send([sample(reading) for reading in readings])
        check_labels(here, here.labels(len(windows)), windows)
        assert worker.metric("stridecast_active_devices") == 0


def test_a_partition_whose_log_ends_in_an_aborted_transaction_still_notices_silence(
    stage: Callable[..., Stage],
) -> None:
    """Aborted and control records take offsets that no poll returns; the position must pass them all the same."""
    here = stage(activity__idle_timeout_s="2")
    readings = walk("quiet", 10, seed=4)
    windows = expected_windows([[reading] for reading in readings], silent=True)
    with running_worker(here.log, *here.flags) as worker:
        here.send([sample(reading) for reading in readings])
        client = producer(here.broker.bootstrap_servers, **{"transactional.id": here.input})
        client.init_transactions()
        client.begin_transaction()
        for reading in walk("never", 10, seed=5):
            client.produce(here.input, key=reading.device_id, value=sample(reading)[1], partition=0)
        client.flush()
        client.abort_transaction()
        check_labels(here, here.labels(len(windows)), windows)
        assert worker.metric("stridecast_samples_total") == len(readings)
        assert worker.metric("stridecast_consumer_lag_records") == 0


def test_labels_go_to_the_partition_of_their_input_modulo_the_outputs(stage: Callable[..., Stage]) -> None:
    here = stage(partitions=3, output_partitions=2)
    windows = []
    with running_worker(here.log, *here.flags):
        for partition in range(3):
            readings = walk(f"phone-{partition}", 12, seed=partition)
            windows += expected_windows([[reading] for reading in readings])
            here.send([sample(reading) for reading in readings], partition)
        labels = here.labels(len(windows))
    check_labels(here, labels, windows)
    for label in labels:
        source = int(label.headers["source-partition"])
        assert label.key == f"phone-{source}".encode()
        assert label.partition == source % 2


def test_a_second_worker_takes_its_share_and_gives_it_back_without_loss(stage: Callable[..., Stage]) -> None:
    here = stage(partitions=4)
    by_partition = [walk(f"phone-{number}", 36, seed=number) for number in range(4)]
    windows = [window for part in by_partition for window in expected_windows([[reading] for reading in part])]

    def send_part(number: int) -> None:
        for partition, part in enumerate(by_partition):
            third = len(part) // 3
            here.send([sample(reading) for reading in part[number * third : (number + 1) * third]], partition)

    with running_worker(here.log, *here.flags) as first:
        send_part(0)
        with running_worker(here.log, *here.flags) as second:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and second.get("/metrics")[1].count("stridecast_rewind_records{") < 2:
                time.sleep(0.1)
            assert second.get("/metrics")[1].count("stridecast_rewind_records{") == 2, second.said()
            send_part(1)
            time.sleep(1)
            assert second.terminate() == 0
        send_part(2)
        check_labels(here, here.labels(len(windows)), windows)
        assert first.metric("stridecast_rebalances_total") >= 2


def test_a_device_on_two_partitions_is_counted(stage: Callable[..., Stage]) -> None:
    here = stage(partitions=2)
    with running_worker(here.log, *here.flags) as worker:
        for partition in range(2):
            here.send([sample(reading) for reading in walk("torn", 1, seed=1)], partition)
        worker.wait_for("stridecast_split_devices_total", 1)
        assert worker.metric("stridecast_split_devices_total") == 1


def test_health_metrics_and_the_live_view_are_served(stage: Callable[..., Stage]) -> None:
    here = stage()
    with running_worker(here.log, *here.flags) as worker:
        assert worker.get("/livez") == (200, "ok\n")
        assert worker.get("/readyz") == (200, "ok\n")
        assert worker.get("/nowhere")[0] == 404
        assert "<title>Stridecast" in worker.get("/")[1]
        page = worker.get("/metrics")[1]
        assert 'stridecast_records_rejected_total{reason="' in page.replace('worker="activity",', "").replace(
            ',worker="activity"', ""
        )
        assert worker.metric("stridecast_model_info", name="nonsense", version="3", device="cpu") == 1


def test_labels_go_on_after_the_broker_was_away_and_the_log_says_so_in_few_lines(
    broker: Broker, bundle: Path, tmp_path: Path
) -> None:
    own = Broker(tmp_path / "kafka")
    readings = walk("phone", 40, seed=3)
    windows = expected_windows([[reading] for reading in readings])
    with own:
        with admin_client(own.bootstrap_servers) as admin:
            one = {"num_partitions": 1, "replication_factor": 1}
            admin.create_topics({"in": one, "out": one, "dead": one}, wait_for_metadata=True)
        flags = ["--kafka.bootstrap-servers", own.bootstrap_servers, "--activity.bundle", str(bundle)]
        flags += ["--inference.precision", "float32", "--kafka.session-timeout-s", "3"]
        flags += ["--activity.input-topic", "in", "--activity.output-topic", "out", "--activity.dead-letter-topic"]
        here = Stage(own, "in", "out", "dead", [*flags, "dead"], tmp_path / "worker.log", bundle)
        with running_worker(here.log, *here.flags) as worker:
            here.send([sample(reading) for reading in readings[:400]])
            here.labels(6)
            own.stop()
            worker.wait_to_say("no answer from Kafka at ")
            # Beyond a session: kafka-python looks for the group.
            worker.wait_for("stridecast_kafka_silence_seconds", 7)
            assert worker.metric("stridecast_ready") == 1
            own.start()
            worker.wait_to_say("Kafka answers again, after ")
            worker.wait_for("stridecast_kafka_silence_seconds", at_most=5)
            here.send([sample(reading) for reading in readings[400:]])
            check_labels(here, here.labels(len(windows)), windows)
            assert worker.terminate() == 0, worker.said()
            assert "handed back in[0]" in worker.said()
            assert len(worker.said().splitlines()) < 30, worker.said()
            assert "NotCoordinatorError" not in worker.said()
            said = worker.said()
            if with_zookeeper():  # such a broker doesn't know its topics at first, and the log may have a line of that
                said = re.sub(r".* kafka\.cluster: Topic (in|out) not found in cluster metadata\n", "", said)
            assert not re.search(r" kafka\.(net|cluster|consumer|producer)", said), said
            assert f"can't connect to a Kafka broker ({own.bootstrap_servers}: connection refused)" in worker.said()


def test_windows_that_the_model_is_unsure_of_are_kept_whole_and_can_be_trained_on(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:
    arrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    here, folder = stage(), tmp_path / "kept"
    readings = interleave(*(walk(f"phone-{number}", 24, seed=number) for number in range(6)))
    windows = expected_windows([[reading] for reading in readings])
    confidence = plain_probabilities(here.bundle, np.array([window.values for window in windows])).max(axis=1)
    bound = in_a_gap(confidence)
    below = {(w.device_id, w.start_ms): w for w, sure in zip(windows, confidence, strict=True) if sure < bound}
    assert 0 < len(below) < len(windows)
    flags = ["--activity.keep.folder", str(folder), "--activity.keep.below-confidence", str(bound)]
    with running_worker(here.log, *here.flags, *flags) as worker:
        here.send([sample(reading) for reading in readings])
        check_labels(here, here.labels(len(windows)), windows, whole=True)
        assert worker.terminate() == 0, worker.said()
    kept = pq.read_table(folder)
    rows = {(row["device_id"].encode(), row["window_start"]): row for row in kept.to_pylist()}
    assert len(kept) == len(rows)
    assert set(rows) == set(below)
    for identity, window in below.items():
        row = rows[identity]
        np.testing.assert_allclose(row["frame"], np.ravel(window.values), rtol=1e-5, atol=1e-5)
        assert (row["source_topic"], row["source_partition"]) == (here.input, 0)
        assert (row["source_offset"], row["longest_gap_ms"]) == (window.source_offset, window.longest_gap_ms)
        assert row["predicted"] == max(row["probabilities"], key=row["probabilities"].__getitem__)
    labelled = kept.set_column(kept.column_names.index("activity"), "activity", kept["predicted"])
    pq.write_table(labelled, tmp_path / "labelled.parquet")
    trained = served_frames(read_file(tmp_path / "labelled.parquet").recordings)
    assert trained.values.tobytes() == pa.concat_arrays(kept["frame"].chunks).flatten().to_numpy().tobytes()
    assert [LABELS[code] for code in trained.activity] == kept["predicted"].to_pylist()


def in_a_gap(values: np.ndarray) -> float:
    """A bound that no rounding puts a value on the other side of, with some on both."""
    values = np.sort(values)
    middle = slice(len(values) // 4, 3 * len(values) // 4)
    widest = len(values) // 4 + int(np.argmax(np.diff(values[middle])))
    return float(values[widest] + values[widest + 1]) / 2


def test_a_folder_for_kept_windows_that_cant_be_written_to_is_refused_at_the_start(stage: Callable[..., Stage]) -> None:
    arrow()
    here = stage()
    worker = here.worker("--activity.keep.folder", "/proc/kept")
    assert worker.process.wait(40) == 1
    assert "can't write to activity.keep.folder /proc/kept: " in worker.said()
    assert "Traceback" not in worker.said()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_a_worker_that_waits_for_a_broker(tmp_path: Path, number: int, status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts connections, and never answers
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        before = signal.signal(number, signal.SIG_DFL)  # ignored in a script's background, it would be by a worker, too
        worker = WorkerProcess(tmp_path / "worker.log", "--kafka.bootstrap-servers", address)
        signal.signal(number, before)
        silent.settimeout(40)
        with silent.accept()[0]:
            worker.process.send_signal(number)
            assert worker.process.wait(40) == status, worker.said()
    assert "no Kafka broker answers" not in worker.said()
    assert "Exception" not in worker.said(), worker.said()
    assert "Traceback" not in worker.said()


def test_a_worker_without_topics_or_broker_ends_with_one_sentence(broker: Broker, tmp_path: Path, bundle: Path) -> None:
    flags = ["--kafka.bootstrap-servers", broker.bootstrap_servers, "--activity.bundle", str(bundle)]
    worker = WorkerProcess(tmp_path / "missing.log", *flags, "--activity.input-topic", "no-such-topic")
    assert worker.process.wait(40) == 1
    assert "has no topic" in worker.said()
    assert "no-such-topic" in worker.said()
    assert "Traceback" not in worker.said()
    worker = WorkerProcess(tmp_path / "nobody.log", "--kafka.bootstrap-servers", "127.0.0.1:1", *flags[2:])
    assert worker.process.wait(40) == 1
    assert "no Kafka broker answers at 127.0.0.1:1 (127.0.0.1:1: connection refused)" in worker.said()
    assert " kafka." not in worker.said()
    assert "Traceback" not in worker.said()


def test_records_that_come_in_trickles_gather_for_as_long_as_they_may(stage: Callable[..., Stage]) -> None:
    at = stage(gather_ms="1000")
    readings = walk("phone", 1.5, seed=1)
    with running_worker(at.log, *at.flags) as worker:
        for reading in readings:
            at.send([sample(reading)])
            time.sleep(0.025)
        worker.wait_for("stridecast_records_total", len(readings), topic=at.input)
        blocks = worker.metric("stridecast_stage_duration_seconds_count", stage="decode")
    assert blocks <= len(readings) / 4
