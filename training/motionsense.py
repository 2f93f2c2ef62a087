"""The MotionSense archive, a tar of CSV files, read where it lies: nothing is unpacked to disk."""

import io
import re
import tarfile
from collections.abc import Iterator

import numpy as np

from training.files import DataError
from training.recording_text import Tally
from training.recordings import MAX_ABS_VALUE, OTHER_ACTIVITY, STANDARD_GRAVITY, Labels, Recording

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


def read_motionsense(content: io.BufferedReader, labels: Labels, tally: Tally) -> Iterator[Recording]:
    """Yield the archive's recordings; raises `DataError` where it is none, or over the bounds."""
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
            code = labels.code(_TRIALS[found[1]])
            if code == OTHER_ACTIVITY:
                tally.others[_TRIALS[found[1]]] += len(xyz)
            t_ms = np.arange(len(xyz), dtype=np.int64) * _MOTIONSENSE_PERIOD_MS
            yield Recording("MotionSense", found[2], "pocket", np.full(len(xyz), code, np.int8), t_ms, xyz)


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
