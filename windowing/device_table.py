"""The compiled table of devices: from the bytes of an id to a device's row, without creating objects.

A hash table with open addressing and linear probing, at most half full; deletion closes the gap. Ids come from
untrusted senders, so their hash is SipHash-1-3 with a key of this process (Aumasson and Bernstein, "SipHash: a fast
short-input PRF", 2012): nobody can choose ids that collide.

Numba's cache tracks changes by file: all compiled code of this table stays in this one.
"""

import secrets
import zlib
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from windowing.compiled import entry, part
from windowing.grid import STRIDE_SLOTS

Bytes = npt.NDArray[np.uint8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

MAX_ID_BYTES: Final = 128
FREE: Final = -1  # no row; the size of the id of a row that no device has
_EMPTY: Final = np.uint64(0)
_ROW_BITS: Final = np.uint64(0xFFFFFFFF)
_ONE: Final = np.uint64(1)

KEY: Final = np.frombuffer(secrets.token_bytes(16), np.uint64)


class Table(NamedTuple):
    """n rows, and p places, a power of two and at least 2 n.

    id: uint8[n, 128], zero-padded.
    size: int32[n], bytes of the id, `FREE` for a row without a device.
    hash: uint64[n].
    place: uint64[p], the upper half of a hash and, in the lower half, its row + 1; 0 if the place is empty.
    """

    id: Bytes
    size: Int32s
    hash: UInt64s
    place: UInt64s


def new_table(rows: int) -> Table:
    """Return an empty table; `rows` is a power of two."""
    return Table(
        id=np.zeros((rows, MAX_ID_BYTES), np.uint8),
        size=np.full(rows, FREE, np.int32),
        hash=np.zeros(rows, np.uint64),
        place=np.zeros(2 * rows, np.uint64),
    )


def doubled(table: Table) -> Table:
    """Return a table of twice the rows, with the same devices in the same rows."""
    rows = len(table.size)
    larger = new_table(2 * rows)
    larger.id[:rows] = table.id
    larger.size[:rows] = table.size
    larger.hash[:rows] = table.hash
    fill_places(larger)
    return larger


def _crc_table() -> npt.NDArray[np.uint32]:
    """Return the table of zlib's CRC-32 of a byte, on which `windowing.grid.phase` is based."""
    steps = [zlib.crc32(bytes([byte])) ^ zlib.crc32(b"\0") for byte in range(256)]
    return np.array(steps, np.uint32)


_CRC: Final = _crc_table()


@part
def _rotate_left(word: np.uint64, by: int) -> np.uint64:
    return word << np.uint64(by) | word >> np.uint64(64 - by)


@part
def _round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    v0 += v1
    v2 += v3
    v1 = _rotate_left(v1, 13) ^ v0
    v3 = _rotate_left(v3, 16) ^ v2
    v0 = _rotate_left(v0, 32)
    v2 += v1
    v0 += v3
    v1 = _rotate_left(v1, 17) ^ v2
    v3 = _rotate_left(v3, 21) ^ v0
    v2 = _rotate_left(v2, 32)
    return v0, v1, v2, v3


@part
def _word(raw: Bytes, at: int) -> np.uint64:
    """Return eight bytes, little-endian; unsigned indices save Numba's check for negative ones."""
    place, word = np.uint64(at), np.uint64(0)
    for shift in range(0, 64, 8):
        word |= np.uint64(raw[place]) << np.uint64(shift)
        place += _ONE
    return word


@part
def siphash(key: UInt64s, raw: Bytes, at: int, end: int) -> np.uint64:
    """Return SipHash-1-3 of raw[at:end] as uint64."""
    v0 = key[0] ^ np.uint64(0x736F6D6570736575)
    v1 = key[1] ^ np.uint64(0x646F72616E646F6D)
    v2 = key[0] ^ np.uint64(0x6C7967656E657261)
    v3 = key[1] ^ np.uint64(0x7465646279746573)
    size = end - at
    while end - at >= 8:
        word = _word(raw, at)
        v3 ^= word
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= word
        at += 8
    word = np.uint64(size & 255) << np.uint64(56)
    for place in range(end - at):
        word |= np.uint64(raw[np.uint64(at + place)]) << np.uint64(8 * place)
    v3 ^= word
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= word
    v2 ^= np.uint64(255)
    for _ in range(3):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return np.uint64(v0 ^ v1 ^ v2 ^ v3)


@part
def _row_in(entry: np.uint64) -> int:
    """Return the row in a place, `FREE` if it is empty."""
    return int(np.int64(entry & _ROW_BITS)) - 1


@part
def _is(table: Table, row: int, raw: Bytes, at: int, size: int) -> bool:
    if table.size[row] != size:
        return False
    for k in range(size):  # noqa: SIM110, for a generator is not compiled
        if table.id[row, k] != raw[np.uint64(at + k)]:
            return False
    return True


@part
def _find(table: Table, raw: Bytes, at: int, end: int, hashed: np.uint64) -> tuple[int, np.uint64]:
    """Return a device's row and its place; or `FREE` and the place for it."""
    mask = np.uint64(len(table.place) - 1)
    place = hashed & mask
    while table.place[place] != _EMPTY:
        entry = table.place[place]
        if (entry ^ hashed) <= _ROW_BITS and _is(table, _row_in(entry), raw, at, end - at):
            return _row_in(entry), place
        place = (place + _ONE) & mask
    return FREE, place


@part
def _put(table: Table, row: int, place: np.uint64) -> None:
    table.place[place] = (table.hash[row] & ~_ROW_BITS) | np.uint64(row + 1)


@part
def _phase(raw: Bytes, at: int, end: int) -> int:
    crc = np.uint32(0xFFFFFFFF)
    for place in range(at, end):
        crc = _CRC[(crc ^ np.uint32(raw[place])) & np.uint32(255)] ^ crc >> np.uint32(8)
    return int(np.int64(crc ^ np.uint32(0xFFFFFFFF)) % STRIDE_SLOTS)


@part
def _is_same(id_at: Int64s, id_end: Int64s, i: int) -> bool:
    """Return whether a reading shares its id's bytes with the one before: both are from one chunk."""
    return bool(id_at[i] == id_at[i - 1] and id_end[i] == id_end[i - 1])


@entry
def take_rows(
    table: Table,
    key: UInt64s,
    raw: Bytes,
    id_at: Int64s,
    id_end: Int64s,
    start: int,
    free: Int64s,
    left: int,
    phase: Int64s,
    rows: Int64s,
) -> tuple[int, int, int]:
    """Find the rows of the devices of readings start, start + 1..., and give those that have none a free one.

    Args:
        table: the devices.
        key: uint64[2], of the hash.
        raw: uint8[m], where the ids lie.
        id_at, id_end: int64[n], where each reading's id begins and ends; of 0 to 128 bytes within `raw`.
        start: the first reading.
        free: int64[], a stack of free rows, the next one last.
        left: how many rows are on it.
        phase: int64[rows of the table], filled for new devices.
        rows: int64[n], filled.

    Returns:
        the reading to continue at, once there are more free rows, or n; how many free rows are left; and a meaningless
        number, without which the compiler would drop a loop

    """
    hashed = np.empty(len(id_at), np.uint64)
    mask = np.uint64(len(table.place) - 1)
    # Separate loops, so that the memory accesses of many readings overlap.
    for i in range(start, len(id_at)):
        again = i > start and _is_same(id_at, id_end, i)
        hashed[i] = hashed[i - 1] if again else siphash(key, raw, id_at[i], id_end[i])
    for i in range(start, len(id_at)):
        rows[i] = _row_in(table.place[hashed[i] & mask])
    seen = 0
    for i in range(start, len(id_at)):
        seen += int(table.id[max(0, rows[i]), 0])
    for i in range(start, len(id_at)):
        if i > start and _is_same(id_at, id_end, i):
            rows[i] = rows[i - 1]
            continue
        at, end = id_at[i], id_end[i]
        row, place = _find(table, raw, at, end, hashed[i])
        if row == FREE:
            if left == 0:
                return i, left, seen
            left -= 1
            row = int(free[left])
            table.hash[row] = hashed[i]
            table.size[row] = end - at
            for k in range(MAX_ID_BYTES):
                table.id[row, k] = raw[at + k] if k < end - at else 0
            phase[row] = _phase(raw, at, end)
            _put(table, row, place)
        rows[i] = row
    return len(id_at), left, seen


@entry
def find_row(table: Table, key: UInt64s, raw: Bytes) -> int:
    """Return the row of the device whose id is uint8[m] `raw`, or `FREE`."""
    row, _ = _find(table, raw, 0, len(raw), siphash(key, raw, 0, len(raw)))
    return row


@entry
def are_absent(table: Table, key: UInt64s, raw: Bytes, id_at: Int64s, id_end: Int64s) -> npt.NDArray[np.bool_]:
    """Return for each of n ids, given as in `take_rows`, whether the table lacks that device."""
    absent = np.empty(len(id_at), np.bool_)
    for i in range(len(id_at)):
        row, _ = _find(table, raw, id_at[i], id_end[i], siphash(key, raw, id_at[i], id_end[i]))
        absent[i] = row == FREE
    return absent


@entry
def keep_absent(table: Table, rows: Int64s, other: Table) -> int:
    """Move the rows whose devices `other` lacks to the front, in order; return their number.

    Both tables' hashes use the same key.
    """
    absent = 0
    for row in rows:
        found, _ = _find(other, table.id[row], 0, int(table.size[row]), table.hash[row])
        if found == FREE:
            rows[absent] = row
            absent += 1
    return absent


@entry
def fill_places(table: Table) -> None:
    """Enter each device into a table whose places are empty."""
    mask = np.uint64(len(table.place) - 1)
    for row in range(len(table.size)):
        if table.size[row] != FREE:
            place = table.hash[row] & mask
            while table.place[place] != _EMPTY:
                place = (place + _ONE) & mask
            _put(table, row, place)


@entry
def release(table: Table, rows: Int64s) -> None:
    """Delete these devices."""
    mask = np.uint64(len(table.place) - 1)
    for row in rows:
        gap = table.hash[row] & mask
        while _row_in(table.place[gap]) != row:
            gap = (gap + _ONE) & mask
        table.size[row] = FREE
        # Later entries of the run move up if that brings them nearer to their own place (Knuth, TAOCP 3, 6.4,
        # algorithm R).
        place = (gap + _ONE) & mask
        while table.place[place] != _EMPTY:
            own = table.hash[_row_in(table.place[place])] & mask
            if (place - own) & mask >= (place - gap) & mask:
                table.place[gap] = table.place[place]
                gap = place
            place = (place + _ONE) & mask
        table.place[gap] = _EMPTY
