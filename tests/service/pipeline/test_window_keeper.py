"""What a worker keeps for labelling, and that nothing which goes wrong there reaches its labels."""

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from inference.bundle import Bundle
from service.activity_worker import activity_kind
from service.configuration.settings import ActivitySettings, KeepSettings
from service.kind import WorkerError
from service.monitoring.metrics import Families, WindowMetrics, WorkerMetrics
from service.pipeline import kept_files
from service.pipeline.kept_files import ROWS_A_FILE, STALE_S, Folder
from service.pipeline.window_keeper import MOST_WAITING, WindowKeeper
from tests.inference.bundles import har_bundle
from tests.service.kept import START_MS, arrow, files_in, labelled, rows_in

arrow()

SOURCE = TopicPartition("accelerometer", 3)
AN_HOUR_S = 3600.0
CLOSE_S = 30.0


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return har_bundle(tmp_path_factory.mktemp("bundles") / "tiny-har")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> WorkerMetrics:
    return WorkerMetrics(Families(registry), "activity", topics=[], reasons=[], labels=[])


@pytest.fixture
def counted(registry: CollectorRegistry) -> Callable[[str], float | None]:
    return lambda outcome: registry.get_sample_value(
        "stridecast_kept_windows_total", {"worker": "activity", "outcome": outcome}
    )


@pytest.fixture
def make_keeper(metrics: WorkerMetrics, tmp_path: Path) -> Callable[..., WindowKeeper]:
    def make(wait_s: float = AN_HOUR_S, **settings: Any) -> WindowKeeper:
        chosen = KeepSettings(folder=tmp_path / "kept", **({"per_minute": 1_000_000} | settings))
        return WindowKeeper(chosen, WindowMetrics(metrics).kept, wait_s)

    return make


def test_what_is_below_either_bound_is_kept_with_all_that_its_label_said(
    make_keeper: Callable[..., WindowKeeper], bundle: Bundle, tmp_path: Path, counted: Callable[[str], float | None]
) -> None:
    keeper = make_keeper(below_confidence=0.6, below_familiarity=0.1)
    keeper.start()
    result, block = labelled(bundle, [0.5, 0.9, 0.625, 0.95], [0.9, 0.05, 0.1, 0.5], before=2)
    keeper.offer(result, block, SOURCE)
    keeper.close(CLOSE_S)
    frames, labels = block.columns.frames, bundle.manifest.labels
    expected = [
        {
            "device_id": f"phone-{row}",
            "window_start": START_MS + 2000 * row,
            "window_end": START_MS + 2000 * row + 4000,
            "frame": frames.values[row].reshape(-1).tolist(),
            "predicted": labels[row],
            "confidence": float(np.float32(confidence)),
            "probabilities": dict(zip(labels, result.probabilities[row - 2].tolist(), strict=True)),
            "familiarity": float(np.float32(familiarity)),
            "coverage": (80 - row) / 80,
            "longest_gap_ms": 50 * (1 + row),
            "source_topic": "accelerometer",
            "source_partition": 3,
            "source_offset": 10 * row,
            "model": "tiny-har@1.0",
            "bundle_digest": bundle.digest,
            "activity": None,
        }
        for row, confidence, familiarity in ((2, 0.5, 0.9), (3, 0.9, 0.05))
    ]
    assert rows_in(tmp_path / "kept") == expected
    assert (counted("written"), counted("dropped"), counted("failed")) == (2, 0, 0)


def test_where_the_model_tells_no_familiarity_confidence_alone_decides(
    make_keeper: Callable[..., WindowKeeper], bundle: Bundle, tmp_path: Path
) -> None:
    keeper = make_keeper(below_familiarity=1.0)
    keeper.start()
    keeper.offer(*labelled(bundle, [0.5, 0.9]), SOURCE)
    keeper.offer(*labelled(bundle, [0.8, 0.7], first=2), SOURCE)
    keeper.close(CLOSE_S)
    assert [(row["window_start"], row["familiarity"]) for row in rows_in(tmp_path / "kept")] == [(START_MS, None)]


