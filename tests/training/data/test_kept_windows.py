"""Windows that a worker kept, read back: the frames as they were, and nothing that could harm."""

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka.structs import TopicPartition
from rich.console import Console

from inference.bundle import Bundle
from service.pipeline.kept_files import Piece, files_of, table_of
from tests.inference.bundles import har_bundle
from tests.service.kept import START_MS, arrow
from tests.training.signals import swinging
from training.activity_model.fit_activity import prepare_training_data
from training.activity_model.recipes import RECIPES
from training.activity_model.splits import split_recordings
from training.data import kept_windows
from training.data.datasets import read_file, read_files
from training.data.files import DataError
from training.data.frames import served_frames
from training.data.recordings import ACTIVITIES, DEFAULT_LABELS, DataFile, Defect
from training.evaluation.comparison import compare
from training.protocols.rounds import ProtocolName, rounds
from training.train_activity import _without_kept_windows

pa = arrow()
import pyarrow.parquet as pq  # noqa: E402  # where there is none, this file is skipped above


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return har_bundle(tmp_path_factory.mktemp("bundles") / "tiny-har")


def piece(bundle: Bundle, values: np.ndarray, devices: list[str], start_ms: np.ndarray | None = None) -> Piece:
    """Windows as a worker hands them to its files."""
    ids, rows = [device.encode() for device in devices], len(devices)
    device_id = np.array([np.frombuffer(each.ljust(128, b"\0"), np.uint8) for each in ids])
    return Piece(
        device_id=device_id,
        id_size=np.array(list(map(len, ids)), np.int32),
        start_ms=START_MS + 2000 * np.arange(rows) if start_ms is None else start_ms,
        values=values,
        measured=np.full(rows, 80, np.int32),
        longest_gap_ms=np.full(rows, 50, np.int32),
        source_offset=np.arange(rows),
        probabilities=np.full((rows, 6), 1 / 6, np.float32),
        familiarity=np.full(rows, np.nan, np.float32),
        source=TopicPartition("accelerometer", 0),
        bundle=bundle,
    )


@pytest.fixture
def kept(bundle: Bundle, tmp_path: Path) -> Callable[..., Any]:
    """A table as a worker keeps it, with activities, and columns in the place of its own (None: without one)."""

    def make(activities: list[str | None], devices: list[str] | None = None, **columns: Any) -> Any:
        rows = len(activities)
        values = np.random.default_rng(1).normal(0, 5, (rows, 80, 3)).astype(np.float32)
        table = table_of([piece(bundle, values, devices or [f"phone-{row % 3}" for row in range(rows)])])
        for name, column in {"activity": pa.array(activities, pa.string()), **columns}.items():
            if name in table.column_names:
                table = table.drop_columns([name])
            if column is not None:
                table = table.append_column(name, column)
        return table

    return make


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Any], Path]:
    def write(table: Any) -> Path:
        pq.write_table(table, tmp_path / "kept.parquet")
        return tmp_path / "kept.parquet"

    return write


DEVICES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128).filter(
    lambda device: len(device.encode()) <= 128
)
STARTS = st.integers(-(2**53) // 50 + 400, 2**53 // 50 - 400).map(lambda slot: 50 * slot)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(DEVICES, STARTS, st.sampled_from(ACTIVITIES)), min_size=1, max_size=4, unique_by=lambda w: w[:2]
    ),
    st.sampled_from([0.0, 1e-30, 1.0, 1000.0]),
)
def test_what_is_read_back_is_what_was_kept(
    bundle: Bundle, tmp_path: Path, windows: list[tuple[str, int, str]], strength: float
) -> None:
    devices, starts, activities = map(list, zip(*windows, strict=True))
    values = np.random.default_rng(len(windows)).uniform(-strength, strength, (len(windows), 80, 3)).astype(np.float32)
    [(count, content)] = files_of([piece(bundle, values, devices, np.array(starts, np.int64))])
    table = pq.read_table(io.BytesIO(content))
    assert count == len(windows)
    assert [table[name].to_pylist() for name in ("device_id", "window_start")] == [devices, starts]
    labelled = table.set_column(table.column_names.index("activity"), "activity", pa.array(activities))
    pq.write_table(labelled, tmp_path / "kept.parquet")
    file = read_file(tmp_path / "kept.parquet")
    frames = served_frames(file.recordings)
    assert [(recording.dataset, recording.person) for recording in file.recordings] == [
        ("kept", device) for device in devices
    ]
    assert all(0 <= cut - start < 2000 for cut, start in zip(frames.start_ms, starts, strict=True))
    assert frames.values.tobytes() == values.tobytes()
    assert [ACTIVITIES[code] for code in frames.activity] == activities
    assert (file.kind, file.dropped, file.others) == ("kept", {}, {})


