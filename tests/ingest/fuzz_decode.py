"""Holds the compiled decoding against the one by one, over mutated messages; as many as one likes.

    python -m tests.ingest.fuzz_decode --messages 3000000 --seed 1

It stops at the first difference, in any bit of a reading or any word of a rejection, and shows the record.
"""

import argparse
import json
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from ingest.contract import MAX_JSON_BYTES
from ingest.messages.decode import decode
from tests.ingest.both_ways import assert_same, columns_of
from tests.ingest.records import KAFKA_MS, HandMade

PIECE = 300

TOKENS = [
    *(b'"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b"-", b"+", b".", b"e", b"E", b"0", b"00", b"9", b" ", b"\n"),
    *(b"1e999", b"1e-400", b"-0", b"-0.0", b"0e5", b"1e22", b"1e23", b"1e-22", b"1e-23", b"e+3", b"E-2", b".0", b"000"),
    *(b"9007199254740993", b"18446744073709551616", b"99999999999999999", b"999999999999999999", b"1" * 40, b"NaN"),
    *(b"null", b"true", b"false", b"nul", b"tru", b"{}", b"[]", b"[[]]", b'{"a":[1,{"b":""}]}', b"[" * 70, b"]" * 70),
    *(b'""', b'"a"', b'"x":', b'"x":1,', b'"samples":', b'"samples":[[1,2,3]],', b'"device_id":"b",'),
    *(b'"timestamp":7,', b'"start":1,', b'"rate_hz":20,', b'"\\ud800":1,'),
    *(b"\\u0041", b"\\uD83D\\uDE00", b"\\n", b"\\/", b"\\x", b"\\u12G4"),
    *(b"\x00", b"\x1f", b"\x7f", b"\x80", b"\xc3\xa9", b"\xc0\x80", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80"),
    *(b"\xf4\x90\x80\x80", b"\xe6\x89\x8b", b"\xff", b"\xef\xbb\xbf", b"/", b"//", b"'", b"\t"),
    *(b"\r", b"\v", b"Z", b"+01:00", b"T", b"-12"),
]  # fmt: skip
NAMES = [
    "device_id",
    "timestamp",
    "x",
    "y",
    "z",
    "start",
    "rate_hz",
    "samples",
    "sample",
    "Start",
    "",
    "é",
    "a\tb",
    "手",
]
TYPES = [
    b"application/json",
    b"application/vnd.stridecast.chunk",
    b"application/json; charset=utf-8",
    b"Application/JSON",
    b"application/vnd.stridecast.chunk;v=1",
    b"text/plain",
    b"",
    None,
]

Layout = Callable[[], HandMade]


# --- Messages as they might be sent ------------------------------------------------------------------------------


def number(rng: random.Random) -> str:
    kind = rng.randrange(60)
    value = rng.gauss(0, rng.choice([1, 9.81, 200, 1e-3]))
    if kind < 22:
        return repr(round(value, rng.randrange(1, 8)))
    if kind < 32:
        return repr(float(np.float32(value)))
    if kind < 40:
        return repr(value)
    if kind < 46:
        return f"{value:.{rng.randrange(20)}{rng.choice('eEf')}}"
    if kind < 50:
        return str(round(value))
    if kind < 55:  # between two float32s, or a hair beside
        low = np.float32(value)
        middle = (float(low) + float(np.nextafter(low, np.float32(2000)))) / 2
        return f"{np.nextafter(middle, rng.choice([-2000, middle, 2000])):.{rng.randrange(15, 20)}g}"
    if kind == 55:
        return f"{rng.choice([1000, -1000, 999.9999999999999, 101.97162129779283]):.{rng.randrange(1, 20)}g}"
    if kind == 56:
        return f"{rng.getrandbits(rng.randrange(1, 70))}e{rng.randrange(-60, 25)}"
    return rng.choice(["0", "-0", "0.0", "-0.0", "0e0", "1E2", "-1e+2", "1e-7", "0.1e1", "0.00000000000000000000012"])


def moment(rng: random.Random) -> str:
    kind = rng.randrange(16)
    if kind < 11:
        return str(KAFKA_MS - rng.randrange(10**6))
    if kind < 12:
        return str(rng.choice([0, -1, 2**53, -(2**53), 2**53 + 1, KAFKA_MS + 3_600_000, KAFKA_MS + 3_600_001]))
    when = datetime.fromtimestamp(rng.randrange(-(10**10), KAFKA_MS // 1000), UTC)
    text = when.strftime(f"%Y-%m-%d{rng.choice('T ')}%H:%M{rng.choice(['', ':%S', ':%S'])}").zfill(16)
    if text.count(":") == 2:
        text += rng.choice(["", ".5", ",25", ".050", ".0509999999", ".000001", "."])
    offset = rng.choice(["Z", "Z", "+00:00", "-11:30", "+0545", "+14", "-12", rng.choice(["+24:00", "+01:60", ""])])
    return f'"{text}{offset}"'


def name(rng: random.Random) -> str:
    kind = rng.randrange(40)
    if kind < 35:
        return f"phone-{rng.randrange(1000)}"
    if kind < 38:
        return "".join(rng.choice('ab"\\/{[\x00\n\x7fé\u2028手😀') for _ in range(rng.randrange(6)))
    return rng.choice(["a", "é", "手", "😀"]) * rng.choice([1, 2, 32, 33, 42, 43, 64, 65, 128, 129])


def anything(rng: random.Random, depth: int = 0) -> str:
    kind = rng.randrange(8 if depth < 4 else 6)
    if kind < 2:
        return number(rng)
    if kind < 3:
        return rng.choice(["null", "true", "false"])
    if kind < 6:
        return json.dumps(name(rng), ensure_ascii=rng.random() < 0.5)
    space = rng.choice(["", "", " ", "\n\t"])
    inner = [anything(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == 6:
        return "[" + space + ("," + space).join(inner) + space + "]"
    return "{" + ("," + space).join(f"{json.dumps(name(rng))}{space}:{space}{each}" for each in inner) + "}"


def rows(rng: random.Random, count: int, space: str) -> str:
    comma = "," + space
    return "[" + comma.join("[" + comma.join(number(rng) for _ in range(3)) + "]" for _ in range(count)) + "]"


def layout(rng: random.Random) -> Layout:
    """A producer: what makes messages that are alike but for their values."""
    headers = [("content-type", TYPES[0])] if rng.random() < 0.3 else []
    if rng.random() < 0.2:
        return lambda: binary(rng)
    chunk = rng.random() < 0.3
    values: dict[str, Callable[[], str]] = {"device_id": lambda: json.dumps(name(rng), ensure_ascii=escaped)}
    space, around, escaped = rng.choice([" ", "", "", "\n "]), rng.choice(["", "", "", " "]), rng.random() < 0.5
    if chunk:
        values["start"] = lambda: moment(rng)
        values["rate_hz"] = lambda: rng.choice(
            ["20", "99.5", "50.0", "1000", "1e2", "304", "33.333333333333336", "0.5"]
        )
        values["samples"] = lambda: rows(rng, rng.choice([1, 1, 2, 5]), space)
    else:
        values["timestamp"] = lambda: moment(rng)
        values |= dict.fromkeys("xyz", lambda: number(rng))
    names = list(values)
    if rng.random() < 0.3:
        for _ in range(rng.randrange(3)):
            other = rng.choice([*NAMES, "u", "battery"])
            fixed = anything(rng)
            values.setdefault(other, partial(anything, rng) if rng.random() < 0.5 else partial(str, fixed))
            names.insert(rng.randrange(len(names) + 1), other)
    if rng.random() < 0.3:
        rng.shuffle(names)

    def message() -> HandMade:
        fields = (f"{json.dumps(each, ensure_ascii=escaped)}{around}:{space}{values[each]()}" for each in names)
        return HandMade((around + "{" + f",{space}".join(fields) + "}" + around).encode(), b"k", headers)

    return message


def binary(rng: random.Random) -> HandMade:
    count = rng.choice([1, 1, 2, 7])
    rate = rng.choice([20.0, 99.5, 1000.0, 0.1, rng.choice([1e-9, 1e-45, 0.0, float("nan"), 1000.1])])
    start = KAFKA_MS - rng.randrange(10**6)
    head = struct.pack("<BBHfq", 1, 0, count, rate, rng.choice([start] * 9 + [-(2**53), 2**53, 2**63 - 1]))
    axes = (
        rng.gauss(0, 200) if rng.random() < 0.97 else rng.choice([1e-45, 3e38, float("nan"), -0.0, 1000.0])
        for _ in range(3 * count)
    )
    key = rng.choice([b"phone-17", b"phone-18", name(rng).encode(), rng.choice([None, b"\xff", "é".encode()[:1]])])
    return HandMade(head + struct.pack(f"<{3 * count}f", *axes), key, [("content-type", TYPES[1])])


# --- Damage ----------------------------------------------------------------------------------------------------------


def damaged(record: HandMade, rng: random.Random) -> HandMade:
    value = bytearray(record.value or b"")
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        damage(value, rng)
    record = replace(record, value=bytes(value))
    kind = rng.random()
    if kind < 0.05:
        content: Any = [(rng.choice(["content-type", "content-typf", "Content-Type", "trace"]), rng.choice(TYPES))]
        record = replace(
            record, headers=rng.choice([content, [*record.headers, *content], [*content, *record.headers]])
        )
    elif kind < 0.07:
        record = replace(record, timestamp=rng.choice([-1, 0, KAFKA_MS - 3_700_000, 2**62 + 5, 2**63 - 1, -(2**61)]))
    elif kind < 0.08:
        record = replace(record, key=rng.choice([None, b"", b"a" * 129, b"\xff", b"a"]))
    elif kind < 0.083:
        record = replace(record, value=None)
    elif kind < 0.0835:
        size = MAX_JSON_BYTES + rng.choice([-1, 0, 1, 9])
        record = replace(record, value=bytes(value.ljust(size) if rng.random() < 0.5 else value.rjust(size)))
    elif kind < 0.085:
        more = [("trace", b"%d" % k) for k in range(rng.choice([99, 100, 101, 104, 105, 200]))]
        record = replace(record, headers=rng.choice([[*more, *record.headers], [*record.headers, *more]]))
    return record


def damage(value: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(value) + 1)
    kind = rng.randrange(10)
    if kind == 0 and at < len(value):
        value[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(value):
        value[at] = rng.choice(b'0123456789.-+eE"[]{},:\\ntfu \x00\xff')
    elif kind == 2:
        del value[at : at + rng.choice([1, 1, 2, 5, 20])]
    elif kind <= 4:
        value[at:at] = rng.choice(TOKENS)
    elif kind == 5:
        value[at:at] = value[at : at + rng.randrange(1, 30)]
    elif kind == 6:
        del value[at:]
    elif kind == 7:
        other = rng.randrange(len(value) + 1)
        value[at : at + 8], value[other : other + 8] = value[other : other + 8], value[at : at + 8]
    else:
        digits = [k for k, byte in enumerate(value) if 48 <= byte <= 57]
        if digits:
            at = rng.choice(digits)
            value[at : at + rng.randrange(2)] = rng.choice(
                [b"0", b"1", b"9", b".", b"e", b"-", b"123456", b"0" * 12, b""]
            )


# --- The comparison ----------------------------------------------------------------------------------------------


def piece(rng: random.Random, size: int) -> list[HandMade]:
    records: list[HandMade] = []
    while len(records) < size:
        produce = layout(rng)
        for _ in range(rng.choice([2, 4, 8])):
            records.append(produce())
            if rng.random() < 0.7:
                records.append(damaged(rng.choice([records[-1], produce()]), rng))
    return records[:size]


def compare(rng: random.Random, size: int = PIECE) -> tuple[int, int]:
    """Decode a piece both ways; return how many of its records were good, and how many readings there are."""
    records = piece(rng, size)
    options: Any = {
        "scale": rng.choice([1.0, 1.0, 9.80665, 0.00980665, 1e-30, -0.5]),
        "max_ahead_ms": rng.choice([3_600_000] * 6 + [0, -5, 10**14, 2**62, 2**70]),
    }
    readings, rejections = expected = decode(records, **options)
    try:
        assert_same(expected, decode(columns_of(records, rng.randbytes(rng.choice([0, 3, 40]))), **options))
    except AssertionError:
        _show(records, options)
        raise
    return size - len(rejections), len(readings.record)


def _show(records: list[HandMade], options: Any) -> None:
    for k in range(len(records)):
        try:
            some = records[max(0, k - 1) : k + 1]
            assert_same(decode(some, **options), decode(columns_of(some), **options))
        except AssertionError:
            print(f"read differently, with {options}, after its forerunner:\n{records[max(0, k - 1)]}\n{records[k]}")
            return
    print(f"read differently only together, with {options}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=3_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    done = good = readings = shown = 0
    while done < options.messages:
        more = compare(rng)
        done, good, readings = done + PIECE, good + more[0], readings + more[1]
        if done >= shown + 30_000 or done >= options.messages:
            shown = done
            print(f"{done:,} messages, of which {good:,} good, with {readings:,} readings: no difference", flush=True)


if __name__ == "__main__":
    main()
