"""The decoder against the slow reference: on good messages, on damaged ones and on anything at all."""

import json
import math
import struct
from datetime import datetime
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ingest.both_ways import decode_both_ways as decode
from tests.ingest.records import BINARY, KAFKA_MS, HandMade, binary_chunk
from tests.ingest.reference import reference_decode

SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

odd_characters = st.sampled_from('ab"\\/{[\x00\n\x7fé\u2028手😀')
texts = st.text(odd_characters, max_size=6)
device_ids = st.text(odd_characters, min_size=1, max_size=20)
axes = st.one_of(st.floats(-1000, 1000), st.integers(-1000, 1000), st.floats(-20, 20, width=32))
times = st.one_of(st.integers(-(2**53), KAFKA_MS + 3_600_000), st.integers(1_600_000_000_000, KAFKA_MS))
iso_times = st.builds(
    lambda moment, digits, offset: moment.isoformat(timespec="seconds") + digits + offset,
    st.datetimes(min_value=datetime(1900, 1, 1)),
    st.one_of(st.just(""), st.from_regex(r"[.,][0-9]{1,12}", fullmatch=True)),
    st.sampled_from(["Z", "+00:00", "-11:30", "+0545", "+14"]),
)
rates = st.floats(0.001, 1000)
any_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=4,
)
names = st.sampled_from(["device_id", "timestamp", "x", "y", "z", "start", "rate_hz", "samples"])


@st.composite
def json_text(draw: st.DrawFn, fields: dict[str, Any]) -> bytes:
    """The fields in any order, with any spacing, and characters escaped or not."""
    items = draw(st.permutations(list(fields.items())))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), ("\n,", " :\t")]))
    return json.dumps(dict(items), ensure_ascii=draw(st.booleans()), separators=separators).encode()


@st.composite
def samples(draw: st.DrawFn) -> HandMade:
    extra = draw(st.dictionaries(texts, any_json, max_size=2))
    fields = extra | {
        "device_id": draw(device_ids),
        "timestamp": draw(st.one_of(times, iso_times)),
        "x": draw(axes),
        "y": draw(axes),
        "z": draw(axes),
    }
    return HandMade(draw(json_text(fields)))


@st.composite
def chunks(draw: st.DrawFn) -> HandMade:
    fields = draw(st.dictionaries(texts, any_json, max_size=2)) | {
        "device_id": draw(device_ids),
        "start": draw(st.one_of(times, iso_times)),
        "rate_hz": draw(st.one_of(rates, st.integers(1, 1000))),
        "samples": draw(st.lists(st.tuples(axes, axes, axes), min_size=1, max_size=6)),
    }
    return HandMade(draw(json_text(fields)), draw(st.one_of(st.none(), st.binary(max_size=4))))


@st.composite
def binary_chunks(draw: st.DrawFn) -> HandMade:
    narrow = st.floats(-1000, 1000, width=32)
    rows = draw(st.lists(st.tuples(narrow, narrow, narrow), min_size=1, max_size=6))
    value = binary_chunk(rows, start=draw(times), rate_hz=draw(rates))
    return HandMade(value, draw(device_ids).encode(), [*BINARY])


good_records = st.one_of(samples(), chunks(), binary_chunks())


