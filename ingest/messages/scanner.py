"""The compiled loop that decodes accelerometer messages directly from the bytes of their records.

It reads ordinary records in the three forms of the contract, and leaves those that it is not sure of: odd content
types, escapes where they matter, numbers of very many digits, and all that the contract refuses. The caller lets the
contract's models validate those. So the loop may leave any record, but it must never accept one that the models would
refuse, nor read it differently, and it never reads outside its arrays.

JSON is read by its grammar (RFC 8259), names in any order. Most records of a piece are written by the same program and
differ only in their values. So the text around the values of one sample is kept, and compared with the next one's.

A number becomes the float64 of a correct parser if its digits and the power of ten are both exact in float64 (W. D.
Clinger, "How to read floating point numbers accurately", 1990). Otherwise, an axis may be off by a few units in the
last place of a float64: it is accepted if all of those round to the same float32.

Numba's cache notices changes only in a function's own file, so all compiled functions stay in this one.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from ingest.compiled import lean_entry, lean_inlined, lean_part
from ingest.contract import (
    BINARY_CHUNK_CONTENT_TYPE,
    BINARY_HEADER,
    BINARY_READING_BYTES,
    BINARY_VERSION,
    CONTENT_TYPE_HEADER,
    JSON_CONTENT_TYPE,
    MAX_ACCELERATION,
    MAX_DEVICE_ID_BYTES,
    MAX_HEADERS,
    MAX_JSON_BYTES,
    MAX_RATE_HZ,
    MAX_READINGS,
    MAX_TIMESTAMP_MS,
)

Bytes = npt.NDArray[np.uint8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

# Instead of a place, or of a number of readings.
_UNSURE: Final = -1
_NO_ROOM: Final = -2

_JSON, _BINARY = range(2)

_FIELDS: Final = (b"device_id", b"timestamp", b"x", b"y", b"z", b"start", b"rate_hz", b"samples")
_ID, _TIMESTAMP, _X, _Y, _Z, _START, _RATE, _SAMPLES, _OTHER = range(9)
_OF_A_SAMPLE: Final = 1 << _ID | 1 << _TIMESTAMP | 1 << _X | 1 << _Y | 1 << _Z
_OF_A_CHUNK: Final = 1 << _ID | 1 << _START | 1 << _RATE | 1 << _SAMPLES
_VALUES: Final = 5  # of a sample

# State of the message that is being read: places, times and counts, and float64s.
_ID_AT, _ID_END, _TIME, _START_TIME, _COUNT = range(5)
_AXES, _RATE_HZ = 0, 3

# State of the last sample: the place of the text before each value, its size, and the value's field; at the end, the
# text after the last value.
_GAP, _GAP_SIZE, _GAP_FIELD = range(3)

_NAMES: Final = np.frombuffer(b"".join(_FIELDS), np.uint8)
_NAME_SIZES: Final = np.array([len(name) for name in _FIELDS])
_NAME_STARTS: Final = np.cumsum(_NAME_SIZES) - _NAME_SIZES
_CONTENT_TYPE: Final = np.frombuffer(CONTENT_TYPE_HEADER.encode(), np.uint8)
_JSON_TYPE: Final = np.frombuffer(JSON_CONTENT_TYPE.encode(), np.uint8)
_BINARY_TYPE: Final = np.frombuffer(BINARY_CHUNK_CONTENT_TYPE.encode(), np.uint8)
_TRUE: Final = np.frombuffer(b"true", np.uint8)
_FALSE: Final = np.frombuffer(b"false", np.uint8)
_NULL: Final = np.frombuffer(b"null", np.uint8)
_ESCAPED: Final = np.isin(np.arange(256), list(b'"\\/bfnrtu'))
_HEXADECIMAL: Final = np.isin(np.arange(256), list(b"0123456789abcdefABCDEF"))

_BINARY_HEAD: Final = BINARY_HEADER.size
_WORD: Final = 8
_WORD_MASKS: Final = np.array([2 ** (8 * size) - 1 for size in range(_WORD)], np.uint64)
_VARINT_BITS: Final = 63
_FURTHEST: Final = 2**62
FURTHEST_AHEAD: Final = 2**61  # added to `_FURTHEST`, it is an int64
_DEEPEST: Final = 60  # levels within an unknown field, a bit each; the contract allows more

_POWERS: Final = np.array([float(f"1e{power}") for power in range(23)])  # all that are exact in float64
_LARGEST_POWER: Final = 22
_LARGEST_EXACT: Final = 2**53
_FULL: Final = 10**17  # a number with so many digits takes no other
_NO_DIGITS: Final = -1_000_000
_SHORTEST_TIME: Final = len("YYYY-MM-DDThh:mmZ")
_MONTHS: Final = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
# As a share, more than the error of three roundings to float64.
_ERROR: Final = 2.0**-49

_QUOTE, _BACKSLASH, _COMMA, _COLON, _POINT, _MINUS, _PLUS = b'"\\,:.-+'
_OPEN_LIST, _CLOSE_LIST, _OPEN_OBJECT, _CLOSE_OBJECT = b"[]{}"
_SPACE, _TAB, _LINE, _RETURN = b" \t\n\r"
_ZERO, _NINE, _LARGE_T, _LARGE_Z, _SMALL_E, _SMALL_U, _SMALL_T, _SMALL_F, _SMALL_N = b"09TZeutfn"
_LARGEST_ASCII: Final = 127


# --- Bytes ----------------------------------------------------------------------------------------------------


@lean_inlined
def _byte(raw: Bytes, at: int) -> int:
    """Return a byte; its index is unsigned, so it is never counted from the end."""
    return np.int64(raw[np.uint64(at)])  # type: ignore[return-value]


@lean_inlined
def _word(raw: Bytes, at: int) -> np.uint64:
    """Return eight bytes; the compiler makes one load of it."""
    return (
        np.uint64(_byte(raw, at))
        | np.uint64(_byte(raw, at + 1)) << np.uint64(8)
        | np.uint64(_byte(raw, at + 2)) << np.uint64(16)
        | np.uint64(_byte(raw, at + 3)) << np.uint64(24)
        | np.uint64(_byte(raw, at + 4)) << np.uint64(32)
        | np.uint64(_byte(raw, at + 5)) << np.uint64(40)
        | np.uint64(_byte(raw, at + 6)) << np.uint64(48)
        | np.uint64(_byte(raw, at + 7)) << np.uint64(56)
    )


@lean_inlined
def _same(raw: Bytes, one: int, other: int, size: int) -> bool:
    """Return whether the bytes at two places are the same; a word may be read after each."""
    whole = size & -_WORD
    for at in range(0, whole, _WORD):
        if _word(raw, one + at) != _word(raw, other + at):
            return False
    rest = size - whole
    return rest == 0 or (_word(raw, one + whole) ^ _word(raw, other + whole)) & _WORD_MASKS[rest] == 0


@lean_part
def _is(raw: Bytes, at: int, size: int, text: Bytes) -> bool:
    if size != len(text):
        return False
    same = True
    for k in range(size):
        same &= raw[at + k] == text[k]
    return same


@lean_part
def _varint(raw: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return a zigzag varint and where it ends; `_UNSURE` as its end if it has none, or ten bytes."""
    value = np.int64(0)
    shift = 0
    while shift < _VARINT_BITS and at < end:
        byte = _byte(raw, at)
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return int((value >> 1) ^ -(value & 1)), at
        shift += 7
    return 0, _UNSURE


