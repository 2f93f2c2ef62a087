"""Text forms of recordings: WISDM's raw format, and CSV with a header."""

import datetime
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.data.files import BLOCK_BYTES, DataError
from training.data.recordings import (
    MAX_ABS_VALUE,
    MAX_LABEL_CHARACTERS,
    OTHER_ACTIVITY,
    Defect,
    Kind,
    Labels,
    Recording,
)

MAX_LINE_BYTES = 64 << 10
# A clock that steps back further than this starts a new recording; less is jitter and is sorted.
STEP_BACK_MS = 200
MIN_READINGS_TO_CHECK = 50  # fewer say nothing about a clock
MOST_AT_ONE_TIME = 4  # readings; more are of a clock of whole seconds, as spreadsheets write it
MOST_STEPS_BACK = 0.1  # of all steps, in rows that are in the order of time

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Tally:
    """The rows left out, by reason, and the readings of activities that are no label.

    `first_refused` holds at most one sentence, of the first line of a text that could not be read.
    """

    dropped: Counter[Defect] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    first_refused: list[str] = field(default_factory=list)


def _blocks(content: io.BufferedReader) -> Iterator[bytes]:
    """Yield whole lines, a few megabytes at a time."""
    rest = b""
    while data := content.read(BLOCK_BYTES):
        data = rest + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if len(rest) > MAX_LINE_BYTES:
            raise _too_long()
        if end:
            yield data[:end]
    if rest:
        yield rest


# Each text matches in one way only: backtracking on a hostile row must stay cheap.
_BARE_NUMBER = rb"([-+]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][-+]?\d{1,2})?)"
_NUMBER = rb"[ \t]*" + _BARE_NUMBER + rb"[ \t]*"
_XYZ = b",".join([_NUMBER] * 3)
_TIME = rb"(\d{1,15}(?:\.\d{1,9})?|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d(?::?\d\d)?)?)"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
CSV_COLUMNS = ("person", "activity", "timestamp", "x", "y", "z")
_TIME_COLUMNS = ("timestamp", "t_ms")


def _words(least: int, most: int) -> bytes:
    """Return the pattern of a text of so many bytes; in quotes it may hold commas, and quotes that are doubled."""
    return rb'("(?:[^"\r\n]|""){%d,%d}"|[^,"\r\n]{%d,%d})' % (least, most, least, most)


# Of the fields that a CSV's header may name; any of them may be quoted.
_CSV_FIELDS = {
    "person": _words(1, 128),
    "activity": _words(1, 4 * MAX_LABEL_CHARACTERS),  # bytes of UTF-8
    **dict.fromkeys(("placement", "recording"), _words(0, 128)),
    **dict.fromkeys(_TIME_COLUMNS, rb'"?' + _TIME + rb'"?'),
    **dict.fromkeys("xyz", rb'"?' + _BARE_NUMBER + rb'"?'),
}


@dataclass(frozen=True, slots=True)
class _Form:
    """How a text form writes a reading: `row` captures `fields`, out of `width` fields of a line."""

    kind: Kind
    row: re.Pattern[bytes]
    fields: tuple[str, ...]
    record_end: bytes
    time_units_per_ms: int
    width: int
    header: bytes | None = None
    columns: tuple[str, ...] = ()  # of a CSV, with the ignored ones


WISDM = _Form(
    kind="wisdm",
    row=re.compile(rb"^[ \t]*(\d{1,9}),([A-Za-z]{1,32}),(\d{1,18})," + _XYZ + rb",?[ \t\r]*$", re.MULTILINE),
    fields=("person", "activity", "time", "x", "y", "z"),
    record_end=b";",  # at the end of the line as a rule; between two records on one line now and then
    time_units_per_ms=1_000_000,
    width=6,
)


