"""Windows that a worker kept in Parquet files (`service.pipeline.kept_files`) and a person labelled, as recordings.

Read are the columns ``device_id``, ``window_start``, ``frame`` (80 readings of x, y and z, m/s²) and ``activity``, and
``placement`` if present. The labelling program may have rewritten the file with wider types. Each window becomes a
recording of its own, of the person named like the device. Its clock is moved forward by less than 2 s, to where
`training.data.frames` will cut, so that training sees exactly the frame that was served.

Files are untrusted: their size, rows and cell contents are bounded before they are laid out in memory, and only plain
types are read.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from training.data.files import DataError
from training.data.frames import person_id
from training.data.recording_text import Tally
from training.data.recordings import MAX_ABS_VALUE, OTHER_ACTIVITY, Defect, Labels, Recording
from windowing import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS
from windowing.grid import phase

PARQUET = b"PAR1"
MAX_FILE_BYTES = 2 << 30
MAX_WINDOWS = 1_000_000
MAX_FOOTER_BYTES = 64 << 20
ROWS_AT_ONCE = 4096
VALUES = 3 * WINDOW_SLOTS

REQUIRED = ("device_id", "window_start", "frame", "activity")
OPTIONAL = ("placement",)
TEXTS = ("device_id", "activity", "placement")
MAX_TEXT_BYTES = 1024
MAX_START_MS = 2**53 - 10_000  # the contract's, with room for a window
MANY = 20


# The activity's code, and the file, of each device's window.
Windows = dict[tuple[str, int], tuple[int, str]]


def read_kept(
    content: io.BufferedReader, name: str, dataset: str, labels: Labels, tally: Tally, windows: Windows
) -> list[Recording]:
    """Return the labelled windows of a Parquet file that are not yet in `windows`, and add them to it.

    `windows` is shared by all files. Raises `DataError` for a file that is not of kept windows, has no label, or
    contradicts another label of a window.
    """
    try:
        import pyarrow as pa  # here and below: an optional dependency
    except ImportError:
        raise DataError(
            f"{name} is Parquet, which takes pyarrow to read: pip install '.[parquet]' in the checkout"
        ) from None
    data = content.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{name} is larger than {MAX_FILE_BYTES >> 30} GiB: split it")
    try:
        recordings = list(_recordings(data, name, dataset, labels, tally, windows))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {name} as Parquet: {error}") from error
    if recordings or tally.dropped[Defect.OUT_OF_RANGE]:  # of those without any the caller says what became of all rows
        return recordings
    if tally.dropped[Defect.DUPLICATE]:
        raise DataError(f"all windows in {name} that have an activity are in other files: leave it out")
    if tally.dropped[Defect.NOT_LABELLED]:
        raise DataError(
            f"none of the {tally.dropped[Defect.NOT_LABELLED]:,} windows in {name} has an activity: fill in that column"
        )
    return recordings


def _recordings(
    data: bytes, name: str, dataset: str, labels: Labels, tally: Tally, windows: Windows
) -> Iterator[Recording]:
    """Yield a recording of each labelled window, in file order; of duplicates, the first."""
    for rows in _labelled(data, name, tally):
        columns = [rows[column].to_pylist() for column in ("device_id", "window_start", "activity", "placement")]
        for xyz, device, start_ms, activity, placement in zip(_frames(rows, name), *columns, strict=True):
            if not device or start_ms is None or abs(start_ms) > MAX_START_MS:
                raise DataError(f"{name} has a window without a device_id, or whose window_start is no time")
            code = labels.code(activity)
            if (before := windows.get((device, start_ms))) is not None:
                if code != before[0]:
                    which = "two activities" if before[1] == name else f"another activity than {before[1]}"
                    raise DataError(f"{name} gives the window of {device!r} at {start_ms} {which}: which is it?")
                tally.dropped[Defect.DUPLICATE] += 1
                continue
            if (np.abs(xyz) > MAX_ABS_VALUE).any():
                tally.dropped[Defect.OUT_OF_RANGE] += 1
            else:
                windows[device, start_ms] = code, name
                if code == OTHER_ACTIVITY:
                    tally.others[activity] += WINDOW_SLOTS
                yield _recording(dataset, device, start_ms, placement or "pocket", code, xyz)


def _recording(dataset: str, person: str, start_ms: int, placement: str, code: int, xyz: np.ndarray) -> Recording:
    slot = start_ms // SLOT_MS
    slot += (phase(person_id(dataset, person)) - slot) % STRIDE_SLOTS  # where this person's windows start
    t_ms = SLOT_MS * (slot + np.arange(WINDOW_SLOTS))
    return Recording(dataset, person, placement, np.full(WINDOW_SLOTS, code, np.int8), t_ms, xyz)


def _labelled(data: bytes, name: str, tally: Tally) -> Iterator[dict[str, Any]]:
    """Yield the columns of the rows that have an activity, a few thousand rows at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    bounds = {"thrift_string_size_limit": MAX_FOOTER_BYTES, "thrift_container_size_limit": MAX_FOOTER_BYTES}
    columns = _columns(pq.ParquetFile(pa.BufferReader(data), **bounds).schema_arrow, name)
    texts = [column for column in columns if column in TEXTS]
    # As dictionaries, so that a text that is repeated is unpacked once.
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts, **bounds)
    if file.metadata.num_rows > MAX_WINDOWS:
        raise DataError(f"{name} has more than {MAX_WINDOWS:,} windows: split it")
    if _values_of_frames(file) != VALUES * file.metadata.num_rows:  # one row might say that it holds a billion
        raise _wrong_length(name)
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False):
        batch.validate(full=True)  # UTF-8, and lists that lie within what there is
        rows = {column: _texts(batch[column], name) for column in texts}
        rows |= {"window_start": batch["window_start"].cast(pa.int64()), "frame": batch["frame"]}
        rows["activity"] = pc.utf8_trim_whitespace(rows["activity"])
        rows.setdefault("placement", pa.nulls(len(batch), pa.string()))
        labelled = pc.fill_null(pc.not_equal(rows["activity"], ""), False)
        left_out = len(batch) - pc.sum(labelled, min_count=0).as_py()
        if left_out:
            tally.dropped[Defect.NOT_LABELLED] += left_out
        yield {column: values.filter(labelled) for column, values in rows.items()}


def _values_of_frames(file: Any) -> int:
    """Return how many values all frames hold, by the file's metadata."""
    # A damaged file raises an exception here; reading the metadata below, it would crash the process.
    file.scan_contents(["frame"])
    paths = [file.schema.column(place).path for place in range(len(file.schema))]
    places = [place for place, path in enumerate(paths) if path.partition(".")[0] == "frame"]
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    return sum(group.column(place).num_values for group in groups for place in places)


def _texts(column: Any, name: str) -> Any:
    """Return a column as plain texts; raises `DataError` if one is too long."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
        if longest > MAX_TEXT_BYTES:
            raise DataError(f"{name} has a text of {longest:,} bytes, where {MAX_TEXT_BYTES} are the most")
    return column.cast(pa.string())


def _frames(rows: dict[str, Any], name: str) -> np.ndarray:
    """Return float32[n, 80, 3], all finite."""
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
    """Return the columns to read; raises `DataError` for a missing column or a wrong type."""
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


def _wrong_length(name: str) -> DataError:
    return DataError(f"{name} has frames of other than {VALUES} values: {WINDOW_SLOTS} readings of x, y and z")
