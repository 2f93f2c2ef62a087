"""Data files of phone accelerometers, read into recordings.

Four forms are known, each recognised by its content, plain or compressed (gzip, bzip2, xz):

- ``WISDM_ar_v1.1_raw.txt`` of WISDM Activity Prediction v1.1 (Kwapisz, Weiss, Moore, SensorKDD 2010), with
  the defects that its users report: see `Defect`.
- the MotionSense archive ``A_DeviceMotion_data`` (Malekzadeh et al., IoTDI 2019), a zip as published, or a tar;
  it is read in place, and nothing is unpacked to disk.
- CSV with a header that names the columns ``person``, ``activity``, ``timestamp`` or ``t_ms``, ``x``, ``y`` and ``z``,
  in any order, and optionally ``placement`` and ``recording``; others are ignored. Axes are in m/s², gravity
  included; a time is in milliseconds, or ISO 8601.
- Parquet of windows that a worker kept and a person labelled: see `training.data.kept_windows`.

Data files are untrusted: no path in an archive is ever written to, and the decompressed size, the number of an
archive's members and the length of a line are bounded. A file that cannot be read raises `DataError`.
"""

import dataclasses
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from training.data.files import READ_ERRORS, DataError, opened, reason, sha256
from training.data.held_out import HELD_OUT
from training.data.kept_windows import PARQUET, Windows, read_kept
from training.data.label_check import labels_to_learn
from training.data.motionsense import ZIP, read_tar, read_zip
from training.data.recording_text import CSV_COLUMNS, WISDM, Tally, csv_form, lacking_columns, read_text
from training.data.recordings import (
    DEFAULT_LABELS,
    STANDARD_GRAVITY,
    DataFile,
    Defect,
    Kind,
    Labels,
    Recording,
    natural_order,
)
from training.data.repeats import without_repeats
from training.data.sampling import warnings_of_sampling
from training.wording.phrases import some_of
from training.wording.warnings import show_warnings

MANY = 10
MAX_HEADER = 300  # characters of it in a message
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
OLD_SPREADSHEET = b"\xd0\xcf\x11\xe0"
SPREADSHEET_MEMBERS = (b"[Content_Types].xml", b"xl/", b"opendocument.spreadsheet")  # near the start of its zip


class NoReadings(DataError):
    """A file of something else than readings."""


def read_files(
    paths: Sequence[Path], console: Console | None = None, labels: Labels = DEFAULT_LABELS
) -> list[DataFile]:
    """Read each file with `labels`; print on `console` the `warnings_of_files`.

    Names of people that differ in capitals alone are one person's, who has one spelling in all files then.

    Readings that are there twice count once (`without_repeats`).

    Raises `DataError` for a file that is missing, given twice, in no known form, or without any of the activities.
    """
    windows: Windows = {}  # shared by all files: a window kept in two of them must count once
    try:
        files = [read_file(path, console, labels, windows) for path in paths]
    except NoReadings as error:
        raise NoReadings(f"{error}; texts are scored with --dataset, and trained on with `train text`") from error
    for file in files:
        if all((recording.activity < 0).all() for recording in file.recordings):
            raise DataError(
                f"{file.name} has none of the activities {', '.join(labels.names)}: it says "
                f"{some_of(list(file.others))}; to learn all that the data show, `train activity` takes "
                f"{labels_to_learn(files)}"
            )
    repeated = [digest for digest, times in Counter(file.sha256 for file in files).items() if times > 1]
    if repeated:
        names = ", ".join(file.name for file in files if file.sha256 in repeated)
        raise DataError(f"the same data is given twice ({names}): name each file once")
    for dataset, times in Counter(file.dataset for file in files).items():
        if times > 1:
            raise DataError(
                f"{times} files are called {dataset}: a file's name is its data set's, so rename the others"
            )
    files = without_repeats(_with_one_spelling(files))
    show_warnings(warnings_of_files(files), console)
    return files


def warnings_of_files(files: Sequence[DataFile]) -> list[str]:
    """Return what to say of the files before anybody believes what was learned from them, or scored on them."""
    return [line for file in files for line in (*_warnings_of(file), *warnings_of_sampling(file))]


def _with_one_spelling(files: Sequence[DataFile]) -> list[DataFile]:
    """Return the files with one spelling of each person's name: two of them would be two people, of different parts.

    It is the first one, but that of a public set goes first: its lists of people know no other.
    """
    shown: dict[str, str] = {}
    for file in sorted(files, key=lambda file: file.dataset not in HELD_OUT):
        for recording in file.recordings:
            shown.setdefault(recording.person.casefold(), recording.person)

    def spelt(recording: Recording) -> Recording:
        person = shown[recording.person.casefold()]
        return recording if person == recording.person else dataclasses.replace(recording, person=person)

    return [dataclasses.replace(file, recordings=tuple(map(spelt, file.recordings))) for file in files]


