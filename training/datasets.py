"""Public data files of phone accelerometers, read into recordings.

Three forms are known, each recognised by its content, plain or compressed (gzip, bzip2, xz):

- ``WISDM_ar_v1.1_raw.txt`` of WISDM Activity Prediction v1.1 (Kwapisz, Weiss, Moore, SensorKDD 2010), with
  the defects that its users report: see `Defect`.
- the MotionSense archive ``A_DeviceMotion_data`` (Malekzadeh et al., IoTDI 2019), read where it lies:
  nothing is unpacked to disk.
- CSV whose header names the columns ``person``, ``activity``, ``timestamp`` or ``t_ms``, ``x``, ``y`` and ``z``,
  in any order, and perhaps ``placement`` and ``recording``; others are passed over. Axes are in m/s², gravity
  included; a time is in milliseconds, or ISO 8601.

Data files are untrusted: no path in an archive is ever used to write, and the decompressed size, the number
of an archive's members and the length of a line are bounded. What cannot be read is a `DataError`.
"""

import datetime
import enum
import io
import itertools
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from training.files import BLOCK_BYTES, READ_ERRORS, DataError, opened, reason, sha256

ACTIVITIES = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
# Labels that mean one of several activities, of which it isn't known which; their codes follow those of the others.
MIXED_ACTIVITIES = {"StairsMixed": ("Downstairs", "Upstairs")}
OTHER_ACTIVITY = -1
STANDARD_GRAVITY = 9.80665

MAX_MEMBER_BYTES = 64 << 20
MAX_MEMBERS = 10_000
MAX_LINE_BYTES = 64 << 10
MAX_ABS_VALUE = 1000.0

# A clock that steps back further than this starts a new recording; less is jitter and is sorted.
STEP_BACK_MS = 200

Kind = Literal["wisdm", "motionsense", "phones"]


class Defect(enum.StrEnum):
    """Why a row was left out."""

    WRONG_NUMBER_OF_FIELDS = "wrong number of fields"
    MISSING_VALUE = "missing value"
    MALFORMED_FIELD = "malformed field"
    OUT_OF_RANGE = "out of range"
    ZERO_TIMESTAMP = "timestamp 0"
    DUPLICATE = "duplicated row"


@dataclass(frozen=True, slots=True)
class Recording:
    """What one person's one device measured, in order of time; it may hold gaps.

    `activity` int8[n], index into `ACTIVITIES` and `MIXED_ACTIVITIES` behind them, or `OTHER_ACTIVITY`; `t_ms`
    int64[n], never decreasing; `xyz` float32[n, 3], m/s² with gravity, in the device's own axes.
    """

    dataset: str
    person: str
    placement: str
    activity: np.ndarray
    t_ms: np.ndarray
    xyz: np.ndarray


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file's recordings, with the digest of the file as it lies and the rows left out, by reason."""

    name: str
    sha256: str
    kind: Kind
    dataset: str
    recordings: tuple[Recording, ...]
    dropped: Mapping[Defect, int]

    @property
    def readings(self) -> int:
        """Readings in all recordings."""
        return sum(len(recording.t_ms) for recording in self.recordings)


def by_number(person: str) -> tuple[int, str]:
    """Sort people as they are counted: 2 before 10."""
    return (int(person) if person.isdecimal() else 0, person)


def read_files(paths: Sequence[Path], console: Console | None = None) -> list[DataFile]:
    """Read each file; raises `DataError` where one is missing, named twice or not understood."""
    files = [read_file(path, console) for path in paths]
    repeated = [digest for digest, times in Counter(file.sha256 for file in files).items() if times > 1]
    if repeated:
        names = ", ".join(file.name for file in files if file.sha256 in repeated)
        raise DataError(f"the same data is given twice ({names}): name each file once")
    return files


def read_file(path: Path, console: Console | None = None) -> DataFile:
    """Read one data file, showing progress on `console` where one is given.

    Raises `DataError` where the file is missing, damaged, over the bounds or in no known form.
    """
    path = Path(path)
    try:
        digest = sha256(path)
        with opened(path, console) as content:
            kind, recordings, dropped = _read_content(content, path)
    except READ_ERRORS as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error
    if not recordings:
        raise DataError(
            f"{path} holds no readings in a known form (WISDM v1.1 raw text, MotionSense archive, or CSV with the "
            f"columns {', '.join(_CSV_COLUMNS)}); rows left out: {_described(dropped)}; texts are scored with "
            f"--dataset, and trained on with `train text`"
        )
    return DataFile(path.name, digest, kind, recordings[0].dataset, tuple(recordings), dict(dropped))


