"""Compiled loops that find records in one or many batches of format v2: the place of each part in the bytes.

They read the "RecordBatch" and "Record" of Kafka's protocol guide: a header of 61 bytes, then varints and bytes. They
stop where they are not sure, and are sure only of records that lie whole within the buffer and have their stated
length. So no place that they report lies outside. The caller handles the rest.

Numba's cache notices changes only in a function's own file, so all compiled functions stay in this one.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from ingest.compiled import entry, first_call, part

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

# The rows of `places`. A null key or value begins at -1; headers begin where the value ends.
COLUMNS: Final = 7
KEY, KEY_END, VALUE, VALUE_END, END, TIMESTAMP, OFFSET = range(COLUMNS)

# Within it, no sum of a base and a delta overflows: nine bytes of a varint hold less than 2**62 either way.
FURTHEST: Final = 2**62
_VARINT_BITS: Final = 63
_UNSURE: Final = -1

# A batch's header: the places of its fields from its beginning, and its length.
LENGTH_AT: Final = 8
EPOCH_AT: Final = 12
MAGIC_AT: Final = 16
CRC_AT: Final = 17
CHECKED_FROM: Final = 21  # the attributes: the checksum covers the batch from here on
LAST_DELTA_AT: Final = 23
_FIRST_TIMESTAMP_AT: Final = 27
_MAX_TIMESTAMP_AT: Final = 35
COUNT_AT: Final = 57
HEAD: Final = 61
SHORTEST_RECORD: Final = 7
_COMPRESSED_OR_CONTROL: Final = 0x27
_LOG_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10

# Why `find_batches` stops: no whole batch is left, no room, the caller is to verify the checksum, or it is not sure.
DONE, FULL, UNCHECKED, ODD = range(4)
# For larger batches, a call of a library with hardware support costs less than the tables here, of a byte a nanosecond.
LARGEST_CHECKED: Final = 4096


def _crc_tables() -> npt.NDArray[np.uint32]:
    """Return the CRC-32C tables (RFC 3720, B.4) for eight bytes at once.

    Kounavis and Berry, "Novel Table Lookup-Based Algorithms for High-Performance CRC Generation", 2008.
    """
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        rest = byte
        for _ in range(8):
            rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
        tables[0, byte] = rest
    for ahead in range(1, 8):
        tables[ahead] = tables[ahead - 1] >> 8 ^ tables[0, tables[ahead - 1] & 255]
    return tables


_CRC: Final = _crc_tables()


@part
def _number(raw: Bytes, at: int, size: int) -> int:
    """Return a signed big-endian number of so many bytes."""
    value = np.int64(np.int8(raw[at]))
    for place in range(at + 1, at + size):
        value = value << 8 | np.int64(raw[place])
    return int(value)


@part
def _crc32c(raw: Bytes, at: int, end: int) -> int:
    crc = np.uint32(0xFFFFFFFF)
    while end - at >= 8:
        for place in range(4):
            crc ^= np.uint32(raw[at + place]) << np.uint32(8 * place)
        crc = (
            _CRC[7, crc & np.uint32(255)]
            ^ _CRC[6, crc >> np.uint32(8) & np.uint32(255)]
            ^ _CRC[5, crc >> np.uint32(16) & np.uint32(255)]
            ^ _CRC[4, crc >> np.uint32(24)]
            ^ _CRC[3, raw[at + 4]]
            ^ _CRC[2, raw[at + 5]]
            ^ _CRC[1, raw[at + 6]]
            ^ _CRC[0, raw[at + 7]]
        )
        at += 8
    while at < end:
        crc = _CRC[0, (crc ^ np.uint32(raw[at])) & np.uint32(255)] ^ crc >> np.uint32(8)
        at += 1
    return int(crc ^ np.uint32(0xFFFFFFFF))


@part
def _varint(raw: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return a zigzag varint and where it ends; `_UNSURE` as its end if it has none, or ten bytes."""
    value = np.int64(0)
    shift = 0
    while shift < _VARINT_BITS and at < end:
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
    size, at = _varint(raw, at, end)
    if at < 0 or size > end - at:
        return 0, _UNSURE
    if size < 0:
        return -1, at
    return at, at + size


@part
def _headers_end(raw: Bytes, at: int, end: int) -> int:
    """Return where the headers end whose number is at `at`, or `_UNSURE`."""
    count, at = _varint(raw, at, end)
    if at < 0 or count < 0:
        return _UNSURE
    for _ in range(count):  # each has at least two bytes, so a wrong number soon reaches the end
        name, at = _field(raw, at, end)
        if at < 0 or name < 0:
            return _UNSURE
        _, at = _field(raw, at, end)
        if at < 0:
            return _UNSURE
    return at


@part
def _records(
    raw: Bytes,
    at: int,
    stop: int,
    base_offset: int,
    base_timestamp: int,
    timestamp_step: int,
    places: Int64s,
    row: int,
    wanted: int,
) -> tuple[int, int, int]:
    """Find up to `wanted` records before `stop`; fill `places` from `row` on. See `find_records`."""
    found, sizes = 0, 0
    if not (-FURTHEST <= base_offset <= FURTHEST and -FURTHEST <= base_timestamp <= FURTHEST):
        return found, at, sizes
    while found < wanted:
        size, start = _varint(raw, at, stop)
        if start < 0 or size < 0 or size > stop - start:
            break
        end = start + size
        if size == 0:
            break
        timestamp, after = _varint(raw, start + 1, stop)  # after the attributes, an unused byte
        if after < 0:
            break
        offset, after = _varint(raw, after, stop)
        if after < 0:
            break
        key, key_end = _field(raw, after, end)
        if key_end < 0:
            break
        value, value_end = _field(raw, key_end, end)
        if value_end < 0 or _headers_end(raw, value_end, end) != end:
            break
        places[KEY, row] = key
        places[KEY_END, row] = key_end
        places[VALUE, row] = value
        places[VALUE_END, row] = value_end
        places[END, row] = end
        places[TIMESTAMP, row] = base_timestamp + timestamp_step * timestamp
        places[OFFSET, row] = base_offset + offset
        sizes += size
        found += 1
        row += 1
        at = end
    return found, at, sizes