def read_file(
    path: Path, console: Console | None = None, labels: Labels = DEFAULT_LABELS, windows: Windows | None = None
) -> DataFile:
    """Read one data file with `labels`, showing progress on `console` if given.

    Kept windows that are already in `windows` are dropped; the others are added to it. Raises `DataError` where the
    file is missing, damaged, over the bounds or in no known form.
    """
    path = Path(path)
    try:
        digest = sha256(path)
        with opened(path, console) as content:
            tally = Tally()
            head = content.peek(4096)[:4096]
            kind, recordings = _read_content(content, path, labels, tally, {} if windows is None else windows)
    except READ_ERRORS as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error
    if not recordings:
        raise NoReadings(_why_no_readings(path, head, tally))
    return DataFile(
        path.name,
        digest,
        kind,
        recordings[0].dataset,
        tuple(recordings),
        dict(tally.dropped),
        dict(tally.others),
        labels,
        "".join(tally.first_refused),
    )


def _why_no_readings(path: Path, head: bytes, tally: Tally) -> str:
    header = head.partition(b"\n")[0]
    if not head.strip():
        return f"{path} is empty"
    if lacks := lacking_columns(header):
        return (
            f"{path} lacks {lacks}: a CSV needs each of the columns {', '.join(CSV_COLUMNS)} once; its header is "
            f"{header.strip().decode('utf-8', 'replace')[:MAX_HEADER]}"
        )
    return (
        f"{path} holds no readings in a known form (WISDM v1.1 raw text, MotionSense archive, CSV with the "
        f"columns {', '.join(CSV_COLUMNS)}, or a worker's kept windows); rows left out: "
        f"{_described(tally.dropped, *tally.first_refused)}"
    )


def _described(counts: Mapping[Defect, int], first_refused: str = "") -> str:
    first = f" (the first: {first_refused})" if first_refused else ""
    return (", ".join(f"{count:,} {what}" for what, count in counts.items()) or "none") + first


def _warnings_of(file: DataFile) -> list[str]:
    lines = []
    if file.dropped:
        lines.append(f"{file.name}: rows left out: {_described(file.dropped, file.first_refused)}")
    middle = _middle_lengths(file)
    if short := [person for person, length in middle.items() if length < STANDARD_GRAVITY / 2]:
        whose = "its readings" if len(short) == len(middle) else f"the readings of {some_of(short)}"
        lines.append(
            f"{file.name}: half of {whose} are shorter than {max(middle[person] for person in short):.2f} m/s², where "
            "gravity alone makes 9.81: axes have to be in m/s², not in g, and with gravity"
        )
    if file.others:
        some = ", ".join(f"{count:,} of {label!r}" for label, count in Counter(file.others).most_common(MANY))
        lines.append(f"{file.name}: readings of no activity that is learned: {some}")
    return lines


def _middle_lengths(file: DataFile) -> dict[str, float]:
    """Return the median length of each person's readings, m/s²: people bring devices of their own."""
    lengths: dict[str, list[np.ndarray]] = {}
    for recording in file.recordings:
        lengths.setdefault(recording.person, []).append(np.linalg.norm(recording.xyz, axis=1))
    return {who: float(np.median(np.concatenate(lengths[who]))) for who in sorted(lengths, key=natural_order)}


def _read_content(
    content: io.BufferedReader, path: Path, labels: Labels, tally: Tally, windows: Windows
) -> tuple[Kind, list[Recording]]:
    head = content.peek(4096)
    if head.startswith(UTF_16):
        raise DataError(f"{path} is UTF-16: write it as UTF-8, such as by iconv -f utf-16 -t utf-8 {path.name}")
    if head.startswith(OLD_SPREADSHEET) or (
        head.startswith(ZIP) and any(member in head[:4096] for member in SPREADSHEET_MEMBERS)
    ):
        raise DataError(f"{path} is a spreadsheet, such as .xlsx: save it as CSV, its columns parted by commas")
    if head.startswith(PARQUET):
        return "kept", read_kept(content, path.name, path.name.split(".", 1)[0], labels, tally, windows)
    if head.startswith(ZIP):
        return "motionsense", list(read_zip(path, labels, tally))
    if head[257:262] == b"ustar":
        return "motionsense", list(read_tar(content, labels, tally))
    form = csv_form(head.partition(b"\n")[0], path) or WISDM
    dataset = _wisdm_name(path) if form is WISDM else path.name.split(".", 1)[0]
    return form.kind, list(read_text(content, form, path, dataset, labels, tally))


def _wisdm_name(path: Path) -> str:
    # The only copy that many can get is a reconstruction; it must never pass for the original.
    return "WISDM v1.1 (reconstructed)" if "reconstructed" in path.name else "WISDM v1.1"
