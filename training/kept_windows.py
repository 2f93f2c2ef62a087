"""Windows that a worker kept in Parquet files (`service.kept_files`), labelled by a person, as recordings.

Of a file are read the columns ``device_id``, ``window_start``, ``frame`` (80 readings of x, y and z, m/s²) and
``activity``, and ``placement`` where there is one; a program that a person labels with may have written it anew, with
wider types. A window becomes a recording of its own, of the person who is named like the device, with a clock that
starts where `training.frames` will cut: what is learned is the frame as it was served, bit by bit.

Files are untrusted: their size, the number of their rows and what they hold are bounded before anything is
decompressed, and only plain types are read.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from training.files import MAX_CONTENT_BYTES, DataError
from training.frames import person_id
from training.recording_text import Tally, activity_code
from training.recordings import MAX_ABS_VALUE, OTHER_ACTIVITY, Defect, Recording
from windowing import SLOT_MS, WINDOW_SLOTS
from windowing.grid import phase

PARQUET = b"PAR1"
MAX_FILE_BYTES = 2 << 30
MAX_WINDOWS = 1_000_000
MAX_FOOTER_BYTES = 64 << 20
ROWS_AT_ONCE = 4096
VALUES = 3 * WINDOW_SLOTS

REQUIRED = ("device_id", "window_start", "frame", "activity")
OPTIONAL = ("placement",)
MANY = 20


def read_kept(content: io.BufferedReader, name: str, dataset: str, tally: Tally) -> list[Recording]:
    """The labelled windows of a Parquet file; raises `DataError` where it is none of kept windows, or has no label."""
    try:
        import pyarrow as pa  # here and below, for it is an optional part
    except ImportError:
        raise DataError(f"{name} is Parquet, which takes pyarrow to read: pip install 'stridecast[parquet]'") from None
    data = content.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{name} is larger than {MAX_FILE_BYTES >> 30} GiB: split it")
    try:
        recordings = list(_recordings(data, name, dataset, tally))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {name} as Parquet: {error}") from error
    if not recordings:
        raise DataError(
            f"none of the {tally.dropped[Defect.NOT_LABELLED]:,} windows in {name} has an activity: fill in that column"
        )
    return recordings


def _recordings(data: bytes, name: str, dataset: str, tally: Tally) -> Iterator[Recording]:
    """A recording of each labelled window, in the order of the file; of one that is there twice, the first."""
    codes: dict[tuple[str, int], int] = {}
    for rows in _labelled(data, name, tally):
        columns = [rows[column].to_pylist() for column in ("device_id", "window_start", "activity", "placement")]
        for xyz, device, start_ms, activity, placement in zip(_frames(rows, name), *columns, strict=True):
            if not device or start_ms is None:
                raise DataError(f"{name} has a window without a device_id or a window_start")
            code = activity_code(activity)
            before = codes.get((device, start_ms))
            if before not in (None, code):
                raise DataError(f"{name} gives the window of {device!r} at {start_ms} two activities: which is it?")
            codes[device, start_ms] = code
            if before is not None:
                tally.dropped[Defect.DUPLICATE] += 1
            elif (np.abs(xyz) > MAX_ABS_VALUE).any():
                tally.dropped[Defect.OUT_OF_RANGE] += 1
            else:
                if code == OTHER_ACTIVITY:
                    tally.others[activity] += WINDOW_SLOTS
                yield _recording(dataset, device, placement or "pocket", code, xyz)


def _recording(dataset: str, person: str, placement: str, code: int, xyz: np.ndarray) -> Recording:
    slots = phase(person_id(dataset, person)) + np.arange(WINDOW_SLOTS)
    return Recording(dataset, person, placement, np.full(WINDOW_SLOTS, code, np.int8), SLOT_MS * slots, xyz)


def _labelled(data: bytes, name: str, tally: Tally) -> Iterator[dict[str, Any]]:
    """The columns of rows that have an activity, some thousand rows at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file = pq.ParquetFile(
        pa.BufferReader(data),
        thrift_string_size_limit=MAX_FOOTER_BYTES,
        thrift_container_size_limit=MAX_FOOTER_BYTES,
    )
    columns = _columns(file.schema_arrow, name)
    _refuse_the_too_large(file.metadata, columns, name)
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False):
        batch.validate(full=True)  # UTF-8, and lists that lie within what there is
        activity = pc.utf8_trim_whitespace(batch["activity"].cast(pa.string()))
        labelled = pc.fill_null(pc.not_equal(activity, ""), False)
        rows = batch.filter(labelled)
        if len(rows) < len(batch):
            tally.dropped[Defect.NOT_LABELLED] += len(batch) - len(rows)
        placement = rows["placement"] if "placement" in columns else pa.nulls(len(rows))
        yield {
            "device_id": rows["device_id"].cast(pa.string()),
            "window_start": rows["window_start"].cast(pa.int64()),
            "frame": rows["frame"],
            "activity": activity.filter(labelled),
            "placement": placement.cast(pa.string()),
        }


