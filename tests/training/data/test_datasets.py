import bz2
import gzip
import io
import itertools
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from inference.bundle import find_bundle, load_bundle
from training.data import files, recording_text, recordings
from training.data.datasets import read_file, read_files
from training.data.files import DataError
from training.data.recordings import Defect, Labels
from training.evaluation.evaluate import evaluate

GOOD = "33,Jogging,49105962326000,-0.6946377,12.680544,0.50395286;"


def wisdm(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "WISDM_ar_v1.1_raw.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_row_of_the_original_format_is_one_reading_in_milliseconds(tmp_path: Path) -> None:
    file = read_file(wisdm(tmp_path, GOOD))
    (recording,) = file.recordings
    assert (file.kind, file.dataset, recording.person) == ("wisdm", "WISDM v1.1", "33")
    assert recording.t_ms.tolist() == [49105962]
    assert recording.activity.tolist() == [1]
    np.testing.assert_allclose(recording.xyz, [[-0.6946377, 12.680544, 0.50395286]], rtol=1e-6)


@pytest.mark.parametrize(
    ("line", "readings", "reason"),
    [
        ("33,Jogging,49106062271000,5.01,11.26,0.95,;", 1, None),
        ("33,Jogging,49106062271000,5.01,11.26,0.95", 1, None),
        ("33,Jogging,49106062271000,5.01,11.26,0.95 ;", 1, None),
        ("33,Jogging,49106062271000,5.01,11.26,-3.8E-6;", 1, None),
        ("", 0, None),
        ("  ;", 0, None),
        ("33,Jogging,49106062271000,5.01,11.26,;", 0, Defect.MISSING_VALUE),
        ("33,Jogging,49106062271000,5.01,11.26;", 0, Defect.MISSING_VALUE),
        ("33,Jogging,49106062271000,5.01,,0.95;", 0, Defect.MISSING_VALUE),
        ("33,Jogging,0,5.01,11.26,0.95;", 0, Defect.ZERO_TIMESTAMP),
        ("33,Jogging,49106062271000,five,11.26,0.95;", 0, Defect.MALFORMED_FIELD),
        ("33,Jogging,49106062271000,nan,11.26,0.95;", 0, Defect.MALFORMED_FIELD),
        ("33,Jogging,49106062271000,5.01,11.26,1e30;", 0, Defect.OUT_OF_RANGE),
        ("33,Jogging,49106062271000,5.01,11.26,0.95,7,8;", 0, Defect.WRONG_NUMBER_OF_FIELDS),
        (GOOD, 0, Defect.DUPLICATE),
    ],
)
def test_each_known_defect_costs_only_its_own_row_and_is_counted(
    tmp_path: Path, line: str, readings: int, reason: Defect | None
) -> None:
    after = "33,Jogging,49106112167000,4.90,10.88,-0.08;"
    file = read_file(wisdm(tmp_path, GOOD, line, after))
    assert file.readings == 2 + readings
    assert file.dropped == ({} if reason is None else {reason: 1})


def test_two_records_on_one_line_are_two_readings(tmp_path: Path) -> None:
    file = read_file(
        wisdm(tmp_path, "19,Sitting,131623331483000,8.88,-1.33,1.61;19,Sitting,131623371431000,8.88,-1.33,1.73;")
    )
    assert file.readings == 2
    assert file.dropped == {}


def test_a_gap_stays_in_the_recording_but_a_clock_set_back_parts_it(tmp_path: Path) -> None:
    file = read_file(
        wisdm(tmp_path, *(f"1,Walking,{t}000000,0,{i},0;" for i, t in enumerate((1000, 1050, 9000, 2000, 2050))))
    )
    assert [recording.t_ms.tolist() for recording in file.recordings] == [[1000, 1050, 9000], [2000, 2050]]


def test_rows_out_of_order_by_less_than_the_service_forgives_are_sorted(tmp_path: Path) -> None:
    file = read_file(wisdm(tmp_path, *(f"1,Walking,{t}000000,0,{t / 100},0;" for t in (1000, 1150, 1050, 1200))))
    (recording,) = file.recordings
    assert recording.t_ms.tolist() == [1000, 1050, 1150, 1200]
    assert recording.xyz[:, 1].tolist() == [10.0, 10.5, 11.5, 12.0]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_reads_like_the_plain_one(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "data"
    path.write_bytes(compress(GOOD.encode()))
    assert read_file(path).recordings[0].t_ms.tolist() == [49105962]


def test_an_activity_that_is_not_among_the_six_is_kept_as_another(tmp_path: Path) -> None:
    file = read_file(wisdm(tmp_path, GOOD, "33,LyingDown,49106062271000,5.01,11.26,0.95;"))
    assert file.recordings[0].activity.tolist() == [1, recordings.OTHER_ACTIVITY]


def test_labels_that_mean_more_or_less_than_one_of_the_six(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    rows = [f"p,waist,{activity},{activity},0,0,9.8,0" for activity in ("StairsMixed", "StandingArms", "Cycling")]
    path.write_text("\n".join(["person,placement,activity,recording,t_ms,x,y,z", *rows, ""]))
    stairs, arms, cycling = (recording.activity[0] for recording in read_file(path).recordings)
    meant = recordings.DEFAULT_LABELS.candidates()[stairs]
    assert [recordings.ACTIVITIES[code] for code in np.flatnonzero(meant)] == ["Downstairs", "Upstairs"]
    assert recordings.ACTIVITIES[arms] == "Standing"
    assert cycling == recordings.OTHER_ACTIVITY


def test_rows_split_between_blocks_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_text, "BLOCK_BYTES", 100)
    file = read_file(wisdm(tmp_path, *(f"7,Standing,{t}000000,0,9.8,0.{t};" for t in range(1000, 3000, 50))))
    assert file.recordings[0].t_ms.tolist() == list(range(1000, 3000, 50))


def test_a_copy_that_is_not_the_original_is_named_reconstructed(tmp_path: Path) -> None:
    path = tmp_path / "WISDM_ar_v1.1_segments_reconstructed.txt"
    path.write_text(GOOD)
    assert read_file(path).dataset == "WISDM v1.1 (reconstructed)"


# --- MotionSense ---------------------------------------------------------------------------------

HEADER = ",gravity.x,gravity.y,gravity.z,userAcceleration.x,userAcceleration.y,userAcceleration.z"


def motionsense(tmp_path: Path, members: dict[str, str], mode: str = "w:xz") -> Path:
    path = tmp_path / "A_DeviceMotion_data.tar.xz"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def test_motionsense_adds_gravity_and_own_acceleration_and_turns_g_into_metres(tmp_path: Path) -> None:
    text = f"{HEADER}\n0,0.1,-0.9,0.2,0.4,-0.1,0.3\n1,0,1,0,0,0,0\n"
    file = read_file(motionsense(tmp_path, {"A_DeviceMotion_data/ups_3/sub_17.csv": text, "A/README": "hello"}))
    (recording,) = file.recordings
    assert (file.kind, recording.dataset, recording.person) == ("motionsense", "MotionSense", "17")
    np.testing.assert_allclose(recording.xyz, [[4.903325, -9.80665, 4.903325], [0, 9.80665, 0]], atol=1e-5)
    assert recording.t_ms.tolist() == [0, 20]
    assert recording.activity.tolist() == [4, 4]


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_motionsense_is_read_as_it_is_published(tmp_path: Path) -> None:
    rows = {number: f"{HEADER}\n" + f"{number},0,1,0,0,0,0\n" * number for number in (1, 2, 3)}
    members = {f"A_DeviceMotion_data/wlk_7/sub_{number}.csv": text for number, text in rows.items()}
    litter = {"__MACOSX/A_DeviceMotion_data/wlk_7/._sub_1.csv": "\0", "A_DeviceMotion_data/.DS_Store": "x"}
    published = read_file(zipped(tmp_path / "A_DeviceMotion_data.zip", members | litter))
    packed = read_file(motionsense(tmp_path, members))

    assert published.kind == packed.kind
    assert [recording.person for recording in published.recordings] == ["1", "2", "3"]
    for ours, theirs in zip(published.recordings, packed.recordings, strict=True):
        np.testing.assert_array_equal(ours.xyz, theirs.xyz)


def test_a_zip_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "wlk_7/sub_1.csv"
    path = zipped(tmp_path / "data.zip", {name: f"{HEADER}\n" + "0,0,1,0,0,0,0\n" * 100})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot read .*data\.zip: File is not a zip file"):
        read_file(path)

    path.write_bytes(whole.replace(b"\0\0\x08\0", b"\0\0\x63\0"))
    with pytest.raises(DataError, match=r"cannot read .*data\.zip: .*compression"):
        read_file(path)

    path.write_bytes(whole.replace(b"\x14\0\0\0\x08\0", b"\x14\0\1\0\x08\0"))
    with pytest.raises(DataError, match=r"cannot read .*data\.zip: .*encrypted"):
        read_file(path)

    path.write_bytes(whole)
    monkeypatch.setattr("training.data.motionsense.MAX_MEMBER_BYTES", 100)
    with pytest.raises(DataError, match=r"wlk_7/sub_1\.csv is 1,4\d\d bytes; at most 100 are read"):
        read_file(path)

    monkeypatch.setattr("training.data.motionsense.MAX_CONTENT_BYTES", 100)
    with pytest.raises(DataError, match="larger than 100 bytes once decompressed"):
        read_file(path)


def test_who_evaluates_or_trains_with_texts_is_told_how_and_who_reads_one_file_is_not(tmp_path: Path) -> None:
    """`stridecast replay` of a Python program ended with advice on scoring texts."""
    path = tmp_path / "send.py"
    path.write_text("import time\n")
    with pytest.raises(
        DataError,
        match=r"fields \(the first: line 1 is 'import time'\); texts are scored with --dataset, and trained on with ",
    ):
        read_files([path])
    with pytest.raises(
        DataError, match=r"rows left out: 1 wrong number of fields \(the first: line 1 is 'import time'\)$"
    ):
        read_file(path)


def test_a_csv_whose_first_column_is_called_pk_is_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "ours.csv"
    path.write_text("PK,person,activity,timestamp,x,y,z\n1,a,Walking,0,0,9.8,0.1\n")

    assert read_file(path).kind == "csv"


@pytest.mark.parametrize(("unit", "is_warned"), [(1.0, True), (9.80665, False)])
def test_readings_that_look_like_g_are_reported(
    tmp_path: Path, unit: float, is_warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"a,Walking,{50 * step},0,{unit},0.1\n" for step in range(100))
    path = tmp_path / "ours.csv"
    path.write_text(f"person,activity,timestamp,x,y,z\n{rows}")
    read_files([path], Console(width=200))

    assert ("have to be in m/s², not in g" in capsys.readouterr().out) is is_warned


def test_one_person_of_three_in_g_is_reported_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The median of the whole file hid whose device measures in g."""
    rows = "".join(
        f"{who},Walking,{50 * step},0,{unit},0.1\n"
        for who, unit in (("a", 9.8), ("emil", 1), ("c", 9.8))
        for step in range(9)
    )
    (tmp_path / "ours.csv").write_text(f"person,activity,timestamp,x,y,z\n{rows}")
    read_files([tmp_path / "ours.csv"], Console(width=200))

    assert "ours.csv: half of the readings of emil are shorter than 1.00 m/s², where" in capsys.readouterr().out


def test_motionsense_leaves_nothing_on_disk(tmp_path: Path) -> None:
    path = motionsense(tmp_path, {"../wlk_7/sub_1.csv": f"{HEADER}\n0,0,1,0,0,0,0\n"})
    assert read_file(path).readings == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert not (tmp_path.parent / "wlk_7").exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n1,2\n", "lacks the columns gravity.x"),
        (f"{HEADER}\n0,0,1,0,0,zero,0\n", "could not convert"),
        (f"{HEADER}\n0,0,1,0,0,inf,0\n", "no accelerometer measures"),
        (f"{HEADER}\n0,0,1,0,0,200,0\n", "no accelerometer measures"),
    ],
)
def test_a_motionsense_member_that_makes_no_sense_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=r"wlk_7/sub_1\.csv.*" + complaint):
        read_file(motionsense(tmp_path, {"wlk_7/sub_1.csv": text}))


# --- the common CSV form -------------------------------------------------------------------------


def test_the_common_form_is_split_by_recording_and_keeps_time_from_zero(tmp_path: Path) -> None:
    path = tmp_path / "some_pocket.csv"
    path.write_text(
        "person,placement,activity,recording,t_ms,x,y,z\n"
        "p1,pocket,Walking,r1,0,1.0,9.8,0.1\np1,pocket,Walking,r1,18,1.1,9.7,0.2\n"
        "p1,waist,Cycling,r2,0,1.0,9.8,0.1\nbroken\np2,waist,Sitting,r3,0,1.0,,0.1\n"
    )
    file = read_file(path)
    assert (file.kind, file.dataset) == ("csv", "some_pocket")
    assert [(r.person, r.placement, r.t_ms.tolist(), r.activity.tolist()) for r in file.recordings] == [
        ("p1", "pocket", [0, 18], [5, 5]),
        ("p1", "waist", [0], [-1]),
    ]
    assert file.dropped == {Defect.WRONG_NUMBER_OF_FIELDS: 1, Defect.MISSING_VALUE: 1}


@pytest.mark.parametrize(
    "time",
    [
        "1700000000050",
        "1700000000050.7",
        "2023-11-14T22:13:20.0507Z",
        "2023-11-14 23:13:20.050+01:00",
        "2023-11-14 23:13:20.05+01",  # as PostgreSQL writes it
        "2023-11-14 22:13:20.050",  # as pandas does
    ],
)
def test_a_csvs_header_says_where_its_columns_are(tmp_path: Path, time: str) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text(f'timestamp,"Activity",x,y,z,battery,person\r\n{time},Walking,1,2,-3e-1,80 %,anna\r\n')
    file = read_file(path)
    (recording,) = file.recordings
    assert (recording.person, recording.placement, recording.dataset) == ("anna", "pocket", "theirs")
    assert recordings.ACTIVITIES[recording.activity[0]] == "Walking"
    assert recording.t_ms.tolist() == [1_700_000_000_050]
    assert recording.xyz.tolist() == [pytest.approx([1.0, 2.0, -0.3])]
    assert file.dropped == {}


@pytest.mark.parametrize(
    ("header", "row", "complaint"),
    [
        ("person,x,y,z", "p,1,2,3", "needs each of the columns person, activity, timestamp, x, y, z once"),
        ("person,person,activity,t_ms,x,y,z", "p,p,Walking,0,1,2,3", "its header is person, person, activity"),
        ("person,activity,timestamp,x,y,z", "p,Walking,2023-13-14T22:13:20Z,1,2,3", "1 malformed field"),
        ("person;activity;timestamp;x;y;z", "p;Walking;0;1;2;3", "parts its columns by ';': write it with commas"),
        (
            "person,activity,timestamp,x,y,z",
            "p,Cycling,0,1,2,3",
            "has none of the activities .*: it says Cycling; .* --labels",
        ),
    ],
)
def test_a_csv_that_lacks_something_says_what(tmp_path: Path, header: str, row: str, complaint: str) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(DataError, match=complaint):
        read_files([path])


def test_what_spreadsheets_and_statisticians_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_bytes(
        b'\xef\xbb\xbf"","person","activity","placement","timestamp","x","y","z","time"\r\n'
        b'"1","anna","walking","","10","1","2","3","0.05"\r\n"2","anna","walking","","60.5","1","2","4","0.1"\r\n'
    )
    file = read_file(path)
    (recording,) = file.recordings
    assert (recording.person, recording.placement, recording.t_ms.tolist()) == ("anna", "pocket", [10, 60])
    assert recordings.ACTIVITIES[recording.activity[0]] == "Walking"
    assert (file.dropped, file.others) == ({}, {})


def test_a_name_in_quotes_may_hold_commas_and_is_the_same_without_them(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    rows = ['"Doe, Jane","Stairs, up"', '"Doe, ""J"" ",walking', "anna,walking", '"anna","walking"']
    lines = [f"{row},{50 * at},1,2,3" for at, row in enumerate(rows)]
    path.write_text("\n".join(["person,activity,timestamp,x,y,z", *lines, ""]))
    file = read_file(path, labels=Labels(("Stairs, up", "Walking")))
    found = [(one.person, one.activity.tolist(), one.t_ms.tolist()) for one in file.recordings]
    assert found == [("Doe, Jane", [0], [0]), ('Doe, "J"', [1], [50]), ("anna", [1, 1], [100, 150])]
    assert file.dropped == {}


def test_rows_in_no_order_of_time_are_refused_with_the_remedy(tmp_path: Path) -> None:
    """Each row became a recording of its own, and no window was complete, without a word why."""
    path = tmp_path / "theirs.csv"
    rows = [f"anna,Walking,{50 * at},1,2,3" for at in np.random.default_rng(0).permutation(400)]
    path.write_text("\n".join(["person,activity,timestamp,x,y,z", *rows, ""]))
    with pytest.raises(DataError, match=r"the rows of 'anna' are not in the order of time, .* sort them by person, "):
        read_file(path)


def test_a_column_of_seconds_is_not_taken_for_two_devices_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two devices at the same milliseconds were asked whether they are in seconds."""
    path = tmp_path / "theirs.csv"
    rows = [f"anna,Walking,{50 * (at // 2)},1,2,{at}" for at in range(401)]
    path.write_text("\n".join(["person,activity,timestamp,x,y,z", *rows, ""]))
    read_files([path], Console(width=300))
    assert (
        "theirs.csv: many readings have the time of another, with other values: anna; if they are of two devices, a "
        "column recording has to tell these apart\n"
    ) in capsys.readouterr().out


def rows_of(person: str, count: int, step_ms: float, start_ms: int = 0, activity: str = "Walking") -> list[str]:
    return [f"{person},{activity},{start_ms + round(at * step_ms)},{at % 7},9.8,{at % 11}" for at in range(count)]


def write_rows(path: Path, *rows: list[str]) -> Path:
    path.write_text("\n".join(["person,activity,timestamp,x,y,z", *itertools.chain(*rows), ""]))
    return path


def test_people_whose_devices_measured_too_seldom_or_too_often_are_told_of_with_their_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(
        tmp_path / "theirs.csv",
        *(rows_of(name, 30 * hz, 1000 / hz) for name, hz in {"a": 20, "b": 9, "c": 100, "d": 2, "e": 900}.items()),
        [row for row in rows_of("f", 1200, 50) if int(row.split(",")[2]) % 3000 > 300],
        rows_of("g", 20, 3000),
    )
    read_files([path], Console(width=400))
    assert capsys.readouterr().out.splitlines() == [
        "theirs.csv: few windows are complete, which takes a reading every 250 ms: d 2 readings a second, 0 of 13 "
        "windows; f 17.8 readings a second, 0 of 28 windows; g 0.333 readings a second, 0 of 0 windows",
        "theirs.csv: few readings a second, where a window has 20 and what lies between is interpolated: "
        "b 9 (45% of a window)",
        "theirs.csv: more readings a second than phones take: e 900; timestamps have to be milliseconds, not numbers "
        "of rows",
    ]


def test_no_complete_window_for_the_rate_says_the_rate(tmp_path: Path) -> None:
    file = read_file(write_rows(tmp_path / "theirs.csv", rows_of("anna", 60, 500)))
    with pytest.raises(DataError, match=r"no complete window .* few windows are complete, .* anna 2 readings a second"):
        evaluate(load_bundle(find_bundle("har-cnn")), file, file.recordings)


def test_a_file_appended_to_itself_and_files_that_overlap_count_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock stepped back where the file began again: the same readings were a second recording."""
    first, second = rows_of("anna", 200, 50), rows_of("anna", 200, 50, start_ms=100_000, activity="Jogging")
    other = rows_of("ben", 200, 50)
    one = write_rows(tmp_path / "one.csv", first, second, other, first, second, other)
    two = write_rows(tmp_path / "two.csv", second, rows_of("anna", 100, 50, start_ms=110_000, activity="Jogging"))
    files = read_files([one, two], Console(width=300))
    assert [file.readings for file in files] == [600, 100]
    assert [file.dropped for file in files] == [{Defect.DUPLICATE: 600}, {Defect.DUPLICATE: 200}]
    assert "two.csv: rows left out: 200 duplicated row\n" in capsys.readouterr().out
    again = write_rows(tmp_path / "again.csv", other, second, rows_of("ben", 50, 50))
    with pytest.raises(DataError, match=r"all readings of again.csv are in other files: leave it out"):
        read_files([one, again])


def test_the_same_readings_with_two_activities_are_refused(tmp_path: Path) -> None:
    rows, others = rows_of("anna", 200, 50), rows_of("anna", 200, 50, activity="Jogging")
    with pytest.raises(DataError, match="reading of 'anna' at 0 twice, as Walking and as Jogging: which is it"):
        read_files([write_rows(tmp_path / "one.csv", rows, others)])


def test_recordings_at_rest_whose_clocks_begin_at_zero_are_not_taken_for_one(tmp_path: Path) -> None:
    rows = [f"anna,Sitting,{50 * at},0,{9.8 + at % 5 / 10 * (part + 1)},0" for part in range(6) for at in range(200)]
    (file,) = read_files([write_rows(tmp_path / "one.csv", rows)])
    assert (file.readings, file.dropped) == (1200, {})


def test_a_coarse_sensor_at_rest_whose_clock_begins_at_zero_is_not_taken_for_repeated(tmp_path: Path) -> None:
    """The second recording was refused as the first one with another activity, and the third was dropped."""
    rows = [
        f"anna,{activity},{50 * at},0,0,9.81" for activity in ("Sitting", "Standing", "Sitting") for at in range(200)
    ]
    (file,) = read_files([write_rows(tmp_path / "one.csv", rows)])
    assert (file.readings, file.dropped) == (600, {})


def test_a_reading_at_which_one_activity_ends_and_the_next_begins_has_the_first_one(tmp_path: Path) -> None:
    """Stretches that were cut out of one recording, both ends included: the file would be refused for it."""
    begin = 1_700_000_000_000
    walking = rows_of("anna", 200, 50, start_ms=begin)
    jogging = rows_of("anna", 200, 50, start_ms=begin + 199 * 50, activity="Jogging")
    jogging[0] = walking[-1].replace("Walking", "Jogging")
    (one,) = read_files([write_rows(tmp_path / "a.csv", walking), write_rows(tmp_path / "b.csv", jogging)])[1:]
    assert one.readings == 199
    assert one.dropped == {Defect.DUPLICATE: 1}


@pytest.mark.parametrize("shared", [1, 80, 120])
def test_exports_that_overlap_count_once_however_little_where_times_are_since_1970(shared: int, tmp_path: Path) -> None:
    """Two that shared 40 % of their readings had these twice."""
    start = 1_700_000_000_000
    rows = rows_of("anna", 400 - shared, 50, start)
    one, two = write_rows(tmp_path / "one.csv", rows[:200]), write_rows(tmp_path / "two.csv", rows[200 - shared :])
    files = read_files([one, two])
    assert [file.readings for file in files] == [200, 200 - shared]
    assert files[1].dropped == {Defect.DUPLICATE: shared}
    assert files[1].recordings[0].t_ms[0] == start + 200 * 50
    others = [row.replace("Walking", "Jogging") for row in rows[170:]]
    with pytest.raises(DataError, match="reading of 'anna' at 1700000008500 twice, as Walking and as Jogging"):
        read_files([one, write_rows(tmp_path / "others.csv", others)])


def test_readings_of_other_people_or_with_other_values_are_not_repeated(tmp_path: Path) -> None:
    start = 1_700_000_000_000
    rows = rows_of("anna", 200, 50, start)
    turned = [f"anna,Walking,{start + 50 * at},{at % 11},9.8,{at % 7 + 20}" for at in range(200)]
    paths = [
        write_rows(tmp_path / f"{name}.csv", part)
        for name, part in {"anna": rows, "ben": rows_of("ben", 200, 50, start), "turned": turned}.items()
    ]
    assert [(file.readings, file.dropped) for file in read_files(paths)] == [(200, {})] * 3


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (["2023-11-14 22:13:20"] * 2400, "the 2,400 readings of 'anna' have only 1 different time: are"),
        ([f"2023-11-14 22:13:{at // 20:02}" for at in range(1200)], "the 1,200 .* have only 60 different times: are"),
    ],
)
def test_times_in_whole_seconds_and_a_clock_that_stands_still_are_refused(
    times: list[str], said: str, tmp_path: Path
) -> None:
    """As a spreadsheet writes them: they were taken for those of two devices, and no window was complete."""
    rows = [f"anna,Walking,{time},1,2,{number}" for number, time in enumerate(times)]
    with pytest.raises(DataError, match=f"{said} .* ISO 8601 with fractions of a second"):
        read_files([write_rows(tmp_path / "theirs.csv", rows)], Console())


def test_seconds_are_not_taken_for_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    rows = [f"anna,Walking,{1_700_000_000 + k * 0.05:.2f},1,2,{k}" for k in range(100)]
    path.write_text("\n".join(["person,activity,timestamp,x,y,z", *rows, ""]))
    with pytest.raises(DataError, match="are the timestamps in seconds"):
        read_file(path)


def test_seconds_with_every_row_twice_and_milliseconds_with_every_row_twice_are_told_apart(tmp_path: Path) -> None:
    """Every second reading had the millisecond of the one before: milliseconds were taken for seconds."""
    path = tmp_path / "theirs.csv"
    header = "person,activity,timestamp,x,y,z"
    rows = [f"anna,Walking,{1_700_000_000_000 + k * 50},1,2,{k}" for k in range(100)]
    path.write_text("\n".join([header, *(row for row in rows for _ in range(2)), ""]))
    file = read_file(path)
    assert (file.readings, file.dropped) == (100, {Defect.DUPLICATE: 100})

    rows = [f"anna,Walking,{1_700_000_000 + k * 0.05:.2f},1,2,{k}" for k in range(100)]
    path.write_text("\n".join([header, *(row for row in rows for _ in range(2)), ""]))
    with pytest.raises(DataError, match="are the timestamps in seconds"):
        read_file(path)


@pytest.mark.parametrize("row", ["anna,Fußgang,0,1,2,3,°", "jürgen,Walking,0,1,2,3,°"])
def test_a_name_that_is_not_utf_8_is_refused_by_its_line(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It became another name, and the class was lost without a word; what is ignored may be in Latin-1."""
    monkeypatch.setattr(recording_text, "BLOCK_BYTES", 100)
    path = tmp_path / "theirs.csv"
    before = ["person,activity,timestamp,x,y,z,note", *(f"anna,Walking,{k},1,2,3,°" for k in range(40))]
    path.write_bytes("\n".join([*before, row, ""]).encode("latin1"))
    says = r"theirs\.csv: line 42 is not UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 theirs\.csv$"
    with pytest.raises(DataError, match=says):
        read_file(path)
    path.write_bytes("\n".join([*before, ""]).encode("latin1"))
    assert read_file(path).readings == 40


def test_what_is_not_used_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("person,activity,timestamp,x,y,z\np,Walking,0,1,2,3\np,Cycling,50,1,2,3\np,Walking,100,1,2\n")
    read_files([path], Console())
    output = capsys.readouterr().out
    assert "rows left out: 1 missing value (the first: line 4 is 'p,Walking,100,1,2')" in output
    assert "readings of no activity that is learned: 1 of 'Cycling'" in output


def test_people_whose_names_differ_in_capitals_alone_are_one(tmp_path: Path) -> None:
    """'emil' trained and 'EMIL' tested, in one file and in two."""
    header, rest = "person,activity,timestamp,x,y,z", "Walking,{},0,9.8,1"
    for name, people in (
        ("ours", ("emil", "EMIL", "Anna")),
        ("theirs", ("Emil", "anna", "sa05")),
        ("sisfall", ["SA05"]),
    ):
        rows = [f"{who},{rest.format(50 * number + len(name))}" for number, who in enumerate(people)]
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *rows, ""]))
    read = read_files([tmp_path / "ours.csv", tmp_path / "theirs.csv", tmp_path / "sisfall.csv"])

    assert [file.people for file in read] == [{"emil", "Anna"}, {"emil", "Anna", "SA05"}, {"SA05"}]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "ours.csv").write_text(f"person,activity,timestamp,x,y,z\n{day},Walking,0,1,2,3\n")
    with pytest.raises(DataError, match="2 files are called ours"):
        read_files([tmp_path / "monday" / "ours.csv", tmp_path / "tuesday" / "ours.csv"])