def _described(dropped: Mapping[Defect, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "none"


def _read_content(content: io.BufferedReader, path: Path) -> tuple[Kind, list[Recording], Counter[Defect]]:
    head = content.peek(512)
    dropped: Counter[Defect] = Counter()
    if head[257:262] == b"ustar":
        return "motionsense", list(_read_motionsense(content)), dropped
    form = _csv_form(head.partition(b"\n")[0], path) or _WISDM
    dataset = _wisdm_name(path) if form is _WISDM else path.name.split(".", 1)[0]
    return form.kind, list(_read_text(content, form, dataset, dropped)), dropped


def _wisdm_name(path: Path) -> str:
    # The only copy that many can get is not the original; its name must never pass for it.
    return "WISDM v1.1 (reconstructed)" if "reconstructed" in path.name else "WISDM v1.1"


def _blocks(content: io.BufferedReader) -> Iterator[bytes]:
    """Whole lines, some megabytes at a time."""
    rest = b""
    while data := content.read(BLOCK_BYTES):
        data = rest + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if len(rest) > MAX_LINE_BYTES:
            raise DataError(f"a line is longer than {MAX_LINE_BYTES:,} bytes: not one of the known data files")
        if end:
            yield data[:end]
    if rest:
        yield rest


# --- text: WISDM's raw format, and the CSV of one common form ------------------------------------

_NUMBER = rb"[ \t]*([-+]?(?:\d{1,20}\.?\d{0,20}|\.\d{1,20})(?:[eE][-+]?\d{1,2})?)[ \t]*"
_XYZ = b",".join([_NUMBER] * 3)
_NAME = rb"([^,\r\n]{1,128})"
_TIME = (
    rb"[ \t]*(\d{1,15}(?:\.\d{1,9})?|"
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)[ \t]*"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_CSV_COLUMNS = ("person", "activity", "timestamp", "x", "y", "z")
_CSV_PATTERNS = {"time": _TIME, "x": _NUMBER, "y": _NUMBER, "z": _NUMBER} | dict.fromkeys(
    ("person", "activity", "placement", "recording"), _NAME
)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a text form writes one reading: `row` captures `fields`, of `width` fields of a line."""

    kind: Kind
    row: re.Pattern[bytes]
    fields: tuple[str, ...]
    record_end: bytes
    time_units_per_ms: int
    width: int
    header: bytes | None = None


_WISDM = _Form(
    kind="wisdm",
    row=re.compile(rb"^[ \t]*(\d{1,9}),([A-Za-z]{1,32}),(\d{1,18})," + _XYZ + rb",?[ \t\r]*$", re.MULTILINE),
    fields=("person", "activity", "time", "x", "y", "z"),
    record_end=b";",  # at the end of the line as a rule; between two records on one line now and then
    time_units_per_ms=1_000_000,
    width=6,
)


def _csv_form(header: bytes, path: Path) -> _Form | None:
    """The form that a CSV's header describes; None where the line is no header."""
    written = [name.strip().strip(b'"').lower().decode("utf-8", "replace") for name in header.split(b",")]
    columns = ["time" if name in ("timestamp", "t_ms") else name for name in written]
    if not {"x", "y", "z"} <= set(columns):
        return None
    missing = {"person", "activity", "time"} - set(columns)
    twice = [name for name in _CSV_PATTERNS if columns.count(name) > 1]
    if missing or twice:
        raise DataError(
            f"{path} needs each of the columns {', '.join(_CSV_COLUMNS)} once; its header is {', '.join(written)}"
        )
    return _Form(
        kind="phones",
        row=re.compile(
            rb"^" + b",".join(_CSV_PATTERNS.get(name, rb"[^,\r\n]*") for name in columns) + rb"\r?$", re.MULTILINE
        ),
        fields=tuple(name for name in columns if name in _CSV_PATTERNS),
        record_end=b"\n",
        time_units_per_ms=1,
        width=len(columns),
        header=header.strip(),
    )


_Key = tuple[bytes, ...]
_Columns = tuple[np.ndarray, np.ndarray, np.ndarray]  # activity, time as written, xyz


def _read_text(content: io.BufferedReader, form: _Form, dataset: str, dropped: Counter[Defect]) -> Iterator[Recording]:
    parts: dict[_Key, list[_Columns]] = {}
    for block in _blocks(content):
        text = block.replace(form.record_end, b"\n")
        rows = form.row.findall(text)
        lines = [line for line in text.split(b"\n") if line.strip() and line.strip() != form.header]
        if len(lines) != len(rows):
            dropped.update(_defect(line, form) for line in lines if not form.row.fullmatch(line))
        for key, group in itertools.groupby(rows, _key_of(form)):
            parts.setdefault(key, []).append(_columns(list(group), form))
    for key, tables in parts.items():
        named = dict(zip(_key_fields(form), key, strict=True))
        person, placement = named["person"], named.get("placement", b"pocket")
        activity, time, xyz = (np.concatenate(column) for column in zip(*tables, strict=True))
        for columns in _continuous(activity, time, xyz, form.time_units_per_ms, dropped):
            yield Recording(dataset, _text(person), _text(placement), *columns)


def _text(field: bytes) -> str:
    return field.strip().decode("utf-8", "replace")


def _key_fields(form: _Form) -> tuple[str, ...]:
    return tuple(field for field in form.fields if field in ("person", "placement", "recording"))


def _key_of(form: _Form) -> Callable[[_Key], _Key]:
    """The fields of a row that tell recordings apart."""
    places = [form.fields.index(field) for field in _key_fields(form)]
    return lambda row: tuple(row[place] for place in places)


def _columns(rows: list[_Key], form: _Form) -> _Columns:
    field = dict(zip(form.fields, zip(*rows, strict=True), strict=True))
    return (
        _activity_codes(field["activity"]),
        np.array([int(time) if time.isdigit() else _ms(time) for time in field["time"]], np.int64),
        np.array([list(map(float, field[axis])) for axis in ("x", "y", "z")], np.float32).T,
    )


def _ms(time: bytes) -> int:
    """Milliseconds of a time that isn't a whole number of them; without an offset it is in UTC."""
    text = time.decode()
    if "-" not in text:
        return int(float(text))
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError(f"no such time: {text}") from error
    since = (at if at.tzinfo else at.replace(tzinfo=datetime.UTC)) - _EPOCH
    return since // datetime.timedelta(milliseconds=1)


_CODES = {name: code for code, name in enumerate((*ACTIVITIES, *MIXED_ACTIVITIES))} | {
    "StandingArms": ACTIVITIES.index("Standing")  # umafall: who stands and claps, or raises the arms
}


def _activity_codes(names: Sequence[bytes]) -> np.ndarray:
    codes = {name: _CODES.get(_text(name), OTHER_ACTIVITY) for name in set(names)}
    return np.array([codes[name] for name in names], np.int8)


def may_be() -> np.ndarray:
    """Which of `ACTIVITIES` each code may be: bool[codes, 6]."""
    return np.array(
        [
            *np.eye(len(ACTIVITIES), dtype=bool),
            *([name in meant for name in ACTIVITIES] for meant in MIXED_ACTIVITIES.values()),
        ]
    )


def _defect(line: bytes, form: _Form) -> Defect:
    values = [field.strip() for field in line.split(b",")]
    if len(values) == form.width + 1 and not values[-1]:
        values.pop()  # a comma too many before the semicolon
    if len(values) == form.width - 1 or (len(values) == form.width and b"" in values):
        return Defect.MISSING_VALUE
    return Defect.MALFORMED_FIELD if len(values) == form.width else Defect.WRONG_NUMBER_OF_FIELDS


def _continuous(
    activity: np.ndarray, time: np.ndarray, xyz: np.ndarray, units_per_ms: int, dropped: Counter[Defect]
) -> Iterator[_Columns]:
    """Sound rows, once each, in order of time; parted where the clock steps back."""
    sound = _sound(time, xyz, units_per_ms, dropped)
    activity, time, xyz = activity[sound], time[sound], xyz[sound]
    t_ms = time // units_per_ms
    bounds = [0, *(np.flatnonzero(np.diff(t_ms) < -STEP_BACK_MS) + 1).tolist(), len(t_ms)]
    for start, stop in itertools.pairwise(bounds):
        order = start + np.argsort(time[start:stop], kind="stable")
        fresh = ~_repeats_the_row_above(activity[order], time[order], xyz[order])
        _count(dropped, Defect.DUPLICATE, ~fresh)
        order = order[fresh]
        if len(order):
            yield activity[order], t_ms[order], xyz[order]


def _sound(time: np.ndarray, xyz: np.ndarray, units_per_ms: int, dropped: Counter[Defect]) -> np.ndarray:
    """Bool[n]: rows with a time and with values that an accelerometer can have."""
    # A clock of nanoseconds since boot is never 0; one that counts milliseconds of a recording starts there.
    timeless = (time == 0) & (units_per_ms > 1)
    wild = ~timeless & (np.abs(xyz) > MAX_ABS_VALUE).any(axis=1)
    _count(dropped, Defect.ZERO_TIMESTAMP, timeless)
    _count(dropped, Defect.OUT_OF_RANGE, wild)
    return np.asarray(~(timeless | wild))


def _count(dropped: Counter[Defect], reason: Defect, rows: np.ndarray) -> None:
    if rows.any():
        dropped[reason] += int(rows.sum())


def _repeats_the_row_above(activity: np.ndarray, time: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    repeats = np.zeros(len(time), bool)
    repeats[1:] = (np.diff(activity) == 0) & (np.diff(time) == 0) & (xyz[1:] == xyz[:-1]).all(axis=1)
    return repeats


# --- MotionSense: a tar of CSV files -------------------------------------------------------------

_TRIALS = {
    "dws": "Downstairs",
    "jog": "Jogging",
    "sit": "Sitting",
    "std": "Standing",
    "ups": "Upstairs",
    "wlk": "Walking",
}
_MEMBER = re.compile(r"(?:^|/)(dws|jog|sit|std|ups|wlk)_\d{1,3}/sub_(\d{1,3})\.csv$")
_G_COLUMNS = tuple(f"{kind}.{axis}" for kind in ("gravity", "userAcceleration") for axis in "xyz")
_MOTIONSENSE_PERIOD_MS = 20


def _read_motionsense(content: io.BufferedReader) -> Iterator[Recording]:
    with tarfile.open(fileobj=content, mode="r|") as archive:
        for count, member in enumerate(archive):
            if count >= MAX_MEMBERS:
                raise DataError(f"the archive has more than {MAX_MEMBERS:,} members: not MotionSense")
            found = _MEMBER.search(member.name)
            if not found or not member.isfile():
                continue
            if member.size > MAX_MEMBER_BYTES:
                raise DataError(f"{member.name} is {member.size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read")
            file = archive.extractfile(member)
            assert file is not None  # a regular file always has one
            xyz = _motionsense_xyz(file.read(), member.name)
            activity = np.full(len(xyz), ACTIVITIES.index(_TRIALS[found[1]]), np.int8)
            t_ms = np.arange(len(xyz), dtype=np.int64) * _MOTIONSENSE_PERIOD_MS
            yield Recording("MotionSense", found[2], "pocket", activity, t_ms, xyz)


def _motionsense_xyz(text: bytes, name: str) -> np.ndarray:
    """float32[n, 3], m/s²: the phone gives gravity and the wearer's own acceleration apart, in g."""
    header, _, rows = text.partition(b"\n")
    columns = [column.strip().strip('"') for column in header.decode("utf-8", "replace").split(",")]
    missing = [column for column in _G_COLUMNS if column not in columns]
    if missing:
        raise DataError(f"{name} lacks the columns {', '.join(missing)}: not a MotionSense DeviceMotion file")
    used = [columns.index(column) for column in _G_COLUMNS]
    try:
        g = np.loadtxt(io.BytesIO(rows), delimiter=",", usecols=used, ndmin=2, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    xyz = (g[:, :3] + g[:, 3:]) * STANDARD_GRAVITY
    if not (np.abs(xyz) <= MAX_ABS_VALUE).all():  # nor is a NaN
        raise DataError(f"{name} holds a value that no accelerometer measures")
    return np.asarray(xyz, np.float32)
