"""The MotionSense archive of CSV files, a zip as published or a tar, read in place: nothing is unpacked."""

import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np

from training.data.files import MAX_CONTENT_BYTES, DataError
from training.data.recording_text import Tally
from training.data.recordings import MAX_ABS_VALUE, OTHER_ACTIVITY, STANDARD_GRAVITY, Labels, Recording

ZIP = b"PK\3\4"
MAX_MEMBER_BYTES = 64 << 20
MAX_MEMBERS = 10_000

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


_Member = tuple[str, int, Callable[[], bytes]]
"""A file's name, its size in bytes, and the function that reads it."""


def read_zip(path: Path, labels: Labels, tally: Tally) -> Iterator[Recording]:
    """Yield the recordings of a zip; raises `DataError` for a damaged one, or one over the bounds."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(each.file_size for each in members) > MAX_CONTENT_BYTES:
                raise DataError(f"the content is larger than {MAX_CONTENT_BYTES:,} bytes once decompressed")
            files = ((each.filename, each.file_size, _reader(archive, each)) for each in members)
            yield from _recordings(files, labels, tally)
    except (zipfile.BadZipFile, RuntimeError) as error:  # damaged; a password, or a compression that it doesn't know
        raise DataError(f"cannot read {path}: {error}") from error


def _reader(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    return lambda: archive.read(member)  # never more than its size says


def read_tar(content: io.BufferedReader, labels: Labels, tally: Tally) -> Iterator[Recording]:
    """Yield the recordings of a tar; raises `DataError` if it is not MotionSense, or over the bounds."""
    with tarfile.open(fileobj=content, mode="r|") as archive:
        # A regular file always has content.
        members = (
            (each.name, each.size, cast(io.BufferedReader, archive.extractfile(each)).read)
            for each in archive
            if each.isfile()
        )
        yield from _recordings(members, labels, tally)


def _recordings(members: Iterator[_Member], labels: Labels, tally: Tally) -> Iterator[Recording]:
    for count, (name, size, read) in enumerate(members):
        if count >= MAX_MEMBERS:
            raise DataError(f"the archive has more than {MAX_MEMBERS:,} members: not MotionSense")
        found = _MEMBER.search(name)
        if not found:
            continue
        if size > MAX_MEMBER_BYTES:
            raise DataError(f"{name} is {size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read")
        xyz = _motionsense_xyz(read(), name)
        code = labels.code(_TRIALS[found[1]])
        if code == OTHER_ACTIVITY:
            tally.others[_TRIALS[found[1]]] += len(xyz)
        t_ms = np.arange(len(xyz), dtype=np.int64) * _MOTIONSENSE_PERIOD_MS
        yield Recording("MotionSense", found[2], "pocket", np.full(len(xyz), code, np.int8), t_ms, xyz)


def _motionsense_xyz(text: bytes, name: str) -> np.ndarray:
    """Return float32[n, 3], m/s²: the file has gravity and the user's acceleration in separate columns, in g."""
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