def _frames(rows: dict[str, Any], name: str) -> np.ndarray:
    """float32[n, 80, 3], all finite."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.list_value_length(rows["frame"])
    values = pc.list_flatten(rows["frame"])
    if lengths.null_count or not pc.all(pc.equal(lengths, VALUES), min_count=0).as_py():
        raise _wrong_length(name)
    frames = values.cast(pa.float32()).to_numpy(zero_copy_only=False).reshape(-1, WINDOW_SLOTS, 3)
    if not np.isfinite(frames).all():
        raise DataError(f"{name} has a frame that holds nothing at some place, or a value that isn't finite")
    return np.asarray(frames)


def _columns(schema: Any, name: str) -> list[str]:
    """The columns to read; raises `DataError` where one is missing, or of another type than can be meant."""
    columns = [column for column in (*REQUIRED, *OPTIONAL) if column in schema.names]
    if not set(REQUIRED) <= set(columns) or any(schema.names.count(column) > 1 for column in columns):
        raise DataError(
            f"{name} needs each of the columns {', '.join(REQUIRED)} once, as a worker's kept windows have them; it "
            f"has {', '.join(schema.names[:MANY])}"
        )
    for column in columns:
        found = schema.field(column).type
        if not _is_fit(column, found):
            raise DataError(f"{name}: the column {column} can't be {str(found)[:100]}")
    return columns


def _is_fit(column: str, found: Any) -> bool:
    from pyarrow import types

    if column == "window_start":
        return bool(types.is_integer(found))
    if column == "frame":
        is_list = types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found)
        return bool(is_list and (types.is_float32(found.value_type) or types.is_float64(found.value_type)))
    plain = found.value_type if types.is_dictionary(found) else found
    return any(test(plain) for test in (types.is_string, types.is_large_string, types.is_string_view, types.is_null))


def _refuse_the_too_large(metadata: Any, columns: list[str], name: str) -> None:
    """Raise `DataError` for more than is to be unpacked, by what the file says before anything is."""
    if metadata.num_rows > MAX_WINDOWS:
        raise DataError(f"{name} has more than {MAX_WINDOWS:,} windows: split it")
    size = values = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            column = chunk.path_in_schema.partition(".")[0]
            size += chunk.total_uncompressed_size if column in columns else 0
            values += chunk.num_values if column == "frame" else 0
    if size > MAX_CONTENT_BYTES:
        raise DataError(f"{name} is larger than {MAX_CONTENT_BYTES:,} bytes once decompressed: split it")
    if values != VALUES * metadata.num_rows:  # so that one row can't hold a billion
        raise _wrong_length(name)


def _wrong_length(name: str) -> DataError:
    return DataError(f"{name} has frames of other than {VALUES} values: {WINDOW_SLOTS} readings of x, y and z")