def csv_form(header: bytes, path: Path) -> _Form | None:
    """Return the form that a CSV's header describes; None if the line is no header. Raises `DataError`."""
    header = header.removeprefix(BOM).strip()
    columns = _names(header, b",")
    if not set("xyz") <= set(columns):
        for delimiter in (b";", b"\t"):
            if set("xyz") <= set(_names(header, delimiter)):
                raise DataError(f"{path} parts its columns by {delimiter.decode()!r}: write it with commas")
        return None
    times = [name for name in columns if name in _TIME_COLUMNS]
    wrong = [name for name in ("person", "activity", "x", "y", "z") if columns.count(name) != 1]
    twice = [name for name in ("placement", "recording") if columns.count(name) > 1]
    if wrong or twice or len(times) != 1:
        lacks = f"lacks {_missing(columns)}: it " if _missing(columns) else ""
        raise DataError(
            f"{path} {lacks}needs each of the columns {', '.join(CSV_COLUMNS)} once; its header is {', '.join(columns)}"
        )
    patterns = [_field_pattern(name) for name in columns]
    return _Form(
        kind="csv",
        row=re.compile(rb"^" + b",".join(patterns) + rb"\r?$", re.MULTILINE),
        fields=tuple("time" if name in _TIME_COLUMNS else name for name in columns if name in _CSV_FIELDS),
        record_end=b"\n",
        time_units_per_ms=1,
        width=len(columns),
        header=header,
        columns=tuple(columns),
    )


def lacking_columns(header: bytes) -> str | None:
    """Return which columns a line lacks to be a CSV's header; None if it is no list of at least three names."""
    names = _names(header.removeprefix(BOM).strip(), b",")
    if len(names) < 3 or not all(name[:1].isalpha() for name in names):
        return None
    return _missing(names)


def _missing(columns: Sequence[str]) -> str:
    has_time = any(name in columns for name in _TIME_COLUMNS)
    missing = [name for name in CSV_COLUMNS if name not in columns and not (name == "timestamp" and has_time)]
    return f"the {'column' if len(missing) == 1 else 'columns'} {', '.join(missing)}" if missing else ""


def _field_pattern(name: str) -> bytes:
    return rb"[ \t]*" + _CSV_FIELDS[name] + rb"[ \t]*" if name in _CSV_FIELDS else _ANY


_ANY = rb'(?:"(?:[^"\r\n]|"")*"|[^",\r\n]*)'


def _names(header: bytes, delimiter: bytes) -> list[str]:
    return [name.strip().strip(b'"').lower().decode("utf-8", "replace") for name in header.split(delimiter)]


_Key = tuple[bytes, ...]
_Columns = tuple[np.ndarray, np.ndarray, np.ndarray]  # activity, time as written, xyz


def _too_long() -> DataError:
    return DataError(f"a line is longer than {MAX_LINE_BYTES:,} bytes: not one of the known data files")


def read_text(
    content: io.BufferedReader, form: _Form, path: Path, dataset: str, labels: Labels, tally: Tally
) -> Iterator[Recording]:
    """Yield the recordings of a text in this form; raises `DataError` if it has another one."""
    parts: dict[tuple[str, ...], list[_Columns]] = {}
    number = 1
    for block in _blocks(content):
        _check_utf8(block, form, path, number)
        text = block.replace(form.record_end, b"\n")
        rows = form.row.findall(text)
        lines = [line for line in text.split(b"\n") if line.strip() and line.removeprefix(BOM).strip() != form.header]
        if any(len(line) > MAX_LINE_BYTES for line in lines):
            raise _too_long()
        if len(lines) != len(rows):
            tally.dropped.update(_defect(line, form) for line in lines if not form.row.fullmatch(line))
            if not tally.first_refused:
                tally.first_refused.append(_first_refused(block, form, number))
        number += block.count(b"\n")
        for key, group in itertools.groupby(rows, _key_of(form)):
            parts.setdefault(tuple(map(_text, key)), []).append(_columns(list(group), form, labels, tally))
    for names, tables in parts.items():
        named = dict(zip(_key_fields(form), names, strict=True))
        person, placement = named["person"], named.get("placement") or "pocket"
        activity, time, xyz = (np.concatenate(column) for column in zip(*tables, strict=True))
        once = time[~_is_duplicate(activity, time, xyz)]  # a file may have every row twice
        if form is not WISDM and len(once) >= MIN_READINGS_TO_CHECK:
            _check_clock(once, dataset, person)
        for columns in _continuous(activity, time, xyz, form.time_units_per_ms, tally.dropped):
            yield Recording(dataset, person, placement, *columns)


