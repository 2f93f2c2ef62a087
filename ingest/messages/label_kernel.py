"""Compiled loops that encode labels as records of message format v2 (Kafka's protocol guide, "Record").

`write_activities` writes the *body* of each record: its key, its value, which is JSON, and its headers. Before a body
comes the record's place in its batch, which isn't known before the batch is sent: `write_records` adds it.

Numba's cache notices changes only in a function's own file, so all compiled functions stay in this one.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ingest.compiled import entry, first_call, part

Bytes = npt.NDArray[np.uint8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

# Which text of `texts` is which. COVERAGE has one for each of 0..80 slots; behind them are those that labels have.
OPEN, START, END, FAMILIARITY, SMOOTHED, NULL, COVERED, GAP, CLOSE_BY_TIME, CLOSE_BY_SILENCE, HEADERS, COVERAGE = range(
    12
)
COVERAGES: Final = 81
FIXED: Final = COVERAGE + COVERAGES
WINDOW_MS: Final = 4000
MILLION: Final = 1_000_000

# The most bytes of a body besides the texts: for each byte of an id, one in the key and six in the value; eight for
# each probability, the confidence and the familiarity ("0.123456"); 20 digits each for two times, a gap and an offset;
# and the lengths.
BYTES_AN_ID_BYTE: Final = 7
BYTES_A_PROBABILITY: Final = 8
BYTES_OF_NUMBERS: Final = 100
# A record's length, attributes, timestamp and offset before its body.
BYTES_OF_A_HEAD: Final = 5 + 1 + 10 + 5

_ZERO, _MINUS, _QUOTE, _BACKSLASH = b"0"[0], b"-"[0], b'"'[0], b"\\"[0]
_POINT, _E, _SIX, _U = b"."[0], b"e"[0], b"6"[0], b"u"[0]
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8).copy()
# JSON's escape of a byte in a string: 0 for none, `u` for its number, else a backslash and this (RFC 8259, section 7).
_ESCAPES: Final = np.zeros(256, np.uint8)
_ESCAPES[:32] = _U
for _byte, _letter in zip(b'"\\\b\t\n\f\r', b'"\\btnfr', strict=True):
    _ESCAPES[_byte] = _letter


@part
def _varint(out: Bytes, at: int, value: int) -> int:
    """Write a zigzag varint; return where it ends."""
    rest = np.uint64((np.int64(value) << 1) ^ (np.int64(value) >> 63))
    while rest > np.uint64(127):
        out[at] = np.uint8((rest & np.uint64(127)) | np.uint64(128))
        rest >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(rest)
    return at + 1


@part
def _varint_size(value: int) -> int:
    rest = np.uint64((np.int64(value) << 1) ^ (np.int64(value) >> 63))
    size = 1
    while rest > np.uint64(127):
        rest >>= np.uint64(7)
        size += 1
    return size


@intrinsic
def _move(_context: Any, out: Any, at: Any, source: Any, begin: Any, size: Any) -> Any:
    """Copy bytes from one array to another with `memcpy`: eight times as fast as a loop."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, to_at, of, of_at, length = arguments
        to_data = context.make_array(signature.args[0])(context, builder, to).data
        of_data = context.make_array(signature.args[2])(context, builder, of).data
        to_place, of_place = builder.gep(to_data, [to_at]), builder.gep(of_data, [of_at])
        cgutils.raw_memcpy(builder, to_place, of_place, length, 1)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(out, types.intp, source, types.intp, types.intp), generate


@part
def _copy(out: Bytes, at: int, source: Bytes, begin: int, end: int) -> int:
    """Copy bytes of one array into another; return where they end in the latter."""
    _move(out, at, source, begin, end - begin)  # type: ignore[call-arg]
    return at + end - begin


@part
def _text(out: Bytes, at: int, texts: Bytes, places: Int64s, which: int) -> int:
    return _copy(out, at, texts, places[which], places[which + 1])


@part
def _integer(out: Bytes, at: int, value: int) -> int:
    """Write an integer in decimal; return where it ends."""
    if value < 0:
        out[at] = _MINUS
        at += 1
    rest = np.uint64(abs(value))
    size, left = 1, rest
    while left >= np.uint64(10):
        left //= np.uint64(10)
        size += 1
    for k in range(size):
        out[at + size - 1 - k] = np.uint8(_ZERO + rest % np.uint64(10))
        rest //= np.uint64(10)
    return at + size