@lean_part
def _content(raw: Bytes, at: int, end: int) -> int:
    """Return the content type by the record's headers: `_JSON`, `_BINARY` or `_UNSURE`."""
    kind = _JSON
    count, at = _varint(raw, at, end)
    if at < 0 or not 0 <= count <= MAX_HEADERS:
        return _UNSURE
    for _ in range(count):
        size, at = _varint(raw, at, end)
        if at < 0 or size < 0 or size > end - at:
            return _UNSURE
        tells = _is(raw, at, size, _CONTENT_TYPE)
        size, at = _varint(raw, at + size, end)
        if at < 0 or size > end - at:
            return _UNSURE
        if tells:
            kind = _UNSURE
            if _is(raw, at, size, _JSON_TYPE):
                kind = _JSON
            elif _is(raw, at, size, _BINARY_TYPE):
                kind = _BINARY
        at += max(0, size)
    return kind


# --- Any JSON -------------------------------------------------------------------------------------------------


@lean_inlined
def _after_space(raw: Bytes, at: int, end: int) -> int:
    while at < end:
        byte = _byte(raw, at)
        if byte > _SPACE or byte not in (_SPACE, _LINE, _RETURN, _TAB):
            break
        at += 1
    return at


@lean_inlined
def _begins(raw: Bytes, at: int, end: int, byte: int) -> bool:
    return at < end and _byte(raw, at) == byte