def _check_clock(time: np.ndarray, dataset: str, person: str) -> None:
    """Raise `DataError` where a person's times are not in milliseconds, or their rows not in the order of time."""
    passed = np.diff(time)
    times = 1 + np.count_nonzero(passed)  # clocks that begin at 0 again pass over the same times
    at_one = len(time) / times
    if at_one > MOST_AT_ONE_TIME or (at_one > 2 and np.median(np.diff(np.unique(time))) <= 1):
        raise DataError(
            f"{dataset}: the {len(time):,} readings of {person!r} have only {times:,} different "
            f"{'time' if times == 1 else 'times'}: are the timestamps in seconds? They must be in milliseconds, "
            "or ISO 8601 with fractions of a second"
        )
    back = int((passed < -STEP_BACK_MS).sum())
    if back > MOST_STEPS_BACK * len(passed):
        raise DataError(
            f"{dataset}: the rows of {person!r} are not in the order of time, which steps back {back:,} times in "
            f"{len(time):,} rows: sort them by person, recording and timestamp, and tell devices that ran at the same "
            "time apart by a column recording"
        )


def _check_utf8(block: bytes, form: _Form, path: Path, first_number: int) -> None:
    """Raise `DataError` where a name is not UTF-8: it would be another name. Columns that are ignored may be anything.

    `first_number` is that of the block's first line.
    """
    try:
        block.decode()
    except UnicodeDecodeError:
        for number, line in enumerate(block.split(b"\n"), first_number):
            if (row := form.row.fullmatch(line)) and not _is_utf8(b",".join(row.groups())):
                raise DataError(
                    f"{path}: line {number} is not UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 {path.name}"
                ) from None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(field: bytes) -> str:
    text = field.strip()
    if text.startswith(b'"'):
        text = text[1:-1].replace(b'""', b'"').strip()
    return text.decode()


def _key_fields(form: _Form) -> tuple[str, ...]:
    return tuple(field for field in form.fields if field in ("person", "placement", "recording"))


def _key_of(form: _Form) -> Callable[[_Key], _Key]:
    """Return a function from a row to the fields that distinguish recordings."""
    places = [form.fields.index(field) for field in _key_fields(form)]
    return lambda row: tuple(row[place] for place in places)


def _columns(rows: list[_Key], form: _Form, labels: Labels, tally: Tally) -> _Columns:
    named = dict(zip(form.fields, zip(*rows, strict=True), strict=True))
    return (
        _activity_codes(named["activity"], labels, tally),
        np.array([int(time) if time.isdigit() else _ms(time) for time in named["time"]], np.int64),
        np.array([list(map(float, named[axis])) for axis in ("x", "y", "z")], np.float32).T,
    )


def _ms(time: bytes) -> int:
    """Convert a fractional number or ISO 8601 to milliseconds, UTC if it has no offset; -1 for an invalid time."""
    text = time.decode()
    if "-" not in text:
        return int(float(text))
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        return -1
    since = (at if at.tzinfo else at.replace(tzinfo=datetime.UTC)) - _EPOCH
    return since // datetime.timedelta(milliseconds=1)


def _activity_codes(names: Sequence[bytes], labels: Labels, tally: Tally) -> np.ndarray:
    codes = {name: labels.code(_text(name)) for name in dict.fromkeys(names)}  # in the file's order
    tally.others.update({_text(name): names.count(name) for name, code in codes.items() if code == OTHER_ACTIVITY})
    return np.array([codes[name] for name in names], np.int8)


