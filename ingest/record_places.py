"""The compiled loop that finds the records of a batch: where in its bytes each one's parts lie.

It reads message format v2 after decompression (Kafka's protocol guide, "Record"): varints, then bytes. It goes as far
as it is sure, and is sure only of records that lie within the buffer whole and are as long as they say; so nothing
that it reports lies outside. What to make of the rest is for others to say.

Numba's cache knows that a function is out of date by its own file alone: whatever is compiled stays in this one.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from ingest.compiled import entry, first_call, part

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

# The rows of what `find_records` fills; a null key or value begins at -1, and headers begin where the value ends.
COLUMNS: Final = 7
KEY, KEY_END, VALUE, VALUE_END, END, TIMESTAMP, OFFSET = range(COLUMNS)

# Within it, no sum of a base and a delta overflows: nine bytes of a varint hold less than 2**62 either way.
FURTHEST: Final = 2**62
_VARINT_BITS: Final = 63
_UNSURE: Final = -1


@part
def _varint(raw: Bytes, at: int) -> tuple[int, int]:
    """Return a zigzag varint and where it ends; `_UNSURE` for the latter where it has no end, or ten bytes."""
    value = np.int64(0)
    shift = 0
    while shift < _VARINT_BITS and at < len(raw):
        byte = np.int64(raw[at])
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return int((value >> 1) ^ -(value & 1)), at
        shift += 7
    return 0, _UNSURE


@part
def _field(raw: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return where the bytes of a nullable field begin, -1 for null, and where they end; or `_UNSURE` for the end."""
    size, at = _varint(raw, at)
    if at < 0 or size > end - at:
        return 0, _UNSURE
    if size < 0:
        return -1, at
    return at, at + size


@part
def _headers_end(raw: Bytes, at: int, end: int) -> int:
    """Return where the headers end whose number is at `at`, or `_UNSURE`."""
    count, at = _varint(raw, at)
    if at < 0 or count < 0:
        return _UNSURE
    for _ in range(count):  # each takes two bytes at least, so a wild number meets the end soon
        name, at = _field(raw, at, end)
        if at < 0 or name < 0:
            return _UNSURE
        _, at = _field(raw, at, end)
        if at < 0:
            return _UNSURE
    return at


@entry
def find_records(
    raw: Bytes, at: int, base_offset: int, base_timestamp: int, timestamp_step: int, places: Int64s
) -> tuple[int, int, int]:
    """Find the records that begin at `at`, as many as `places` has room for or as it is sure of.

    Args:
        raw: uint8[m], the decompressed records of a batch; read-only.
        at: where the next record begins.
        base_offset: the batch's first offset.
        base_timestamp: what timestamps count from, epoch ms.
        timestamp_step: 1, or 0 where all records have `base_timestamp` (LogAppendTime).
        places: int64[COLUMNS, n], to be filled.

    Returns:
        how many records were found, where the next one begins, and the sum of their sizes as kafka-python counts them

    """
    found, sizes = 0, 0
    if not (-FURTHEST <= base_offset <= FURTHEST and -FURTHEST <= base_timestamp <= FURTHEST):
        return found, at, sizes
    while found < places.shape[1]:
        size, start = _varint(raw, at)
        if start < 0 or size < 0 or size > len(raw) - start:
            break
        end = start + size
        _, after = _varint(raw, start)  # the attributes, which mean nothing; kafka-python takes them for a varint
        if after < 0:
            break
        timestamp, after = _varint(raw, after)
        if after < 0:
            break
        offset, after = _varint(raw, after)
        if after < 0:
            break
        key, key_end = _field(raw, after, end)
        if key_end < 0:
            break
        value, value_end = _field(raw, key_end, end)
        if value_end < 0 or _headers_end(raw, value_end, end) != end:
            break
        places[KEY, found] = key
        places[KEY_END, found] = key_end
        places[VALUE, found] = value
        places[VALUE_END, found] = value_end
        places[END, found] = end
        places[TIMESTAMP, found] = base_timestamp + timestamp_step * timestamp
        places[OFFSET, found] = base_offset + offset
        sizes += size
        found += 1
        at = end
    return found, at, sizes


def warm_up() -> None:
    """Compile the loop, or load it from its cache, so that the first record needn't wait for it."""
    first_call(lambda: find_records(np.frombuffer(b"", np.uint8), 0, 0, 0, 1, np.empty((COLUMNS, 1), np.int64)))