@lean_part
def _after_character(raw: Bytes, at: int, end: int) -> int:
    """Return the place behind a UTF-8 character that is not ASCII (Unicode, table 3-7), or `_UNSURE`."""
    first = _byte(raw, at)
    more = 1 if first < 0xE0 else 2 if first < 0xF0 else 3
    if not 0xC2 <= first <= 0xF4 or more >= end - at:
        return _UNSURE
    for k in range(1, more + 1):
        if _byte(raw, at + k) & 0xC0 != 0x80:
            return _UNSURE
    second = _byte(raw, at + 1)
    if (
        (first == 0xE0 and second < 0xA0)  # longer than it needs to be
        or (first == 0xED and second > 0x9F)  # half of a surrogate pair
        or (first == 0xF0 and second < 0x90)
        or (first == 0xF4 and second > 0x8F)  # beyond the last character
    ):
        return _UNSURE
    return at + more + 1


@lean_inlined
def _plain_end(raw: Bytes, at: int, end: int) -> int:
    """Return where the quote is that ends a string without escapes, or `_UNSURE`."""
    while 0 <= at < end:
        byte = _byte(raw, at)
        if byte == _QUOTE:
            return at
        if byte < _SPACE or byte == _BACKSLASH:
            break
        at = at + 1 if byte <= _LARGEST_ASCII else _after_character(raw, at, end)
    return _UNSURE


@lean_part
def _after_string(raw: Bytes, at: int, end: int) -> int:
    """Return the place behind a string whose content begins at `at`, or `_UNSURE`."""
    while 0 <= at < end:
        byte = _byte(raw, at)
        if byte == _QUOTE:
            return at + 1
        if byte < _SPACE:
            break
        if byte == _BACKSLASH:
            at = _after_escape(raw, at + 1, end)
        else:
            at = at + 1 if byte <= _LARGEST_ASCII else _after_character(raw, at, end)
    return _UNSURE


@lean_part
def _after_escape(raw: Bytes, at: int, end: int) -> int:
    """Return the place behind an escape whose backslash was before `at`, or `_UNSURE`."""
    if at >= end or not _ESCAPED[_byte(raw, at)]:
        return _UNSURE
    digits = 4 if _byte(raw, at) == _SMALL_U else 0
    at += 1
    if digits > end - at:
        return _UNSURE
    for k in range(digits):
        if not _HEXADECIMAL[_byte(raw, at + k)]:
            return _UNSURE
    return at + digits


@lean_part
def _after_digits(raw: Bytes, at: int, end: int) -> int:
    while at < end and _ZERO <= _byte(raw, at) <= _NINE:
        at += 1
    return at


@lean_part
def _after_number(raw: Bytes, at: int, end: int) -> int:
    """Return the place behind a number of any length, or `_UNSURE`."""
    if _begins(raw, at, end, _MINUS):
        at += 1
    digits = at
    at = _after_digits(raw, at, end)
    if at == digits or (at > digits + 1 and _byte(raw, digits) == _ZERO):
        return _UNSURE
    if _begins(raw, at, end, _POINT):
        digits = at + 1
        at = _after_digits(raw, digits, end)
        if at == digits:
            return _UNSURE
    if at < end and _byte(raw, at) | 32 == _SMALL_E:
        at += 1
        if at < end and (_byte(raw, at) == _PLUS or _byte(raw, at) == _MINUS):
            at += 1
        digits = at
        at = _after_digits(raw, digits, end)
        if at == digits:
            return _UNSURE
    return at


@lean_part
def _after_word(raw: Bytes, at: int, end: int, text: Bytes) -> int:
    if end - at < len(text) or not _is(raw, at, len(text), text):
        return _UNSURE
    return at + len(text)


@lean_part
def _after_scalar(raw: Bytes, at: int, end: int) -> int:
    """Return the place behind a string, number or literal that begins at `at`, or `_UNSURE`."""
    byte = _byte(raw, at)
    if byte == _QUOTE:
        return _after_string(raw, at + 1, end)
    if byte == _SMALL_T:
        return _after_word(raw, at, end, _TRUE)
    if byte == _SMALL_F:
        return _after_word(raw, at, end, _FALSE)
    if byte == _SMALL_N:
        return _after_word(raw, at, end, _NULL)
    return _after_number(raw, at, end)


@lean_part
def _after_name(raw: Bytes, at: int, end: int) -> int:
    """Return where the value of a field begins whose name is at `at`, or `_UNSURE`."""
    if not _begins(raw, at, end, _QUOTE):
        return _UNSURE
    at = _after_string(raw, at + 1, end)
    if at < 0:
        return _UNSURE
    at = _after_space(raw, at, end)
    if not _begins(raw, at, end, _COLON):
        return _UNSURE
    return _after_space(raw, at + 1, end)


