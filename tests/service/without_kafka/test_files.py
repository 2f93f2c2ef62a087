import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from ingest.messages.decode import decode
from ingest.messages.texts import decode_texts
from service.without_kafka import files as offline
from service.without_kafka.files import ClassifyError, Source, readings_of_file, texts_of_file, texts_of_words

HEADER = "timestamp,x,y,z\n"
ROW = "1700000000050,-0.6946,12.6805,0.5039\n"


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(source: Source) -> list[tuple[bytes, str]]:
    read, rejections = decode_texts(source.lines)
    source.refuse(rejections)
    return list(zip(read.ids, read.texts, strict=True))


# --- texts ---------------------------------------------------------------------------------------


def test_words_of_the_command_line_are_texts_by_number() -> None:
    assert texts(texts_of_words(["one, two", "", "“three”"])) == [(b"1", "one, two"), (b"2", ""), (b"3", "“three”")]


def test_a_word_that_is_not_utf8_is_named() -> None:
    with pytest.raises(ClassifyError, match=r"^text 2 is not UTF-8$"):
        texts_of_words(["fine", b"caf\xe9".decode(errors="surrogateescape")])


def test_lines_of_a_file_are_texts_whose_ids_are_their_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, "reviews.txt", "\ufefffirst\r\n\n  \nnext\x85line\u2028here\nlast")
    assert texts(texts_of_file(path)) == [(b"1", "first"), (b"4", "next\x85line\u2028here"), (b"5", "last")]


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\n")))
    assert texts(texts_of_file(Path("-"))) == [(b"1", "from a pipe")]


def test_a_closed_standard_input_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has no `sys.stdin` then, as under `classify --file - <&-`, and a traceback told so."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ClassifyError, match=r"^standard input is closed$"):
        texts_of_file(Path("-"))


def test_messages_keep_their_own_ids(tmp_path: Path) -> None:
    path = written(tmp_path, "m.jsonl", '{"id": "a", "text": "one"}\n\n{"text": "two", "id": "a", "stars": 5}\n')
    assert texts(texts_of_file(path)) == [(b"a", "one"), (b"a", "two")]


def test_a_bad_message_is_reported_by_its_line_and_the_rest_by_their_number(tmp_path: Path) -> None:
    path = written(tmp_path, "m.jsonl", '{"id": "a", "text": "one"}\n\n{"id": "b"}\nno JSON\n')
    with pytest.raises(ClassifyError, match=r"^m.jsonl, line 3: Text.text: the field is missing \(1 more"):
        texts(texts_of_file(path))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.txt", b"fine\ncaf\xe9\n", "t.txt, line 2 is not UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 t.txt"),
        ("t.jsonl", b'\n{"id": "1", "text": "caf\xe9"}', "t.jsonl, line 2 is not UTF-8"),
        ("t.txt", b"", "t.txt holds no text"),
        ("t.txt", b" \n\r\n", "t.txt holds no text"),
        ("t.txt", b"line\n" * 11, "t.txt has more than 10 texts"),
        ("t.txt", b"l" * 1001, "t.txt is larger than 0 MiB"),
    ],
)
def test_files_of_texts_that_cannot_be_read(
    name: str, content: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "MAX_TEXTS", 10)
    monkeypatch.setattr(offline, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ClassifyError) as error:
        texts_of_file(written(tmp_path, name, content))
    assert str(error.value).startswith(says)


def test_a_file_that_is_not_there_is_reported_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ClassifyError, match=r"nowhere\.txt: No such file or directory$"):
        texts_of_file(tmp_path / "nowhere.txt")
    with pytest.raises(ClassifyError, match="Is a directory"):
        texts_of_file(tmp_path)


# --- readings ------------------------------------------------------------------------------------


def test_rows_of_a_csv_become_samples_of_the_contract(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "walk.csv",
        "\ufeffz, activity ,timestamp,device_id,y,x\r\n"
        '0.5,"Walking, fast",1700000000050,phone-17,12.7,-0.7\r\n'
        "\r\n"
        '1e0,,"2023-11-14T22:13:20.050+00:00",手表-3, 9 ,-0\r\n',
    )
    source = readings_of_file(path)
    assert [line.offset for line in source.lines] == [2, 4]
    assert [json.loads(line.value) for line in source.lines] == [
        {"device_id": "phone-17", "timestamp": 1700000000050, "x": -0.7, "y": 12.7, "z": 0.5},
        {"device_id": "手表-3", "timestamp": "2023-11-14T22:13:20.050+00:00", "x": 0.0, "y": 9.0, "z": 1.0},
    ]
    readings, rejections = decode(source.lines)
    assert rejections == []
    assert readings.timestamp_ms.tolist() == [1700000000050, 1700000000050]