def test_batches_of_other_partitions_and_models_share_a_file(
    make_keeper: Callable[..., WindowKeeper], bundle: Bundle, tmp_path: Path
) -> None:
    other = har_bundle(tmp_path / "other", version="1.1")
    keeper = make_keeper()
    keeper.start()
    keeper.offer(*labelled(bundle, [0.5] * 3), SOURCE)
    keeper.offer(*labelled(other, [0.5] * 2, [0.1, 0.2], first=3), TopicPartition("accelerometer", 7))
    keeper.close(CLOSE_S)
    assert len(files_in(tmp_path / "kept")) == 1
    rows = rows_in(tmp_path / "kept")
    assert [(row["model"], row["source_partition"], row["source_offset"]) for row in rows] == [
        ("tiny-har@1.0", 3, 0),
        ("tiny-har@1.0", 3, 10),
        ("tiny-har@1.0", 3, 20),
        ("tiny-har@1.1", 7, 30),
        ("tiny-har@1.1", 7, 40),
    ]
    assert {row["bundle_digest"] for row in rows} == {bundle.digest, other.digest}


def test_what_is_not_enough_for_a_file_is_written_after_a_while_all_the_same(
    make_keeper: Callable[..., WindowKeeper], bundle: Bundle, counted: Callable[[str], float | None], tmp_path: Path
) -> None:
    keeper = make_keeper(wait_s=0.05)
    keeper.start()
    keeper.offer(*labelled(bundle, [0.5] * 3), SOURCE)
    wait_until(lambda: counted("written") == 3)
    assert len(rows_in(tmp_path / "kept")) == 3
    keeper.close(CLOSE_S)


def test_a_full_file_waits_for_nothing(
    make_keeper: Callable[..., WindowKeeper], bundle: Bundle, counted: Callable[[str], float | None]
) -> None:
    keeper = make_keeper()
    keeper.start()
    keeper.offer(*labelled(bundle, [0.5] * ROWS_A_FILE), SOURCE)
    wait_until(lambda: counted("written") == ROWS_A_FILE)
    keeper.close(CLOSE_S)