def _defect(line: bytes, form: _Form) -> Defect:
    values = [field.strip() for field in line.split(b",")]
    if len(values) == form.width + 1 and not values[-1]:
        values.pop()  # a comma too many before the semicolon
    if len(values) == form.width - 1 or (len(values) == form.width and b"" in values):
        return Defect.MISSING_VALUE
    return Defect.MALFORMED_FIELD if len(values) == form.width else Defect.WRONG_NUMBER_OF_FIELDS


# A time since 1970 has so many digits in these units, from 2001 to 2286; in milliseconds it has 13.
_UNITS = {10: "seconds", 16: "microseconds", 19: "nanoseconds"}
MAX_SHOWN = 60  # characters of a line or a field


def _first_refused(block: bytes, form: _Form, first_number: int) -> str:
    """Say which line of a block is the first that can't be read, and which field of it; it starts at `first_number`."""
    for number, line in enumerate(block.split(b"\n"), first_number):
        for record in line.split(form.record_end):
            if not record.strip() or record.removeprefix(BOM).strip() == form.header or form.row.fullmatch(record):
                continue
            values = record.rstrip(b"\r").split(b",")
            for name, value in zip(form.columns, values, strict=False) if len(values) == form.width else ():
                if not re.fullmatch(_field_pattern(name), value):
                    return f"line {number} has {_shown(value)} for {name}{_unit(name, value)}"
            return f"line {number} is {_shown(record)}"
    return ""


def _shown(text: bytes) -> str:
    written = text.strip().decode("utf-8", "replace")
    return repr(written if len(written) <= MAX_SHOWN else written[:MAX_SHOWN] + "…")


def _unit(name: str, value: bytes) -> str:
    whole = value.strip(b' \t"').partition(b".")[0]
    if name not in _TIME_COLUMNS or not whole.isdigit() or (unit := _UNITS.get(len(whole))) is None:
        return ""
    return f", which is a time in {unit}: it has to be in milliseconds, or ISO 8601"


def _continuous(
    activity: np.ndarray, time: np.ndarray, xyz: np.ndarray, units_per_ms: int, dropped: Counter[Defect]
) -> Iterator[_Columns]:
    """Yield valid rows without duplicates, sorted by time; split where the clock steps back."""
    sound = _sound(time, xyz, units_per_ms, dropped)
    activity, time, xyz = activity[sound], time[sound], xyz[sound]
    t_ms = time // units_per_ms
    bounds = [0, *(np.flatnonzero(np.diff(t_ms) < -STEP_BACK_MS) + 1).tolist(), len(t_ms)]
    for start, stop in itertools.pairwise(bounds):
        order = start + np.argsort(time[start:stop], kind="stable")
        fresh = ~_is_duplicate(activity[order], time[order], xyz[order])
        _count(dropped, Defect.DUPLICATE, ~fresh)
        order = order[fresh]
        if len(order):
            yield activity[order], t_ms[order], xyz[order]


def _sound(time: np.ndarray, xyz: np.ndarray, units_per_ms: int, dropped: Counter[Defect]) -> np.ndarray:
    """Return bool[n]: rows with a time, and with values in an accelerometer's range."""
    # A clock of nanoseconds since boot is never 0; one that counts milliseconds of a recording starts there.
    timeless = (time == 0) & (units_per_ms > 1)
    impossible = time < 0
    wild = ~timeless & ~impossible & (np.abs(xyz) > MAX_ABS_VALUE).any(axis=1)
    _count(dropped, Defect.MALFORMED_FIELD, impossible)
    _count(dropped, Defect.ZERO_TIMESTAMP, timeless)
    _count(dropped, Defect.OUT_OF_RANGE, wild)
    return np.asarray(~(timeless | impossible | wild))


def _count(dropped: Counter[Defect], reason: Defect, rows: np.ndarray) -> None:
    if rows.any():
        dropped[reason] += int(rows.sum())


def _is_duplicate(activity: np.ndarray, time: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    repeats = np.zeros(len(time), bool)
    repeats[1:] = (np.diff(activity) == 0) & (np.diff(time) == 0) & (xyz[1:] == xyz[:-1]).all(axis=1)
    return repeats