def test_rows_without_an_activity_are_left_out_and_reported(
    kept: Callable[..., Any], written: Callable[[Any], Path]
) -> None:
    path = written(kept([None, "Walking", "", " ", "sitting ", "StairsMixed", "Cycling"]))
    console = Console(file=io.StringIO(), width=200)
    (file,) = read_files([path], console)
    assert file.dropped == {Defect.NOT_LABELLED: 3}
    assert file.others == {"Cycling": 80}
    codes = [recording.activity[0] for recording in file.recordings]
    assert [ACTIVITIES[code] for code in codes[:2]] == ["Walking", "Sitting"]
    assert [ACTIVITIES[code] for code in np.flatnonzero(DEFAULT_LABELS.candidates()[codes[2]])] == [
        "Downstairs",
        "Upstairs",
    ]
    assert codes[3] == -1
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "kept.parquet: rows left out: 3 without an activity" in output
    assert "readings of no activity that is learned: 80 of 'Cycling'" in output


def test_a_file_in_which_nothing_is_labelled_is_refused(
    kept: Callable[..., Any], written: Callable[[Any], Path]
) -> None:
    with pytest.raises(DataError, match=r"none of the 2 windows in kept.parquet has an activity: fill in that column"):
        read_file(written(kept([None, None], activity=pa.nulls(2))))


def test_a_window_that_was_kept_twice_is_read_once(kept: Callable[..., Any], written: Callable[[Any], Path]) -> None:
    """A worker that was killed keeps again what it labels again."""
    table = kept(["Walking", "Sitting", None])
    file = read_file(written(pa.concat_tables([table, table])))
    assert len(file.recordings) == 2
    assert file.dropped == {Defect.NOT_LABELLED: 2, Defect.DUPLICATE: 2}


@pytest.fixture
def two_files(written: Callable[[Any], Path]) -> Callable[[Any, Any], list[Path]]:
    def write(first: Any, second: Any) -> list[Path]:
        written(first).rename(written(first).with_name("first.parquet"))
        return [written(second).with_name("first.parquet"), written(second)]

    return write


def test_a_window_that_is_in_two_files_is_read_once(
    kept: Callable[..., Any], two_files: Callable[[Any, Any], list[Path]]
) -> None:
    """It was learned from twice: a second file was labelled from a folder that still held the first one's windows."""
    paths = two_files(kept(["Walking", "Sitting"]), kept(["Walking", "Sitting", "Jogging", None]))
    console = Console(file=io.StringIO(), width=200)
    first, second = read_files(paths, console)
    assert len(first.recordings) == 2
    assert first.dropped == {}
    assert [DEFAULT_LABELS.names[recording.activity[0]] for recording in second.recordings] == ["Jogging"]
    assert second.dropped == {Defect.NOT_LABELLED: 1, Defect.DUPLICATE: 2}
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "kept.parquet: rows left out: 1 without an activity, 2 duplicated row" in output
    assert len(read_file(paths[1]).recordings) == 3


def test_of_two_files_one_that_adds_nothing_or_says_otherwise_is_refused(
    kept: Callable[..., Any], two_files: Callable[[Any, Any], list[Path]]
) -> None:
    with pytest.raises(DataError, match=r"all windows in kept\.parquet that have an activity are in other files"):
        read_files(two_files(kept(["Walking", "Sitting"]), kept(["Walking", None])))
    with pytest.raises(DataError, match=r"kept.parquet gives .* another activity than first.parquet: which is it\?"):
        read_files(two_files(kept(["Walking"]), kept(["Sitting"])))


def test_a_window_that_two_people_label_differently_is_refused(
    kept: Callable[..., Any], written: Callable[[Any], Path]
) -> None:
    both = pa.concat_tables([kept(["Walking"]), kept(["Sitting"])])
    with pytest.raises(DataError, match=r"the window of 'phone-0' at 1700000000000 two activities: which is it\?"):
        read_file(written(both))


def test_a_wild_value_costs_only_its_own_window(kept: Callable[..., Any], written: Callable[[Any], Path]) -> None:
    values = np.zeros((2, 240), np.float32)
    values[1, 17] = 1001
    file = read_file(written(kept(["Walking", "Walking"], frame=pa.array(list(values)))))
    assert len(file.recordings) == 1
    assert file.dropped == {Defect.OUT_OF_RANGE: 1}


def test_a_wild_window_that_is_there_twice_is_in_no_other_file(
    kept: Callable[..., Any], written: Callable[[Any], Path]
) -> None:
    """It was told that all its windows were in other files, which there weren't."""
    wild = kept(["Walking"], frame=pa.array([np.full(240, 1001, np.float32)]))
    with pytest.raises(DataError, match=r"holds no readings .* rows left out: 2 out of range"):
        read_file(written(pa.concat_tables([wild, wild])))
    unlabelled = kept([None], ["other"], frame=pa.array([np.zeros(240, np.float32)]))
    with pytest.raises(DataError, match=r"rows left out: 1 without an activity, 1 out of range"):
        read_file(written(pa.concat_tables([wild, unlabelled])))