def test_what_there_is_no_room_for_is_dropped_and_counted_and_files_stay_small(
    make_keeper: Callable[..., WindowKeeper],
    bundle: Bundle,
    tmp_path: Path,
    counted: Callable[[str], float | None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = make_keeper()
    for _ in range(2):  # its thread doesn't run yet, as if the disk were slow
        keeper.offer(*labelled(bundle, [0.5] * (MOST_WAITING // 2 + 5)), SOURCE)
    assert counted("dropped") == 10
    keeper.start()
    wait_until(lambda: counted("written") == MOST_WAITING)
    keeper.offer(*labelled(bundle, [0.5], first=9), SOURCE)
    keeper.close(CLOSE_S)
    assert (counted("written"), counted("dropped")) == (MOST_WAITING + 1, 10)
    import pyarrow.parquet as pq

    sizes = [pq.read_metadata(path).num_rows for path in files_in(tmp_path / "kept")]
    assert max(sizes) == ROWS_A_FILE
    assert sum(sizes) == MOST_WAITING + 1
    assert "10 windows were not kept" in caplog.text


def test_more_than_a_minute_may_bring_are_dropped_and_counted(
    make_keeper: Callable[..., WindowKeeper], bundle: Bundle, counted: Callable[[str], float | None]
) -> None:
    """A unit that is wrong makes every window unfamiliar, and would push out within minutes what was kept before."""
    keeper = make_keeper(per_minute=5)
    keeper.start()
    keeper.offer(*labelled(bundle, [0.5] * 4), SOURCE)
    keeper.offer(*labelled(bundle, [0.5] * 4, first=4), SOURCE)
    keeper.close(CLOSE_S)
    assert (counted("written"), counted("dropped")) == (5, 3)


def test_no_reader_sees_half_a_file(
    make_keeper: Callable[..., WindowKeeper], bundle: Bundle, tmp_path: Path, counted: Callable[[str], float | None]
) -> None:
    import pyarrow.parquet as pq

    keeper, seen = make_keeper(wait_s=0.0), 0
    keeper.start()
    for number in range(30):
        keeper.offer(*labelled(bundle, [0.5] * 40, first=40 * number), SOURCE)
        whole = [path for path in files_in(tmp_path / "kept") if not path.name.startswith(".")]
        seen = sum(pq.read_metadata(path).num_rows for path in whole)
        wait_until(lambda: counted("written") == 40 * (number + 1))  # noqa: B023
    keeper.close(CLOSE_S)
    assert seen >= 1160
    assert len(rows_in(tmp_path / "kept")) == 1200


def test_a_full_disk_costs_what_it_has_no_room_for_and_leaves_nothing_half_written(
    make_keeper: Callable[..., WindowKeeper],
    bundle: Bundle,
    tmp_path: Path,
    counted: Callable[[str], float | None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = make_keeper(wait_s=0.0)
    keeper.start()
    with files_of_at_most(50_000):
        keeper.offer(*labelled(bundle, [0.5] * 200), SOURCE)
        wait_until(lambda: counted("failed") == 200)
    assert files_in(tmp_path / "kept") == []
    keeper.offer(*labelled(bundle, [0.5] * 3), SOURCE)
    keeper.close(CLOSE_S)
    assert (counted("written"), counted("failed")) == (3, 200)
    assert len(rows_in(tmp_path / "kept")) == 3
    assert "200 windows could not be kept: " in caplog.text


def test_a_folder_that_is_gone_stops_nothing_and_is_used_again_when_it_is_back(
    make_keeper: Callable[..., WindowKeeper], bundle: Bundle, tmp_path: Path, counted: Callable[[str], float | None]
) -> None:
    keeper = make_keeper(wait_s=0.0)
    shutil.rmtree(tmp_path / "kept")
    keeper.start()
    keeper.offer(*labelled(bundle, [0.5] * 2), SOURCE)
    wait_until(lambda: counted("failed") == 2)
    (tmp_path / "kept").mkdir()
    keeper.offer(*labelled(bundle, [0.5] * 3), SOURCE)
    keeper.close(CLOSE_S)
    assert len(rows_in(tmp_path / "kept")) == counted("written") == 3


# --- the folder ----------------------------------------------------------------------------------


def old_files(folder: Path, *sizes: int) -> list[Path]:
    paths = [folder / f"kept-20260101T00000{second}000Z-0123abcd.parquet" for second in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(bytes(size))
    return paths


def test_the_oldest_files_go_for_new_ones_and_never_a_persons_own(tmp_path: Path) -> None:
    old = old_files(tmp_path, 100, 100, 100)
    own = [tmp_path / name for name in ("labelled.parquet", "kept-mine.parquet", f"{old[0].name}.bak")]
    for path in own:
        path.write_bytes(bytes(1000))
    Folder(tmp_path, 350).write(bytes(101))
    assert [path.exists() for path in old] == [False, True, True]
    Folder(tmp_path, 350).write(bytes(250))  # another worker
    kept = [path for path in files_in(tmp_path) if path not in own]
    assert [path.stat().st_size for path in kept] == [250]
    assert all(path.exists() for path in own)


def test_what_a_killed_worker_left_half_written_goes_after_a_while(tmp_path: Path) -> None:
    left, fresh = (tmp_path / f".kept-20260101T00000{k}000Z-0123abcd.parquet.partial" for k in range(2))
    for path in (left, fresh):
        path.write_bytes(b"half")
    long_ago = time.time() - STALE_S - 60
    os.utime(left, (long_ago, long_ago))
    Folder(tmp_path, 1000).write(b"whole")
    assert [path.exists() for path in (left, fresh)] == [False, True]


def test_a_folder_that_cant_be_written_to_is_refused_at_the_start(metrics: WorkerMetrics, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/kept")):
        open_keeper = activity_kind(ActivitySettings(keep=KeepSettings(folder=folder))).open_keeper
        assert open_keeper is not None
        with pytest.raises(WorkerError, match=f"can't write to activity.keep.folder {folder}: .*; name a folder"):
            open_keeper(metrics)


def test_without_pyarrow_it_is_refused_with_what_to_install(
    metrics: WorkerMetrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_files, "pa", None)
    open_keeper = activity_kind(ActivitySettings(keep=KeepSettings(folder=tmp_path))).open_keeper
    assert open_keeper is not None
    with pytest.raises(WorkerError, match=r"activity.keep.folder .* pip install '\.\[parquet\]' in the checkout"):
        open_keeper(metrics)


def test_nothing_is_kept_unless_asked_for() -> None:
    assert activity_kind(ActivitySettings()).open_keeper is None


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what a write meets is the system's error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def wait_until(happened: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
