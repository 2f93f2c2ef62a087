"""A bundle's folder that changes under a worker: what is swapped in, what is refused, and when it is looked at."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from inference.bundle import load_bundle
from inference.core import Core
from inference.lanes import Lane
from ingest.record_batches.bodies import unpack
from service.kind import Block
from service.monitoring.metrics import Families, WorkerMetrics
from service.pipeline.each_record import Rows, encode_labels
from service.serving.hot_swap import HotSwap
from tests.inference.bundles import constant_bundle
from tests.inference.fakes import Clock, FakeDevice, Receiver, end, numbered


@dataclasses.dataclass
class Rig:
    """A lane that serves the folder's bundle on a fake device, what looks after the folder, and its metrics."""

    folder: Path
    lane: Lane
    swap: HotSwap
    device: FakeDevice
    received: Receiver
    registry: CollectorRegistry

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.swap.look()

    def loads(self, outcome: str) -> float | None:
        return self.registry.get_sample_value(
            "stridecast_model_loads_total", {"worker": "activity", "outcome": outcome}
        )

    def versions(self) -> list[str]:
        return [
            sample.labels["version"]
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "stridecast_model_info"
        ]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    folder = tmp_path / "serving"
    bundle = constant_bundle(folder)
    device, received, registry = FakeDevice(), Receiver(), CollectorRegistry()
    core = Core(device, max_batch=4, clock=Clock(), deliver=received)
    lane = core.open(bundle)
    core.start()
    metrics = WorkerMetrics(Families(registry), "activity", topics=[], reasons=[], labels=bundle.manifest.labels)
    metrics.model_loaded(lane.model)
    yield Rig(folder, lane, HotSwap(folder, lane, metrics), device, received, registry)
    end(core, device)


def newer(folder: Path, version: str = "2") -> Path:
    """The constant bundle with another version, and so another digest."""
    constant_bundle(folder)
    manifest = folder / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"version": "1"', f'"version": "{version}"'))
    return folder


def replace(folder: Path, by: Path) -> None:
    folder.rename(folder.with_name("old"))
    by.rename(folder)


def test_a_bundle_put_in_the_folders_place_serves_from_the_next_batch_on(rig: Rig, tmp_path: Path) -> None:
    replace(rig.folder, newer(tmp_path / "new"))
    rig.look()
    rig.lane.submit(numbered(1), "ticket")

    assert [result.bundle.title for result in rig.received.wait_for(1)] == ["constant@2"]
    assert (rig.loads("success"), rig.loads("failure")) == (2, 0)
    assert rig.versions() == ["2"]


def test_a_symbolic_link_that_is_turned_to_another_folder_swaps_too(rig: Rig, tmp_path: Path) -> None:
    rig.folder.rename(tmp_path / "v1")
    rig.folder.symlink_to(tmp_path / "v1")
    rig.look()
    assert rig.lane.model.bundle.title == "constant@1"
    (tmp_path / "link").symlink_to(newer(tmp_path / "v2"))
    os.replace(tmp_path / "link", rig.folder)
    rig.look()

    assert rig.lane.model.bundle.title == "constant@2"


def test_what_serves_already_is_not_loaded_onto_the_device_again(rig: Rig, tmp_path: Path) -> None:
    model = rig.lane.model
    rig.look()
    replace(rig.folder, Path(shutil.copytree(rig.folder, tmp_path / "copy")))
    rig.look()

    assert rig.lane.model is model
    assert (rig.loads("success"), rig.loads("failure")) == (1, 0)


def truncated(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])