@lean_part
def _after_value(raw: Bytes, at: int, end: int) -> int:
    """Return the place behind any value, or `_UNSURE`; a bit for each open list (0) or object (1) is its stack."""
    open_ones, depth = np.int64(0), 0
    while at < end:
        byte = _byte(raw, at)
        if byte in (_OPEN_LIST, _OPEN_OBJECT):
            at = _after_space(raw, at + 1, end)
            if not _begins(raw, at, end, byte + 2):  # ] and }
                if depth == _DEEPEST:
                    break
                depth += 1
                open_ones = open_ones << 1 | (byte == _OPEN_OBJECT)
                if byte == _OPEN_OBJECT:
                    at = _after_name(raw, at, end)
                    if at < 0:
                        break
                continue
            at += 1
        else:
            at = _after_scalar(raw, at, end)
            if at < 0:
                break
        while depth > 0:
            at = _after_space(raw, at, end)
            if not _begins(raw, at, end, _CLOSE_OBJECT if open_ones & 1 else _CLOSE_LIST):
                break
            at += 1
            open_ones >>= 1
            depth -= 1
        if depth == 0:
            return at
        if not _begins(raw, at, end, _COMMA):
            break
        at = _after_space(raw, at + 1, end)
        if open_ones & 1:
            at = _after_name(raw, at, end)
            if at < 0:
                break
    return _UNSURE


# --- Numbers --------------------------------------------------------------------------------------------------


@lean_inlined
def _digits(raw: Bytes, at: int, end: int, number: int) -> tuple[int, int]:
    """Append the digits at `at` to a number, at most as many as fit; return it and the place behind them."""
    while at < end and number < _FULL:
        digit = _byte(raw, at) - _ZERO
        if digit < 0 or digit > 9:
            break
        number = number * 10 + digit
        at += 1
    return number, at


@lean_inlined
def _decimal(raw: Bytes, at: int, end: int) -> tuple[int, int, int]:
    """Return the digits of a number without its sign, the power of ten, and the place behind it or `_UNSURE`."""
    power = 0
    first = at
    number, at = _digits(raw, first, end, 0)
    if at == first or (at > first + 1 and _byte(raw, first) == _ZERO):
        return 0, 0, _UNSURE
    if _begins(raw, at, end, _POINT):
        first = at + 1
        number, at = _digits(raw, first, end, number)
        power = first - at
        if power == 0:
            return 0, 0, _UNSURE
    if at < end and _byte(raw, at) | 32 == _SMALL_E:
        at += 1
        minus = _begins(raw, at, end, _MINUS)
        if minus or _begins(raw, at, end, _PLUS):
            at += 1
        first = at
        more, at = _digits(raw, first, end, 0)
        if at == first:
            return 0, 0, _UNSURE
        power += -more if minus else more
    return number, power, at


@lean_inlined
def _axis(raw: Bytes, at: int, end: int, scale: float) -> tuple[float, int]:
    """Return a number times the scale, and the place behind it or `_UNSURE`.

    The number is a float64 near enough to the right one to give the same float32, and exact near the limit.
    """
    minus = _begins(raw, at, end, _MINUS)
    first = at + minus
    number, power, at = _decimal(raw, first, end)
    if at < 0 or (number == 0 and minus and at == first + 1):  # -0 is an integer, hence 0, and -0.0 is not
        return 0.0, _UNSURE
    value = float(number)
    exact = number <= _LARGEST_EXACT
    if -_LARGEST_POWER <= power <= 0:
        value /= _POWERS[-power]
    elif 0 < power <= _LARGEST_POWER:
        value *= _POWERS[power]
    elif -2 * _LARGEST_POWER <= power < 0:
        value = value / _POWERS[_LARGEST_POWER] / _POWERS[-power - _LARGEST_POWER]
        exact = False
    else:
        return 0.0, _UNSURE
    value = (-value if minus else value) * scale
    if not exact and not _rounds_surely(value):
        return 0.0, _UNSURE
    return value, at


@lean_inlined
def _rounds_surely(value: float) -> bool:
    less, more = value * (1 - _ERROR), value * (1 + _ERROR)
    limit = MAX_ACCELERATION
    return bool(abs(less) <= limit and abs(more) <= limit and np.float32(less) == np.float32(more))