def test_a_time_without_an_offset_is_utc_as_in_training(tmp_path: Path) -> None:
    """It was refused here and taken for UTC there."""
    row = ",0.1,9.8,0.3\n"
    times = ("2023-11-14 22:13:20.050", "2023-11-14T22:13:20.1", "2023-11-14 23:13:20.15+01:00")
    readings, rejections = decode(readings_of_file(written(tmp_path, "w.csv", HEADER + row.join([*times, ""]))).lines)
    assert rejections == []
    assert readings.timestamp_ms.tolist() == [1700000000050, 1700000000100, 1700000000150]


def test_without_device_ids_there_is_one_device(tmp_path: Path) -> None:
    readings, _ = decode(readings_of_file(written(tmp_path, "walk.csv", HEADER + ROW + ROW)).lines)
    assert readings.device_ids() == [b"device", b"device"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "w.csv is empty"),
        ("time,x,z\n", "w.csv has no column timestamp and no y: the first line of a CSV of readings names timestamp"),
        (ROW, "w.csv has no column timestamp and no x and no y and no z"),
        ("timestamp,x,x,y,z\n", "w.csv has several columns x: which of them is meant?"),
        (HEADER, "w.csv holds no reading, only a header"),
        (HEADER + ROW + "\n1,2,3\n", "w.csv, line 4: 3 values, and the header names 4"),
        (HEADER + "1\n", "w.csv, line 2: 1 value, and the header names 4"),
        (HEADER.encode() + b"\xff,1,2,3\n", "w.csv, line 2 is not UTF-8"),
        (HEADER + '1,2,3,"' + "4" * 200_000, "w.csv, line 2: field larger than field limit"),
        (HEADER + ROW * 11, "w.csv has more than 10 readings"),
    ],
)
def test_files_of_readings_that_cannot_be_read(
    content: str | bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "MAX_READINGS", 10)
    with pytest.raises(ClassifyError) as error:
        readings_of_file(written(tmp_path, "w.csv", content))
    assert str(error.value).startswith(says)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("soon,1,2,3", "w.csv, line 3: Sample.timestamp: 'soon' is not an ISO 8601 time with an offset"),
        ("9" * 20 + ",1,2,3", "w.csv, line 3: Sample.timestamp: the time is beyond"),
        ("1,,2,3", "w.csv, line 3: Sample.x: not a number"),
        ("1,2,nan,3", "w.csv, line 3: Sample.y: not a number"),
        ("1,2,3,inf", "w.csv, line 3: Sample.z: not a number"),
        ("1,2,3,1001", "w.csv, line 3: Sample.z: 1001.0 is not within ±1000 m/s^2"),
    ],
)
def test_values_that_a_worker_would_refuse_are_reported_by_their_line(row: str, says: str, tmp_path: Path) -> None:
    source = readings_of_file(written(tmp_path, "w.csv", f"{HEADER}{ROW}{row}\n"))
    with pytest.raises(ClassifyError) as error:
        source.refuse(decode(source.lines)[1])
    assert str(error.value).startswith(says)


def test_a_compressed_file_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ClassifyError, match=r"^x\.csv\.gz is compressed: decompress it first"):
        texts_of_file(written(tmp_path, "x.csv.gz", gzip.compress(b"timestamp,x,y,z")))


def test_a_person_is_a_device_where_none_is_named(tmp_path: Path) -> None:
    """People of a training file were merged into one signal."""
    rows = "person," + HEADER + "ann," + ROW + "ben," + ROW
    lines = readings_of_file(written(tmp_path, "w.csv", rows)).lines
    assert [json.loads(line.value)["device_id"] for line in lines] == ["ann", "ben"]
    both = "person,device_id," + HEADER + "ann,p," + ROW
    assert json.loads(readings_of_file(written(tmp_path, "v.csv", both)).lines[0].value)["device_id"] == "p"