def test_a_hostile_row_costs_no_more_than_another(tmp_path: Path) -> None:
    """A pattern that could be matched in many ways took 24 ms for each of these rows."""
    path = tmp_path / "theirs.csv"
    digits = "1" * 21
    rows = [f"p,Walking,1,{digits},{digits},{digits}!"] * 20_000
    path.write_text("\n".join(["person,activity,timestamp,x,y,z", "p,Walking,0,1,2,3", *rows, ""]))
    assert read_file(path).dropped == {Defect.MALFORMED_FIELD: 20_000}


# --- what cannot be read -------------------------------------------------------------------------


def test_a_file_that_is_none_of_these_says_what_would_be(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary,\ntoday I walked.\n")
    with pytest.raises(DataError, match="holds no readings in a known form"):
        read_file(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r"theirs\.csv is empty$"),
        (
            b"time,ax,ay,az,activity\n1,2,3,4,Walking\n",
            r"lacks the columns person, timestamp, x, y, z: a CSV needs each",
        ),
        (
            b"person,timestamp,x,y,z\na,1,2,3,4\n",
            r"theirs\.csv lacks the column activity: it needs each of the columns",
        ),
        ("person,activity\n".encode("utf-16"), r"is UTF-16: write it as UTF-8, such as by iconv -f utf-16 -t utf-8 th"),
        (
            b"PK\x03\x04\x14\0\6\0\x08\0\0\0!\0........[Content_Types].xml ",
            r"is a spreadsheet, such as \.xlsx: save it as",
        ),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a spreadsheet"),
        (
            b"person,activity,timestamp,x,y,z\r\na,Walking,1700000000050000000,1,2,3\r\n",
            r"1 malformed field \(the first: line 2 has '1700000000050000000' for timestamp, which is a time in nanos",
        ),
        (
            b"person,activity,timestamp,x,y,z\n\na,Walking,1700000000050000,1,2,3\n",
            r"line 3 has '1700000000050000' for timestamp, which is a time in microseconds: it has to be in millisec",
        ),
        (b"person,activity,timestamp,x,y,z\na,Walking,1,2,five,3\n", r"the first: line 2 has 'five' for y"),
        (b"person,activity,timestamp,x,y,z\na,Walking,1,2\n", r"the first: line 2 is 'a,Walking,1,2'"),
        (b"1,Walking,0,1,2,3;2,Sitting,five,1,2,3;", r"the first: line 1 is '2,Sitting,five,1,2,3'"),
    ],
)
def test_a_file_without_readings_says_why(content: bytes, complaint: str, tmp_path: Path) -> None:
    """Each of these was said to be in no known form."""
    path = tmp_path / "theirs.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        read_file(path)