@lean_part
def _rate(raw: Bytes, at: int, end: int) -> tuple[float, int]:
    """Return a non-negative number as the nearest float64, and the place behind it or `_UNSURE`."""
    number, power, at = _decimal(raw, at, end)
    if at < 0 or number > _LARGEST_EXACT or not -_LARGEST_POWER <= power <= _LARGEST_POWER:
        return 0.0, _UNSURE
    return number / _POWERS[-power] if power < 0 else number * _POWERS[power], at


@lean_inlined
def _time(raw: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return a time in epoch ms, and the place behind it or `_UNSURE`."""
    if _begins(raw, at, end, _QUOTE):
        return _iso_time(raw, at + 1, end)
    minus = _begins(raw, at, end, _MINUS)
    first = at + minus
    number, at = _digits(raw, first, end, 0)
    if at == first or (at > first + 1 and _byte(raw, first) == _ZERO) or number > MAX_TIMESTAMP_MS:
        return 0, _UNSURE
    return -number if minus else number, at


@lean_inlined
def _pair(raw: Bytes, at: int) -> int:
    """Return a number of two digits, or one below 0."""
    tens, ones = _byte(raw, at) - _ZERO, _byte(raw, at + 1) - _ZERO
    return 10 * tens + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else _NO_DIGITS


@lean_part
def _iso_time(raw: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return the epoch ms of an ISO 8601 time as the contract takes it, and the place behind its quote or `_UNSURE`."""
    if end - at < _SHORTEST_TIME:
        return 0, _UNSURE
    year = 100 * _pair(raw, at) + _pair(raw, at + 2)
    month, day, hour, minute = _pair(raw, at + 5), _pair(raw, at + 8), _pair(raw, at + 11), _pair(raw, at + 14)
    middle = _byte(raw, at + 10)
    if (
        year < 1
        or not 1 <= month <= 12
        or not 1 <= day <= _MONTHS[month] - (month == 2 and (year % 4 != 0 or (year % 100 == 0 and year % 400 != 0)))
        or not 0 <= hour <= 23
        or not 0 <= minute <= 59
        or _byte(raw, at + 4) != _MINUS
        or _byte(raw, at + 7) != _MINUS
        or middle not in (_LARGE_T, _SPACE)
        or _byte(raw, at + 13) != _COLON
    ):
        return 0, _UNSURE
    milliseconds, at = _seconds(raw, at + 16, end)
    if at < 0:
        return 0, _UNSURE
    offset, at = _offset(raw, at, end)
    if at < 0 or not _begins(raw, at, end, _QUOTE):
        return 0, _UNSURE
    minutes = 1440 * _days(year, month, day) + 60 * hour + minute - offset
    return 60_000 * minutes + milliseconds, at + 1


@lean_part
def _days(year: int, month: int, day: int) -> int:
    """Return the days since 1970-01-01 in the Gregorian calendar; it counts in years that begin in March."""
    if month <= 2:
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 719_469


@lean_part
def _seconds(raw: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return the milliseconds of `:ss` and a fraction, both of which may be absent, and the place or `_UNSURE`."""
    if not _begins(raw, at, end, _COLON):
        return 0, at
    if end - at < 3 or not 0 <= _pair(raw, at + 1) <= 59:
        return 0, _UNSURE
    milliseconds = 1000 * _pair(raw, at + 1)
    at += 3
    if _begins(raw, at, end, _POINT) or _begins(raw, at, end, _COMMA):
        first, unit = at + 1, 100
        at = _after_digits(raw, first, end)
        if at == first:
            return 0, _UNSURE
        for k in range(first, min(at, first + 3)):
            milliseconds += unit * (_byte(raw, k) - _ZERO)
            unit //= 10
    return milliseconds, at


@lean_part
def _offset(raw: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return the minutes of `Z`, `±hh`, `±hhmm` or `±hh:mm`, and the place behind it or `_UNSURE`."""
    if _begins(raw, at, end, _LARGE_Z):
        return 0, at + 1
    minus = _begins(raw, at, end, _MINUS)
    if end - at < 3 or not (minus or _byte(raw, at) == _PLUS) or not 0 <= _pair(raw, at + 1) <= 23:
        return 0, _UNSURE
    minutes = 60 * _pair(raw, at + 1)
    at += 3
    colon = _begins(raw, at, end, _COLON)
    at += colon
    if end - at >= 2 and 0 <= _pair(raw, at) <= 59:
        minutes += _pair(raw, at)
        at += 2
    elif colon:
        return 0, _UNSURE
    return -minutes if minus else minutes, at


# --- Messages -------------------------------------------------------------------------------------------------


@lean_part
def _field(raw: Bytes, at: int, end: int) -> int:
    """Return the field whose name lies from `at` to `end`."""
    for field in range(_OTHER):
        if end - at == _NAME_SIZES[field]:
            same = True
            for k in range(end - at):
                same &= raw[at + k] == _NAMES[_NAME_STARTS[field] + k]
            if same:
                return field
    return _OTHER


@lean_part
def _name(raw: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return the field of a name, and where the field's value begins or `_UNSURE`."""
    if not _begins(raw, at, end, _QUOTE):
        return _OTHER, _UNSURE
    quote = _plain_end(raw, at + 1, end)
    if quote < 0:
        return _OTHER, _UNSURE
    field = _field(raw, at + 1, quote)
    at = _after_space(raw, quote + 1, end)
    if not _begins(raw, at, end, _COLON):
        return _OTHER, _UNSURE
    return field, _after_space(raw, at + 1, end)


@lean_inlined
def _read_value(raw: Bytes, at: int, end: int, field: int, scale: float, whole: Int64s, real: Float64s) -> int:
    """Read the value of one of a sample's fields, or an id within its quotes; return where it ends or `_UNSURE`."""
    if field == _ID:
        first = at
        at = _plain_end(raw, at, end)
        if not first < at <= first + MAX_DEVICE_ID_BYTES:
            return _UNSURE
        whole[_ID_AT], whole[_ID_END] = first, at
    elif field == _TIMESTAMP:
        whole[_TIME], at = _time(raw, at, end)
    else:
        real[_AXES + field - _X], at = _axis(raw, at, end, scale)
    return at


@lean_inlined
def _read_like(raw: Bytes, at: int, end: int, scale: float, gaps: Int64s, whole: Int64s, real: Float64s) -> bool:
    """Read a sample that differs from the last one only in its values; return whether it does, and all is sure.

    A word can be read after each of the two.
    """
    for k in range(_VALUES):
        size = gaps[_GAP_SIZE, k]
        if size > end - at or not _same(raw, gaps[_GAP, k], at, size):
            return False
        at = _read_value(raw, at + size, end, gaps[_GAP_FIELD, k], scale, whole, real)
        if at < 0:
            return False
    size = gaps[_GAP_SIZE, _VALUES]
    return bool(size == end - at and _same(raw, gaps[_GAP, _VALUES], at, size))


@lean_part
def _read_rows(raw: Bytes, at: int, end: int, scale: float, xyz: Float32s, row: int) -> tuple[int, int]:
    """Read a chunk's readings into `xyz` from `row` on; return how many, or `_NO_ROOM`, and the place or `_UNSURE`."""
    if not _begins(raw, at, end, _OPEN_LIST):
        return 0, _UNSURE
    count = 0
    at = _after_space(raw, at + 1, end)
    while count < MAX_READINGS and _begins(raw, at, end, _OPEN_LIST):
        if row + count >= len(xyz):
            return _NO_ROOM, _UNSURE
        for axis in range(3):
            at = _after_space(raw, at + 1, end)
            value, at = _axis(raw, at, end, scale)
            if at < 0 or not abs(value) <= MAX_ACCELERATION:
                return 0, _UNSURE
            xyz[row + count, axis] = value
            at = _after_space(raw, at, end)
            if not _begins(raw, at, end, _COMMA if axis < 2 else _CLOSE_LIST):
                return 0, _UNSURE
        count += 1
        at = _after_space(raw, at + 1, end)
        if _begins(raw, at, end, _CLOSE_LIST):
            return count, at + 1
        if not _begins(raw, at, end, _COMMA):
            break
        at = _after_space(raw, at + 1, end)
    return 0, _UNSURE


@lean_part
def _read_other(
    raw: Bytes, at: int, end: int, field: int, scale: float, whole: Int64s, real: Float64s, xyz: Float32s, row: int
) -> int:
    """Read the value of a field that a sample doesn't have; return the place behind it or `_UNSURE`."""
    if field == _START:
        whole[_START_TIME], at = _time(raw, at, end)
    elif field == _RATE:
        real[_RATE_HZ], at = _rate(raw, at, end)
    elif field == _SAMPLES:
        whole[_COUNT], at = _read_rows(raw, at, end, scale, xyz, row)
    else:
        at = _after_value(raw, at, end)
    return at


@lean_part
def _read_object(
    raw: Bytes, at: int, end: int, scale: float, gaps: Int64s, whole: Int64s, real: Float64s, xyz: Float32s, row: int
) -> int:
    """Read the fields of any JSON message; return a bit for each field, `_UNSURE` or `_NO_ROOM`."""
    seen, values, gap = 0, 0, at
    at = _after_space(raw, at, end)
    more = _begins(raw, at, end, _OPEN_OBJECT)
    while more:
        field, at = _name(raw, _after_space(raw, at + 1, end), end)
        if at < 0 or (field == _SAMPLES and seen & 1 << _SAMPLES):
            return _UNSURE
        if field < _START:
            quote = field == _ID
            if quote and not _begins(raw, at, end, _QUOTE):
                return _UNSURE
            at += quote
            slot = min(values, _VALUES)  # a sixth value's place is overwritten by what is behind the last
            gaps[_GAP, slot], gaps[_GAP_SIZE, slot], gaps[_GAP_FIELD, slot] = gap, at - gap, field
            values += 1
            gap = _read_value(raw, at, end, field, scale, whole, real)
            if gap < 0:
                return _UNSURE
            at = gap + quote
        else:
            at = _read_other(raw, at, end, field, scale, whole, real, xyz, row)
            if at < 0:
                return _NO_ROOM if field == _SAMPLES and whole[_COUNT] == _NO_ROOM else _UNSURE
        seen |= 1 << field
        at = _after_space(raw, at, end)
        more = _begins(raw, at, end, _COMMA)
    if not _begins(raw, at, end, _CLOSE_OBJECT) or _after_space(raw, at + 1, end) != end:
        return _UNSURE
    gaps[_GAP, _VALUES] = gap
    gaps[_GAP_SIZE, _VALUES] = end - gap if values == _VALUES else _UNSURE
    return seen


@lean_inlined
def _set_times(start: int, count: int, rate_hz: float, latest: int, times: Int64s, row: int) -> bool:
    """Set the times of a chunk's readings; return whether all of them are allowed."""
    last = start + (count - 1) * 1000 / rate_hz + 0.5
    if not last < MAX_TIMESTAMP_MS or np.int64(np.floor(last)) > latest:
        return False
    for k in range(count):
        times[row + k] = np.int64(np.floor(start + k * 1000 / rate_hz + 0.5))
    return True


@lean_part
def _read_binary(
    raw: Bytes, at: int, end: int, scale: float, latest: int, times: Int64s, xyz: Float32s, row: int
) -> int:
    """Read a binary chunk; return how many readings it has, `_UNSURE` or `_NO_ROOM`."""
    if end - at < _BINARY_HEAD or _byte(raw, at) != BINARY_VERSION or _byte(raw, at + 1) != 0:
        return _UNSURE
    count = _byte(raw, at + 2) | _byte(raw, at + 3) << 8
    if not 0 < count <= MAX_READINGS or end - at != _BINARY_HEAD + count * BINARY_READING_BYTES:
        return _UNSURE
    if count > len(xyz) - row:
        return _NO_ROOM
    rate_hz = float(_float32(raw, at + 4))
    start = int(np.int64(_word(raw, at + 8)))
    if not 0 < rate_hz <= MAX_RATE_HZ or not -MAX_TIMESTAMP_MS <= start <= MAX_TIMESTAMP_MS:
        return _UNSURE
    at += _BINARY_HEAD
    for k in range(count):
        for axis in range(3):
            value = float(_float32(raw, at)) * scale
            if not abs(value) <= MAX_ACCELERATION:
                return _UNSURE
            xyz[row + k, axis] = value
            at += 4
    return count if _set_times(start, count, rate_hz, latest, times, row) else _UNSURE


@lean_inlined
def _float32(raw: Bytes, at: int) -> np.float32:
    bits = (
        np.uint32(_byte(raw, at))
        | np.uint32(_byte(raw, at + 1)) << np.uint32(8)
        | np.uint32(_byte(raw, at + 2)) << np.uint32(16)
        | np.uint32(_byte(raw, at + 3)) << np.uint32(24)
    )
    return np.uint32(bits).view(np.float32)


@lean_inlined
def _read_json(
    raw: Bytes,
    at: int,
    end: int,
    scale: float,
    latest: int,
    like: bool,
    gaps: Int64s,
    whole: Int64s,
    real: Float64s,
    times: Int64s,
    xyz: Float32s,
    row: int,
) -> tuple[int, bool]:
    """Return how many readings a message has, `_UNSURE` or `_NO_ROOM`, and whether the next may be read like it."""
    if end - at > MAX_JSON_BYTES:
        return _UNSURE, False
    fits = end <= len(raw) - _WORD
    if like and fits and _read_like(raw, at, end, scale, gaps, whole, real):
        seen = _OF_A_SAMPLE
    else:
        seen = _read_object(raw, at, end, scale, gaps, whole, real, xyz, row)
        if seen < 0:
            return seen, False
        like = fits and gaps[_GAP_SIZE, _VALUES] >= 0
    if seen & 1 << _SAMPLES:
        if seen & _OF_A_CHUNK != _OF_A_CHUNK or not 0 < real[_RATE_HZ] <= MAX_RATE_HZ:
            return _UNSURE, False
        count = whole[_COUNT]
        may_be = _set_times(whole[_START_TIME], count, real[_RATE_HZ], latest, times, row)
        return count if may_be else _UNSURE, False
    if seen & _OF_A_SAMPLE != _OF_A_SAMPLE or whole[_TIME] > latest:
        return _UNSURE, False
    for axis in range(3):
        if not abs(real[_AXES + axis]) <= MAX_ACCELERATION:
            return _UNSURE, like
        xyz[row, axis] = real[_AXES + axis]
    times[row] = whole[_TIME]
    return 1, like


@lean_part
def _is_id(raw: Bytes, at: int, end: int) -> bool:
    """Return whether a record's key is a device id."""
    if not 0 <= at < end <= len(raw) or end - at > MAX_DEVICE_ID_BYTES:
        return False
    while 0 <= at < end:
        at = at + 1 if _byte(raw, at) <= _LARGEST_ASCII else _after_character(raw, at, end)
    return at == end


def scratch() -> tuple[Int64s, Int64s, Float64s]:
    """Return the scratch arrays of `scan`."""
    return np.zeros((3, _VALUES + 1), np.int64), np.zeros(_COUNT + 1, np.int64), np.zeros(_RATE_HZ + 1)


@lean_entry
def scan(
    raw: Bytes,
    key: Int64s,
    key_end: Int64s,
    value: Int64s,
    value_end: Int64s,
    end: Int64s,
    timestamp: Int64s,
    max_ahead_ms: int,
    scale: float,
    index: int,
    id_at: Int64s,
    id_end: Int64s,
    timestamp_ms: Int64s,
    xyz: Float32s,
    record: Int32s,
    row: int,
    unsure: Int32s,
    left: int,
    gaps: Int64s,
    whole: Int64s,
    real: Float64s,
) -> tuple[int, int, int]:
    """Read records from `index` on, until the columns have no room for the next one.

    Args:
        raw: uint8[m], the bytes in which the records lie; read-only.
        key, key_end, value, value_end, end, timestamp: int64[n], rows of the records' places
            (`ingest.record_batches.record_places`).
        max_ahead_ms: how far after its record's timestamp a reading may lie; at most `FURTHEST_AHEAD`.
        scale: the factor from the axes' unit to m/s^2.
        index: the first record to read.
        id_at, id_end, timestamp_ms, xyz, record: the columns of `ingest.messages.readings`, int64[r] or int32[r] and
            float32[r, 3], to be filled from `row` on.
        row: how many rows are filled.
        unsure: int32[n], to be filled from `left` on with the records that are left to the caller.
        left: how many of them there are.
        gaps, whole, real: the arrays of `scratch`.

    Returns:
        the next record to read, how many rows are filled, and how many records were left

    """
    like, headers, content = False, -1, _JSON
    while index < len(value) and row < len(record):
        at, stop, last = value[index], value_end[index], end[index]
        count = _UNSURE
        if 0 <= at <= stop < last <= len(raw):
            if last - stop == 1:
                content = _JSON if raw[stop] == 0 else _UNSURE
                headers = -1
            elif (
                headers < 0
                or last > len(raw) - _WORD
                or last - stop != end[headers] - value_end[headers]
                or not _same(raw, value_end[headers], stop, last - stop)
            ):
                content = _content(raw, stop, last)
                headers = index if last <= len(raw) - _WORD else -1
            latest = min(max(timestamp[index], -_FURTHEST), _FURTHEST) + max_ahead_ms
            if content == _JSON:
                count, like = _read_json(raw, at, stop, scale, latest, like, gaps, whole, real, timestamp_ms, xyz, row)
            elif content == _BINARY and _is_id(raw, key[index], key_end[index]):
                whole[_ID_AT], whole[_ID_END] = key[index], key_end[index]
                count = _read_binary(raw, at, stop, scale, latest, timestamp_ms, xyz, row)
        if count == _NO_ROOM:
            break
        if count == _UNSURE:
            unsure[left] = index
            left += 1
        for k in range(row, row + count):
            id_at[k] = whole[_ID_AT]
            id_end[k] = whole[_ID_END]
            record[k] = index
        row += max(0, count)
        index += 1
    return index, row, left