@st.composite
def damaged_records(draw: st.DrawFn) -> HandMade:
    """A good record in which some bytes were flipped, put in, taken out or doubled."""
    record = draw(good_records)
    value = bytearray(record.value or b"")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        kind = draw(st.sampled_from(["flip", "set", "put", "cut", "double", "end"]))
        if kind == "flip" and at < len(value):
            value[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and at < len(value):
            value[at] = draw(st.sampled_from(b'0123456789.-+eE"[]{},:\\ntfu \x00\xff'))
        elif kind == "put":
            value[at:at] = draw(st.sampled_from([b"1e999", b"NaN", b"-", b"\\ud800", b"[", b"}", b"null", b"\xed"]))
        elif kind == "cut":
            del value[at : at + draw(st.integers(1, 20))]
        elif kind == "double":
            value[at:at] = value[at : at + draw(st.integers(1, 20))]
        else:
            del value[at:]
    return HandMade(bytes(value), record.key, record.headers)


@st.composite
def mistaken_records(draw: st.DrawFn) -> HandMade:
    """JSON objects with the contract's names, but any values, in any number, perhaps twice."""
    number = st.one_of(axes, st.floats(allow_nan=False), st.integers(-(2**70), 2**70))
    near = st.one_of(
        any_json,
        number,
        iso_times,
        device_ids,
        st.text(st.sampled_from("é😀\ud800a"), max_size=130),
        st.lists(st.lists(number, min_size=2, max_size=4), max_size=3),
        st.lists(st.lists(number, min_size=3, max_size=3), max_size=3),
    )
    items = draw(st.lists(st.tuples(names, near), max_size=9))
    start = draw(st.one_of(samples(), chunks())).value or b""
    more = "".join(f",{json.dumps(name)}:{json.dumps(value, allow_nan=True)}" for name, value in items)
    return HandMade(start[:-1] + more.encode() + b"}")


def assert_agrees_with_reference(records: list[HandMade], scale: float = 1.0) -> None:
    readings, rejections = decode(records, scale=scale)
    expected = [
        reference_decode(record.value, record.key, record.headers, record.timestamp, 3_600_000, scale)
        for record in records
    ]
    assert [rejection.record for rejection in rejections] == [k for k, rows in enumerate(expected) if rows is None]
    rows = [(k, row) for k, good in enumerate(expected) if good is not None for row in good]
    assert readings.record.tolist() == [k for k, _ in rows]
    assert readings.device_ids() == [row[0] for _, row in rows]
    assert readings.timestamp_ms.tolist() == [row[1] for _, row in rows]
    np.testing.assert_array_equal(readings.xyz, np.array([row[2:] for _, row in rows], np.float32).reshape(-1, 3))


@SETTINGS
@given(st.lists(good_records, max_size=6), st.sampled_from([1.0, 0.5, 0.00980665]))
def test_good_records_are_read_as_the_reference_reads_them(records: list[HandMade], scale: float) -> None:
    assert_agrees_with_reference(records, scale)


@SETTINGS
@given(st.lists(good_records, min_size=1, max_size=4))
def test_good_records_are_good(records: list[HandMade]) -> None:
    records = [HandMade(r.value, r.key, r.headers, 2**62) for r in records]
    readings, rejections = decode(records)
    assert rejections == []
    assert sorted(set(readings.record.tolist())) == list(range(len(records)))


@SETTINGS
@given(st.lists(st.one_of(good_records, damaged_records()), max_size=5))
def test_damaged_records_are_judged_as_the_reference_judges_them(records: list[HandMade]) -> None:
    assert_agrees_with_reference(records)


@SETTINGS
@given(st.lists(mistaken_records(), max_size=4), st.sampled_from([1.0, 9.80665]))
def test_mistaken_records_are_judged_as_the_reference_judges_them(records: list[HandMade], scale: float) -> None:
    assert_agrees_with_reference(records, scale)


@SETTINGS
@given(
    st.lists(
        st.builds(
            HandMade,
            st.one_of(st.none(), st.binary(), any_json.map(lambda v: json.dumps(v).encode())),
            st.one_of(st.none(), st.binary()),
            st.lists(
                st.tuples(
                    st.one_of(texts, st.just("content-type")),
                    st.one_of(
                        st.none(),
                        st.binary(),
                        st.sampled_from([b"application/json", b"application/vnd.stridecast.chunk"]),
                    ),
                ),
                max_size=2,
            ),
            st.integers(-1, 2**63 - 1),
        ),
        max_size=4,
    )
)
def test_anything_at_all_is_read_or_refused(records: list[HandMade]) -> None:
    assert_agrees_with_reference(records)


@SETTINGS
@given(st.binary(min_size=12, max_size=12), st.integers(-(2**53), 2**53), st.integers(1, 2**31 - 1), st.integers(1, 40))
def test_any_bits_of_a_binary_chunk_are_read_or_refused(row: bytes, start: int, rate_bits: int, count: int) -> None:
    head = struct.pack("<BBHIq", 1, 0, count, rate_bits, start)
    assert_agrees_with_reference([HandMade(head + row * count, b"a", [*BINARY], 2**62)])


@SETTINGS
@given(axes, st.floats(0.01, 100))
def test_a_scaled_axis_is_rounded_once(value: float, scale: float) -> None:
    readings, rejections = decode(
        [HandMade(json.dumps({"device_id": "a", "timestamp": 0, "x": value, "y": 0, "z": 0}).encode())], scale=scale
    )
    if math.fabs(value * scale) <= 1000:
        assert readings.xyz[0, 0] == np.float32(value * scale)
    else:
        assert [rejection.reason for rejection in rejections] == ["out_of_range"]