def test_other_programs_may_have_written_it_anew(kept: Callable[..., Any], written: Callable[[Any], Path]) -> None:
    """pandas, Polars and DuckDB have types of their own for texts and lists, and more columns may be added."""
    ours = kept(["Walking", "Sitting", None])
    frames = ours["frame"].to_pylist()
    theirs = ours
    for name, column in (
        ("frame", pa.array(frames, pa.large_list(pa.float64()))),
        ("device_id", ours["device_id"].cast(pa.large_string())),
        ("activity", ours["activity"].combine_chunks().dictionary_encode()),
        ("window_start", ours["window_start"].cast(pa.uint64())),
    ):
        theirs = theirs.drop_columns([name]).append_column(name, column)
    theirs = theirs.append_column("placement", pa.array(["waist", None, None]))
    theirs = theirs.append_column("my notes", pa.array([{"a": 1}, None, None]))
    file = read_file(written(theirs))
    assert [recording.placement for recording in file.recordings] == ["waist", "pocket"]
    np.testing.assert_array_equal([recording.xyz.reshape(-1) for recording in file.recordings], frames[:2])


def lists(length: int, kind: Any = None) -> Any:
    return pa.array([[0.0] * length] * 2, kind or pa.list_(pa.float32()))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"frame": None}, "needs each of the columns device_id, window_start, frame, activity once"),
        ({"device_id": None}, "needs each of the columns"),
        ({"frame": lists(239)}, "frames of other than 240 values"),
        ({"frame": pa.array([[0.0] * 241, [0.0] * 239], pa.list_(pa.float32()))}, "frames of other than 240 values"),
        ({"frame": pa.array([[0.0] * 480, None], pa.list_(pa.float32()))}, "frames of other than 240 values"),
        ({"frame": lists(240, pa.list_(pa.int32()))}, "column frame can't be list<"),
        ({"frame": pa.array([0.0, 0.0])}, "column frame can't be double"),
        ({"frame": pa.array([[0.0] * 239 + [None]] * 2, pa.list_(pa.float32()))}, "holds nothing at some place"),
        ({"frame": pa.array([[0.0] * 239 + [float("nan")]] * 2, pa.list_(pa.float32()))}, "isn't finite"),
        ({"frame": pa.array([[0.0] * 239 + [1e300]] * 2)}, "isn't finite"),
        ({"device_id": pa.array(["phone", None])}, "without a device_id, or whose window_start is no time"),
        ({"device_id": pa.array([1, 2])}, "column device_id can't be int64"),
        ({"window_start": pa.array([1, None])}, "without a device_id, or whose window_start is no time"),
        ({"window_start": pa.array([1, 1 << 60])}, "without a device_id, or whose window_start is no time"),
        ({"window_start": pa.array([1.0, 2.0])}, "column window_start can't be double"),
        ({"window_start": pa.array([1, 1 << 63], pa.uint64())}, "cannot read kept.parquet"),
        ({"activity": pa.array([0, 1])}, "column activity can't be int64"),
        ({"device_id": pa.array([b"0" * 16] * 2, pa.uuid())}, "column device_id can't be extension"),
        (
            {
                "frame": pa.FixedShapeTensorArray.from_storage(
                    pa.fixed_shape_tensor(pa.float32(), (80, 3)),
                    pa.array([[0.0] * 240] * 2, pa.list_(pa.float32(), 240)),
                )
            },
            "column frame can't be extension",
        ),
    ],
)
def test_what_no_kept_windows_can_have_become_is_refused_by_name(
    columns: dict[str, Any], words: str, kept: Callable[..., Any], written: Callable[[Any], Path]
) -> None:
    with pytest.raises(DataError) as refused:
        read_file(written(kept(["Walking", "Walking"], **columns)))
    assert words in str(refused.value)