@part
def _millionths(out: Bytes, at: int, millionths: int, negative: bool) -> int:
    """Write n / 1,000,000, in 0..1, as the shortest decimal; below 1e-5 that is 7e-6, not 0.000007."""
    if negative:
        out[at] = _MINUS
        at += 1
    if 0 < millionths < 10:
        out[at] = _ZERO + millionths
        out[at + 1] = _E
        out[at + 2] = _MINUS
        out[at + 3] = _SIX
        return at + 4
    out[at] = _ZERO + (millionths == MILLION)
    out[at + 1] = _POINT
    rest = np.uint32(millionths % MILLION)
    for k in range(6):
        out[at + 7 - k] = np.uint8(_ZERO + rest % np.uint32(10))
        rest //= np.uint32(10)
    end = at + 8
    while end > at + 3 and out[end - 1] == _ZERO:
        end -= 1
    return end


@part
def _string(out: Bytes, at: int, source: Bytes, begin: int, end: int) -> int:
    """Write UTF-8 as the inside of a JSON string; return where it ends."""
    for k in range(begin, end):
        byte = source[k]
        escape = _ESCAPES[byte]
        if escape == 0:
            out[at] = byte
            at += 1
            continue
        out[at] = _BACKSLASH
        out[at + 1] = escape
        at += 2
        if escape == _U:
            out[at] = _ZERO
            out[at + 1] = _ZERO
            out[at + 2] = _HEX[byte >> 4]
            out[at + 3] = _HEX[byte & 15]
            at += 4
    return at


@part
def _close_up(out: Bytes, begin: int, value: int, end: int) -> int:
    """Write a value's length into the two bytes left free before it; return where the value ends then."""
    size = end - value
    room, needed = value - begin, _varint_size(size)
    if needed > room:
        for k in range(size):
            out[end + needed - room - 1 - k] = out[end - 1 - k]
    elif needed < room:
        for k in range(size):
            out[begin + needed + k] = out[value + k]
    _varint(out, begin, size)
    return begin + needed + size


@part
def _is_sound(probabilities: Float32s, row: int) -> bool:
    """Return whether all probabilities of a row are in [0, 1] after rounding."""
    for k in range(probabilities.shape[1]):  # noqa: SIM110, because a generator is not compiled
        if not _is_share(probabilities[row, k]):
            return False
    return True


@part
def _is_share(value: float) -> bool:
    return bool(0 <= np.rint(np.float64(value) * MILLION) <= MILLION)


