"""What tests of the activity worker share: topics of their own, people who walk, and what must become of that."""

import datetime
import itertools
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from inference.architectures import build
from inference.manifest import ArchitectureChoice, Description, Input, Normalisation, Training
from inference.saving import save_bundle
from ingest.contract import ActivityLabel
from service.broker.node import Broker
from tests.kafka.expected import expected_smoothed, may_be_smoothed, plain_familiarity, plain_probabilities
from tests.kafka.outside_client import Label, producer, read_labels, send
from tests.kafka.worker_process import WorkerProcess
from tests.windowing.reference import Reading, Window

START_MS = 1_700_000_000_000
LABELS = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")

Message = tuple[bytes | None, bytes | None, list[tuple[str, str | bytes | None]]]


def nonsense_bundle(folder: Path) -> Path:
    """A bundle whose weights are random: what it says is nonsense, but each frame has an answer of its own."""
    import torch

    torch.manual_seed(7)
    network = build("har-cnn")
    for parameter in network.parameters():
        parameter.data *= 2.0
    description = Description(
        name="nonsense",
        version="3",
        architecture=ArchitectureChoice(name="har-cnn"),
        input=Input(shape=(80, 3)),
        labels=LABELS,
        normalisation=Normalisation(mean=(0.5, 7.0, 0.5), std=(6.0, 6.0, 4.0)),
        temperature=1.5,
        training=Training(data=(), command="none", seed=7, date=datetime.date(2026, 1, 1)),
    )
    frames = np.random.default_rng(7).normal(0, 5, (4, 80, 3)).astype(np.float32)
    save_bundle(folder, network, description, frames)
    return folder


@dataclass
class Stage:
    """Topics of a test's own, and a worker's flags for them."""

    broker: Broker
    input: str
    output: str
    dead_letters: str
    flags: list[str]
    log: Path
    bundle: Path

    @property
    def model(self) -> str:
        manifest = json.loads((self.bundle / "bundle.json").read_text())
        return f"{manifest['name']}@{manifest['version']}"

    def send(self, messages: list[Message], partition: int = 0) -> None:
        send(producer(self.broker.bootstrap_servers), self.input, messages, partition=partition)

    def labels(self, count: int) -> list[Label]:
        return read_labels(self.broker.bootstrap_servers, self.output, count)

    def worker(self, *flags: str) -> WorkerProcess:
        return WorkerProcess(self.log, *self.flags, *flags)


def walk(device: str, seconds: float, *, seed: int, start_ms: int = START_MS, jitter_ms: int = 12) -> list[Reading]:
    """A device's 20 Hz signal with a clock that isn't clean."""
    random = np.random.default_rng(seed)
    count = int(seconds * 20)
    times = start_ms + 50 * np.arange(count) + random.integers(-jitter_ms, jitter_ms + 1, count)
    xyz = random.normal([0.5, 9.0, 0.3], 4, (count, 3)).astype(np.float32)
    rows = zip(times.tolist(), xyz.tolist(), strict=True)
    return [Reading(device.encode(), at, x, y, z) for at, (x, y, z) in rows]


def sample(reading: Reading) -> Message:
    value = {"device_id": reading.device_id.decode(), "timestamp": reading.timestamp_ms}
    return reading.device_id, json.dumps(value | {"x": reading.x, "y": reading.y, "z": reading.z}).encode(), []


def chunk(readings: list[Reading]) -> Message:
    """Readings of one device whose clock is clean."""
    samples = [[reading.x, reading.y, reading.z] for reading in readings]
    head = {"device_id": readings[0].device_id.decode(), "start": readings[0].timestamp_ms, "rate_hz": 20}
    return readings[0].device_id, json.dumps(head | {"samples": samples}).encode(), []


def interleave(*devices: list[Reading]) -> list[Reading]:
    return sorted(itertools.chain(*devices), key=lambda reading: reading.timestamp_ms)


def check_labels(stage: Stage, labels: list[Label], windows: list[Window], *, whole: bool = False) -> None:
    """Every window once, none beside, and each with the label that a plain network gives it.

    `whole` are the labels of one worker from the first on: each says what can be said by the windows before it.
    """
    counted = Counter(label.identity for label in labels)
    wanted = {(window.device_id, window.start_ms): window for window in windows}
    assert set(counted) == set(wanted)
    assert set(counted.values()) <= {1}
    in_order = plain_probabilities(stage.bundle, np.array([window.values for window in windows]))
    shares = expected_smoothed([(window.device_id, window.start_ms) for window in windows], in_order, stage.bundle)
    found = [wanted[label.identity] for label in labels]
    frames = np.array([window.values for window in found])
    rows, familiarity = plain_probabilities(stage.bundle, frames), plain_familiarity(stage.bundle, frames)
    heard = 0
    for label, window, row, familiar in zip(labels, found, rows, familiarity, strict=True):
        value = ActivityLabel.model_validate(label.value, strict=True)
        assert value.device_id.encode() == window.device_id
        assert value.window_end == window.start_ms + 4000
        assert value.coverage == pytest.approx(window.measured / 80)
        assert value.longest_gap_ms == window.longest_gap_ms
        assert value.closed_by == window.closed_by
        assert value.model == stage.model
        assert int(label.headers["source-offset"]) == window.source_offset
        assert [value.probabilities[name] for name in LABELS] == pytest.approx(row.tolist(), abs=1e-3)
        if np.diff(np.sort(row))[-1] > 2e-3:
            assert value.activity == LABELS[int(row.argmax())]
        assert value.familiarity == (familiar if familiar is None else pytest.approx(familiar, abs=1e-3))
        assert may_be_smoothed(value.smoothed_activity, shares[label.identity], LABELS)
        heard += value.smoothed_activity is not None
    # Who takes a partition over has to hear enough first.
    most = sum(share is not None for share in shares.values())
    assert heard == most if whole else heard <= most