def test_what_is_too_large_is_refused_before_it_is_unpacked(
    kept: Callable[..., Any], written: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(kept(["Walking"] * 5))
    for name, bound, words in (
        ("MAX_WINDOWS", 4, "more than 4 windows"),
        ("MAX_TEXT_BYTES", 6, "a text of 7 bytes, where 6 are the most"),
        ("MAX_FILE_BYTES", 4000, "larger than 0 GiB"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(kept_windows, name, bound)
            with pytest.raises(DataError, match=words):
                read_file(path)


def test_one_row_cannot_hold_a_billion_values(kept: Callable[..., Any], written: Callable[[Any], Path]) -> None:
    """Of one value repeated, two million take a few hundred bytes; of a billion, no more."""
    path = written(kept(["Walking"], frame=pa.array([np.zeros(2_000_000, np.float32)])))
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match="frames of other than 240 values"):
        read_file(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_file_is_refused_or_still_a_sound_one(
    kept: Callable[..., Any], tmp_path: Path, data: st.DataObject
) -> None:
    content = io.BytesIO()
    pq.write_table(kept(["Walking", "Sitting"]), content)
    damaged = bytearray(content.getvalue())
    for place in data.draw(st.lists(st.integers(4, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.parquet"
    path.write_bytes(damaged[: data.draw(st.sampled_from([None, 4, len(damaged) // 2, -1]))])
    with contextlib.suppress(DataError):  # and no other error
        assert all(np.isfinite(recording.xyz).all() for recording in read_file(path).recordings)


def test_without_pyarrow_it_says_what_to_install(
    kept: Callable[..., Any], written: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(kept(["Walking"]))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"kept.parquet is Parquet, .*: pip install '\.\[parquet\]' in the checkout"):
        read_file(path)


def test_kept_windows_train_like_recordings(kept: Callable[..., Any], written: Callable[[Any], Path]) -> None:
    recipe = RECIPES["default"]
    ours = tuple(swinging("Walking", person, seconds=8, dataset="ours") for person in ("1", "2", "3"))
    file = read_file(written(kept(["Walking", "Sitting", "Jogging", "Walking", "Walking", "Walking"])))
    people = split_recordings([DataFile("ours.csv", "digest", "csv", "ours", ours, {}), file], recipe)
    assert {(r.dataset, r.person) for r in people.train} == {
        ("ours", "3"),
        ("kept", "phone-0"),
        ("kept", "phone-1"),
        ("kept", "phone-2"),
    }
    data = prepare_training_data(people, recipe, seed=0)
    assert len(data.task.train) == 3 + 6 + 2  # two of them OOD samples
    assert {recording.person for recording in people.validation} == {"2"}


def test_kept_windows_of_one_minute_stand_or_fall_together(
    kept: Callable[..., Any], written: Callable[[Any], Path], bundle: Bundle
) -> None:
    """Each is a recording of its own, and overlaps with the next one: taken for so many witnesses they say too much."""
    file = read_file(written(kept(["Walking"] * 90, ["phone"] * 90)))  # three minutes
    comparison = compare(bundle, bundle, file, file.recordings)
    assert comparison.differences[0].windows == 90
    assert comparison.differences[0].clusters in (3, 4)


def test_a_device_that_is_called_like_a_person_of_a_csv_is_that_person(
    kept: Callable[..., Any], written: Callable[[Any], Path]
) -> None:
    """Or somebody's windows would be learned from, and their recordings test."""
    ours, theirs = (
        DataFile(f"{name}.csv", "digest", "csv", name, tuple(swinging("Walking", p, dataset=name) for p in people), {})
        for name, people in (("ours", ("3", "4", "5", "6", "7")), ("theirs", ("8", "9", "10")))
    )
    odd = read_file(written(kept(["Walking"] * 4, ["1", "2", "7", "3"])))
    people = split_recordings([ours, odd], RECIPES["default"])
    tested = {recording.person for _, recordings in people.test for recording in recordings}
    assert tested == {"7"}
    assert {recording.person for recording in people.validation} == {"5"}
    assert {r.person for r in people.train if r.dataset == "kept"} == {"1", "2", "3"}
    (left_out, _) = rounds([ours, odd, theirs], RECIPES["default"], "data-sets", seed=0)
    assert left_out.name == "without ours"
    assert {(r.dataset, r.person) for r in left_out.split.train} == {("theirs", "9"), ("kept", "1"), ("kept", "2")}


@pytest.mark.parametrize("protocol", ["people", "minutes"])
def test_kept_windows_are_not_judged_by_themselves(
    protocol: ProtocolName, kept: Callable[..., Any], written: Callable[[Any], Path]
) -> None:
    odd = read_file(written(kept(["Walking"] * 4)))
    with pytest.raises(DataError, match=rf"kept.parquet holds .* only train: leave it out of `{protocol}`"):
        list(rounds([odd], RECIPES["default"], protocol, seed=0))
    with pytest.raises(DataError, match="takes two at least, beside windows that a worker kept"):
        list(rounds([odd, odd], RECIPES["default"], "data-sets", seed=0))


def test_what_was_kept_is_not_what_is_usual(kept: Callable[..., Any], written: Callable[[Any], Path]) -> None:
    """Drift is measured against the usual; where there is nothing else, against that."""
    odd = read_file(written(kept(["Walking"] * 4)))
    ours = (swinging("Walking", "1", dataset="ours"),)
    files = [DataFile("ours.csv", "digest", "csv", "ours", ours, {}), odd]
    assert _without_kept_windows([*ours, *odd.recordings], files) == list(ours)
    assert _without_kept_windows(odd.recordings, [odd]) == list(odd.recordings)