def half_copied(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def not_json(folder: Path) -> None:
    (folder / "bundle.json").write_bytes(b"\x00\xff nonsense")


def endless(folder: Path) -> None:
    os.truncate(folder / "weights.safetensors", 1 << 40)  # a hole: it takes no room, but would take memory


def a_pipe(folder: Path) -> None:
    (folder / "bundle.json").unlink()
    os.mkfifo(folder / "bundle.json")


def other_labels(folder: Path) -> None:
    shutil.rmtree(folder)
    constant_bundle(folder, labels=("a", "b", "d"))


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


CORRUPT = [
    (truncated, "is not a safetensors file"),
    (half_copied, "is missing or not a regular file"),
    (not_json, "the manifest"),
    (endless, "is larger than the"),
    (a_pipe, "is missing or not a regular file"),
    (other_labels, "other labels"),
    (gone, "is missing or not a regular file"),
]


@pytest.mark.parametrize(("corrupt", "reason"), CORRUPT, ids=[corrupt.__name__ for corrupt, _ in CORRUPT])
def test_a_bundle_that_cannot_serve_leaves_the_old_one_and_is_logged_once(
    rig: Rig, caplog: pytest.LogCaptureFixture, corrupt: Callable[[Path], None], reason: str
) -> None:
    model = rig.lane.model
    corrupt(rig.folder)
    rig.look(5)

    assert rig.lane.model is model
    (line,) = caplog.messages
    assert line.startswith("constant@1 goes on serving: ")
    assert reason in line
    assert "\n" not in line
    assert not caplog.records[0].exc_info
    assert (rig.loads("success"), rig.loads("failure")) == (1, 1)
    assert rig.versions() == ["1"]


def test_a_bundle_that_misses_its_golden_answers_is_refused_and_tried_again_when_the_folder_changes(
    rig: Rig, tmp_path: Path
) -> None:
    rig.device.answer = lambda frames: frames[:, :1].repeat(3, axis=1)
    replace(rig.folder, newer(tmp_path / "new"))
    rig.look(4)
    assert rig.loads("failure") == 1
    assert rig.lane.model.bundle.title == "constant@1"

    rig.device.answer = FakeDevice().answer
    rig.look(4)
    assert rig.loads("failure") == 1
    assert rig.lane.model.bundle.title == "constant@1"

    newer(rig.folder, "3")
    rig.look()
    assert rig.lane.model.bundle.title == "constant@3"
    assert rig.loads("success") == 2


def test_a_folder_that_is_still_being_written_is_not_tried_before_it_stands_still(rig: Rig, tmp_path: Path) -> None:
    whole = (newer(tmp_path / "new") / "bundle.json").read_bytes()
    for size in (10, 200, len(whole)):
        (rig.folder / "bundle.json").write_bytes(whole[:size])
        rig.look(1)
    assert rig.lane.model.bundle.title == "constant@1"
    rig.look(1)

    assert rig.lane.model.bundle.title == "constant@2"
    assert rig.loads("failure") == 0


def test_an_error_that_nobody_thought_of_is_logged_with_where_it_came_from(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise LookupError("never thought of")

    replace(rig.folder, newer(tmp_path / "new"))
    rig.device.answer = fail  # type: ignore[assignment]
    rig.look()

    (record,) = caplog.records
    assert record.exc_info is not None
    assert rig.loads("failure") == 1
    assert rig.lane.model.bundle.title == "constant@1"


def test_a_block_answered_by_the_old_and_the_new_bundle_says_so_row_by_row(rig: Rig, tmp_path: Path) -> None:
    old, new = rig.lane.model.bundle, load_bundle(newer(tmp_path / "new"))
    rig.lane.swap(new)  # one load first: the device holds every batch from here on
    rig.lane.swap(old)
    model_of_new = dataclasses.replace(rig.lane.model, bundle=new)
    rig.device.answer = lambda frames: np.full((len(frames), 3), 1 / 3, np.float32)
    rig.device.hold()
    rows = Rows([b"t%d" % n for n in range(6)], np.arange(6))
    block = Block(numbered(*range(6)), rows.source_offset, rows)
    rig.lane.submit(block.frames, block)
    rig.device.wait_for_launches(1)
    with rig.lane._shared.lock:
        rig.lane._model = model_of_new  # as `swap` does in the end
    rig.device.finish(2)

    labels = [label for result in rig.received.wait_for(6) for label in unpack(encode_labels(result, block, 0))]
    assert [key for key, _, _ in labels] == [b"t%d" % n for n in range(6)]
    assert [digest_in(headers) for _, _, headers in labels] == [old.digest] * 4 + [new.digest] * 2
    assert [b"constant@2" in value for _, value, _ in labels] == [False] * 4 + [True] * 2


def digest_in(headers: list[tuple[str, bytes]]) -> str:
    return dict(headers)["bundle-digest"].decode()


def test_closing_ends_the_thread(rig: Rig) -> None:
    rig.swap.start()
    rig.swap.close()
    assert not rig.swap.is_alive()