@part
def _settle_offsets(
    offsets: Int64s, row: int, stop: int, base_offset: int, last_delta: int, whole: bool, floor: int
) -> None:
    """Correct the offsets from `row` to `stop`. See `settle_offsets`."""
    last = base_offset + max(last_delta, 0)
    for place in range(row, stop):
        floor = floor + 1 if whole else max(floor, base_offset, min(offsets[place], last))
        offsets[place] = floor


@entry
def settle_offsets(offsets: Int64s, base_offset: int, last_delta: int, whole: bool, floor: int) -> None:
    """Correct the offsets of a batch's records, which brokers don't check: they rise, and stay within the batch.

    A batch that is `whole` has as many records as offsets, so they are consecutive, whatever the records say.
    Compaction leaves fewer records, which state their offsets; none may be below the one before it, or above the
    batch's last.

    Args:
        offsets: int64[n], of some records of a batch, one after the other.
        base_offset: the batch's first offset.
        last_delta: how far its last one is from there.
        whole: whether it has as many records as offsets.
        floor: the offset of the record before the first of these; `base_offset` - 1 for none.

    """
    _settle_offsets(offsets, 0, len(offsets), base_offset, last_delta, whole, floor)


@entry
def find_records(
    raw: Bytes, at: int, base_offset: int, base_timestamp: int, timestamp_step: int, places: Int64s
) -> tuple[int, int, int]:
    """Find records from `at` on, as many as `places` has room for, or up to one that it is not sure of.

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
    return _records(raw, at, len(raw), base_offset, base_timestamp, timestamp_step, places, 0, places.shape[1])


@entry
def find_batches(
    raw: Bytes, at: int, trusted: int, transactions_pending: bool, places: Int64s
) -> tuple[int, int, int, int, int]:
    """Find the records of the batches from `at` on, while they are plain.

    A plain batch has format v2, is whole, has the right checksum, is neither compressed nor a control batch, holds its
    records and nothing else, and has the leader epoch of the first one. If there are aborted transactions, no batch of
    a transaction is plain.

    Args:
        raw: uint8[m], record batches as they were fetched; read-only.
        at: where the next batch begins.
        trusted: where a large batch begins whose checksum the caller has verified; -1 for none.
        transactions_pending: whether there are aborted transactions.
        places: int64[COLUMNS, n], to be filled.

    Returns:
        how many records were found, where the next batch begins, where the last one that was found began (-1 for
        none), the sum of the records' sizes as kafka-python counts them, and why it stops there: `DONE`, `FULL`,
        `UNCHECKED` or `ODD`

    """
    found, last, sizes, first_epoch = 0, -1, 0, 0
    while True:
        if len(raw) - at < HEAD:
            return found, at, last, sizes, DONE if len(raw) - at < EPOCH_AT else ODD
        length = _number(raw, at + LENGTH_AT, 4)
        if length > len(raw) - at - EPOCH_AT:
            return found, at, last, sizes, DONE
        end = at + EPOCH_AT + length
        if end < at + HEAD or raw[at + MAGIC_AT] != 2:
            return found, at, last, sizes, ODD
        attributes = _number(raw, at + CHECKED_FROM, 2)
        if attributes & _COMPRESSED_OR_CONTROL or (transactions_pending and attributes & _TRANSACTIONAL):
            return found, at, last, sizes, ODD
        epoch = _number(raw, at + EPOCH_AT, 4)
        if last >= 0 and epoch != first_epoch:
            return found, at, last, sizes, FULL
        count = _number(raw, at + COUNT_AT, 4)
        if count < 0 or count > (end - at - HEAD) // SHORTEST_RECORD:
            return found, at, last, sizes, ODD
        if count > places.shape[1] - found:
            return found, at, last, sizes, FULL
        if at != trusted:
            if end - at > LARGEST_CHECKED:
                return found, at, last, sizes, UNCHECKED
            if _crc32c(raw, at + CHECKED_FROM, end) != _number(raw, at + CRC_AT, 4) & 0xFFFFFFFF:
                return found, at, last, sizes, ODD
        timestamp, step = _number(raw, at + _FIRST_TIMESTAMP_AT, 8), 1
        if attributes & _LOG_APPEND_TIME:
            timestamp, step = _number(raw, at + _MAX_TIMESTAMP_AT, 8), 0
        base = _number(raw, at, 8)
        got, reached, size = _records(raw, at + HEAD, end, base, timestamp, step, places, found, count)
        if got < count or reached != end:
            return found, at, last, sizes, ODD
        last_delta = _number(raw, at + LAST_DELTA_AT, 4)
        _settle_offsets(places[OFFSET], found, found + count, base, last_delta, count == last_delta + 1, base - 1)
        last, first_epoch = at, epoch
        found += count
        sizes += size
        at = end


def warm_up() -> None:
    """Compile the loops, or load them from their cache, so that the first record doesn't wait for that."""
    first_call(lambda: find_records(_NOTHING, 0, 0, 0, 1, np.empty((COLUMNS, 1), np.int64)))
    first_call(lambda: find_batches(_NOTHING, 0, -1, False, np.empty((COLUMNS, 1), np.int64)))
    first_call(lambda: settle_offsets(np.empty(0, np.int64), 0, 0, True, -1))


_NOTHING: Final = np.frombuffer(b"", np.uint8)