def test_a_missing_file_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read [^:]*nowhere\.txt: No such file or directory$"):
        read_file(tmp_path / "nowhere.txt")


def test_a_damaged_archive_is_one_clear_sentence(tmp_path: Path) -> None:
    path = tmp_path / "cut.xz"
    path.write_bytes(lzma.compress(GOOD.encode() * 100)[:60])
    with pytest.raises(DataError, match=r"cannot read .*cut\.xz"):
        read_file(path)


def test_a_small_file_that_decompresses_into_a_huge_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_CONTENT_BYTES", 1 << 20)
    path = tmp_path / "bomb.xz"
    path.write_bytes(lzma.compress(b"1,Walking,1,1,1,1;\n" * 200_000))
    with pytest.raises(DataError, match="larger than 1,048,576 bytes once decompressed"):
        read_file(path)


def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    path.write_bytes(b"7" * (files.BLOCK_BYTES + 1))
    with pytest.raises(DataError, match="a line is longer than 65,536 bytes"):
        read_file(path)


def test_the_same_data_under_two_names_is_refused(tmp_path: Path) -> None:
    first = wisdm(tmp_path, GOOD)
    second = tmp_path / "copy.txt"
    second.write_bytes(first.read_bytes())
    with pytest.raises(DataError, match="the same data is given twice"):
        read_files([first, second])
