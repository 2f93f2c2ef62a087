"""Texts and readings from the command line and from files, as records for the workers' decoders, without Kafka.

    ClassifyError         the input can't be classified; the text says where and what to do

A record's offset is its line number (or the argument's number on the command line), so that errors can name it.
"""

import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.contract import ISO_8601, MAX_TIMESTAMP_MS
from ingest.rejections import Rejection

MAX_FILE_BYTES = 64 << 20
MAX_TEXTS = 100_000
MAX_READINGS = 500_000  # 7 hours of one device
STANDARD_INPUT = Path("-")
REQUIRED_COLUMNS = ("timestamp", "x", "y", "z")
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")  # gzip, bzip2, xz
ONE_DEVICE = "device"  # the id where the file names none
INTEGER = re.compile(r"[+-]?[0-9]{1,20}")


class ClassifyError(Exception):
    """The input can't be classified; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class Line:
    """A record as from Kafka; its timestamp is the latest possible, so that no reading is ahead of it."""

    value: bytes
    offset: int
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: int = MAX_TIMESTAMP_MS


@dataclass(frozen=True, slots=True)
class Source:
    """Records and their origin: `name` is a file's, or empty for the command line."""

    name: str
    lines: list[Line]

    def refuse(self, rejections: Sequence[Rejection], hint: Callable[[Line], str] = lambda _: "") -> None:
        """Raise ClassifyError for the first rejection, if there is one, with the hint for its line."""
        if not rejections:
            return
        others = f" ({len(rejections) - 1:,} more cannot be read)" if len(rejections) > 1 else ""
        first = rejections[0]
        line = self.lines[first.record]
        raise ClassifyError(f"{self.place(line.offset)}: {first.detail}{others}{hint(line)}")

    def place(self, number: int) -> str:
        """Return the description of a record's place."""
        return f"{self.name}, line {number}" if self.name else f"text {number}"


# --- texts ---------------------------------------------------------------------------------------


def texts_of_words(words: Sequence[str]) -> Source:
    """Return each command-line argument as a text; ids count from 1. Raises ClassifyError."""
    for number, word in enumerate(words, 1):
        if not _is_utf8(word):
            raise ClassifyError(f"text {number} is not UTF-8")
    return Source("", [_text(number, word) for number, word in enumerate(words, 1)])


def texts_of_file(path: Path) -> Source:
    """Read texts, one a line, with line numbers as ids; or a .jsonl of ``{"id", "text"}``.

    Empty lines are skipped. Raises ClassifyError.
    """
    if path.suffix.lower() == ".csv":  # its lines would be taken for texts, header and quotes and all
        raise ClassifyError(f"{path} is a CSV: texts go into a .txt, one a line, or a .jsonl of id and text")
    name, content = _read(path)
    if content.startswith(COMPRESSED):
        raise ClassifyError(f"{name} is compressed: decompress it first, such as with gunzip")
    jsonl = path.suffix.lower() == ".jsonl"
    lines = []
    for number, raw in enumerate(io.BytesIO(content), 1):  # not splitlines: most lines may be empty
        if not raw.strip():
            continue
        text = _decoded(raw.removesuffix(b"\n").removesuffix(b"\r"), name, number)
        lines.append(Line(raw, number) if jsonl else _text(number, text))
        if len(lines) > MAX_TEXTS:
            raise ClassifyError(f"{name} has more than {MAX_TEXTS:,} texts: split it, or let a worker label them")
    if not lines:
        raise ClassifyError(f"{name} holds no text")
    return Source(name, lines)


def _text(number: int, text: str) -> Line:
    return Line(json.dumps({"id": str(number), "text": text}).encode(), number)


def _is_utf8(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # Python decodes invalid bytes of the command line as lone surrogates
        return False
    return True


# --- readings ------------------------------------------------------------------------------------


def readings_of_file(path: Path) -> Source:
    """Read a CSV of accelerometer readings as samples of the message contract; raises ClassifyError.

    The header names timestamp, x, y, z, and for several devices device_id, or person as in training;
    other columns are ignored. The decoder checks the values, as it does a message's.
    """
    name, content = _read(path)
    rows = _rows(name, content)
    _, header = next(rows, (1, []))
    if not header:
        raise ClassifyError(f"{name} is empty")
    columns = _columns(name, header)
    lines = []
    for number, row in rows:
        if len(row) != len(header):
            raise ClassifyError(f"{name}, line {number}: {_values(len(row))}, and the header names {len(header)}")
        lines.append(_sample(number, {column: row[place].strip() for column, place in columns.items()}))
        if len(lines) > MAX_READINGS:
            raise ClassifyError(f"{name} has more than {MAX_READINGS:,} readings: split it, or replay it to a worker")
    if not lines:
        raise ClassifyError(f"{name} holds no reading, only a header")
    return Source(name, lines)


def _rows(name: str, content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield each non-empty row, with the number of its (last) line."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise _not_utf8(name, number) from None
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise ClassifyError(f"{name}, line {reader.line_num}: {error}") from None


def _columns(name: str, header: Sequence[str]) -> dict[str, int]:
    """Return the index of each column that a sample needs."""
    names = [column.strip() for column in header]
    missing = [column for column in REQUIRED_COLUMNS if column not in names]
    if missing:
        raise ClassifyError(
            f"{name} has no column {' and no '.join(missing)}: the first line of a CSV of readings names timestamp, x, "
            f"y and z, and device_id where there are several devices (texts go into a .txt, one a line, or a .jsonl)"
        )
    device = "person" if "device_id" not in names and "person" in names else "device_id"
    wanted = [column for column in (device, *REQUIRED_COLUMNS) if column in names]
    for column in wanted:
        if names.count(column) > 1:
            raise ClassifyError(f"{name} has several columns {column}: which of them is meant?")
    return {"device_id" if column == device else column: names.index(column) for column in wanted}


def _sample(number: int, fields: dict[str, str]) -> Line:
    """Return a row as the contract's sample; invalid numbers stay texts, which the decoder rejects by name.

    A time without an offset is UTC, as in training: messages need one, but spreadsheets and pandas write none.
    """
    timestamp = fields["timestamp"]
    if ISO_8601.fullmatch(f"{timestamp}Z"):
        timestamp += "Z"
    sample: dict[str, Any] = {
        "device_id": fields.get("device_id", ONE_DEVICE),
        "timestamp": int(timestamp) if INTEGER.fullmatch(timestamp) else timestamp,
        **{axis: _number(fields[axis]) for axis in "xyz"},
    }
    return Line(json.dumps(sample).encode(), number)


def _number(text: str) -> float | str:
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _values(count: int) -> str:
    return "1 value" if count == 1 else f"{count} values"


# --- files ---------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[str, bytes]:
    """Return a file's display name, and its bytes without a byte order mark."""
    try:
        if path == STANDARD_INPUT:
            if sys.stdin is None:
                raise ClassifyError("standard input is closed")
            name, content = "standard input", sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with path.open("rb") as file:
                name, content = path.name, file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ClassifyError(f"{path}: {error.strerror or error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ClassifyError(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB: split it, or let a worker label it")
    return name, content.removeprefix(b"\xef\xbb\xbf")


def _decoded(raw: bytes, name: str, number: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _not_utf8(name, number) from None


def _not_utf8(name: str, number: int) -> ClassifyError:
    return ClassifyError(f"{name}, line {number} is not UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 {name}")