@entry
def write_activities(
    device_id: Bytes,
    id_size: Int32s,
    start_ms: Int64s,
    probabilities: Float32s,
    familiarity: Float32s,
    smoothed: Int64s,
    measured: Int32s,
    longest_gap_ms: Int32s,
    by_silence: Bools,
    source_offset: Int64s,
    texts: Bytes,
    places: Int64s,
    out: Bytes,
    begins: Int64s,
) -> int:
    """Write the bodies of m records, one after the other.

    Args:
        device_id: uint8[m, n]
        id_size: int32[m], of 0..n
        start_ms: int64[m]
        probabilities: float32[m, k]
        familiarity: float32[m], NaN for none
        smoothed: int64[m], of 0..k - 1, or -1 for none
        measured: int32[m], of 0..80
        longest_gap_ms: int32[m]
        by_silence: bool[m]
        source_offset: int64[m]
        texts: uint8, the text that all labels have in common, in pieces
        places: int64[FIXED + 3 k + 1], where each piece begins, and where the last one ends: those above, then for
            each label the text before the confidence if it is the activity, the text before its probability, and the
            label itself
        out: uint8, to be filled
        begins: int64[m + 1], to be filled: where each body begins, and the last one ends

    Returns:
        where the last one ends; -1 - r where row r is the first whose probabilities or familiarity aren't in [0, 1]

    Raises:
        ValueError: for an id, a coverage or a label that lies outside its table; nothing is read or written there

    """
    labels = probabilities.shape[1]
    ids = device_id.ravel()
    at = 0
    for row in range(len(start_ms)):
        if not _is_sound(probabilities, row) or not (np.isnan(familiarity[row]) or _is_share(familiarity[row])):
            return -1 - row
        if not (0 <= id_size[row] <= device_id.shape[1] and 0 <= measured[row] < COVERAGES):
            raise ValueError("an id is longer than its column, or a window has more slots than there are")
        if not -1 <= smoothed[row] < labels:
            raise ValueError("a smoothed label is none of the labels")
        begins[row] = at
        id_at = row * device_id.shape[1]
        id_end = id_at + id_size[row]
        at = _varint(out, at, id_size[row])
        at = _copy(out, at, ids, id_at, id_end)

        value = at + 2
        end = _text(out, value, texts, places, OPEN)
        end = _string(out, end, ids, id_at, id_end)
        end = _text(out, end, texts, places, START)
        end = _integer(out, end, start_ms[row])
        end = _text(out, end, texts, places, END)
        end = _integer(out, end, start_ms[row] + WINDOW_MS)
        best = 0
        for k in range(1, labels):
            if probabilities[row, k] > probabilities[row, best]:
                best = k
        end = _text(out, end, texts, places, FIXED + best)
        end = _probability(out, end, probabilities[row, best])
        for k in range(labels):
            end = _text(out, end, texts, places, FIXED + labels + k)
            end = _probability(out, end, probabilities[row, k])
        end = _text(out, end, texts, places, FAMILIARITY)
        if np.isnan(familiarity[row]):
            end = _text(out, end, texts, places, NULL)
        else:
            end = _probability(out, end, familiarity[row])
        end = _text(out, end, texts, places, SMOOTHED)
        end = _text(out, end, texts, places, NULL if smoothed[row] < 0 else FIXED + 2 * labels + smoothed[row])
        end = _text(out, end, texts, places, COVERED)
        end = _text(out, end, texts, places, COVERAGE + measured[row])
        end = _text(out, end, texts, places, GAP)
        end = _integer(out, end, longest_gap_ms[row])
        end = _text(out, end, texts, places, CLOSE_BY_SILENCE if by_silence[row] else CLOSE_BY_TIME)
        at = _close_up(out, at, value, end)

        at = _text(out, at, texts, places, HEADERS)
        end = _integer(out, at + 1, source_offset[row])
        _varint(out, at, end - at - 1)  # of one byte, for there are 20 digits at most
        at = end
    begins[len(start_ms)] = at
    return at


@part
def _probability(out: Bytes, at: int, probability: float) -> int:
    rounded = np.rint(np.float64(probability) * MILLION)
    return _millionths(out, at, int(rounded), np.signbit(rounded))


@entry
def write_records(
    out: Bytes,
    at: int,
    content: Bytes,
    begins: Int64s,
    start: int,
    stop: int,
    first_offset: int,
    timestamp_delta: int,
) -> int:
    """Write records `start` to `stop` of some bodies into a batch; return where the last one ends.

    Args:
        out: uint8, the batch, to be filled from `at` on
        at: where the first of them goes
        content: uint8, the bodies
        begins: int64[m + 1], where each begins, and the last one ends
        start: the first of them
        stop: the one after the last of them
        first_offset: of the first one in its batch; the others follow
        timestamp_delta: of all, ms after the batch's first timestamp

    """
    delta = _varint_size(timestamp_delta)
    for row in range(start, stop):
        offset = first_offset + row - start
        at = _varint(out, at, 1 + delta + _varint_size(offset) + begins[row + 1] - begins[row])
        out[at] = 0  # the attributes: none
        at = _varint(out, at + 1, timestamp_delta)
        at = _varint(out, at, offset)
        at = _copy(out, at, content, begins[row], begins[row + 1])
    return at


def warm_up() -> None:
    """Compile the loop that writes batches, or load it from its cache, so that the first batch doesn't wait."""
    first_call(lambda: write_records(_no_bytes(), 0, _no_bytes(), np.zeros(1, np.int64), 0, 0, 0, 0))


def warm_up_activities() -> None:
    """Do the same for the loops that write activities."""
    no_bytes, no_int64s, no_int32s = _no_bytes(), np.empty(0, np.int64), np.empty(0, np.int32)
    first_call(
        lambda: write_activities(
            np.empty((0, 1), np.uint8),
            no_int32s,
            no_int64s,
            np.empty((0, 1), np.float32),
            np.empty(0, np.float32),
            no_int64s,
            no_int32s,
            no_int32s,
            np.empty(0, np.bool_),
            no_int64s,
            no_bytes,
            no_int64s,
            no_bytes,
            np.zeros(1, np.int64),
        )
    )


def _no_bytes() -> Bytes:
    return np.empty(0, np.uint8)
