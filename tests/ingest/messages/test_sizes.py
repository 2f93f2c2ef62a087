"""How large a record may be: what fits is read, what doesn't is refused before anything is made of it."""

import gc
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.contract import max_text_value
from ingest.messages.dead_letters import dead_letter
from ingest.messages.decode import decode
from ingest.messages.json_objects import read_object
from ingest.messages.texts import decode_texts
from ingest.record import Headers
from ingest.record_batches.record_columns import Records
from ingest.rejections import Refused
from tests.ingest.both_ways import assert_same, columns_of, decode_both_ways
from tests.ingest.fuzz_decode import damaged, layout
from tests.ingest.records import BINARY, KAFKA_MS, HandMade, binary_chunk, chunk, sample, text
from tests.ingest.reference import reference_decode

LARGEST = 2_097_152
TOO_LARGE = ["too_large"]


def reasons(*records: HandMade) -> list[str]:
    return [rejection.reason.value for rejection in decode_both_ways(records)[1]]


# --- Values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [sample(), chunk()])
def test_a_json_value_of_2_mb_is_read_and_one_byte_more_is_refused(value: bytes) -> None:
    unknown = value[:-1] + b',"u":"%s"}' % (b"x" * (LARGEST - len(value) - len(b',"u":""')))
    for largest in (value.ljust(LARGEST), value.rjust(LARGEST), unknown):
        assert len(largest) == LARGEST
        assert reasons(HandMade(largest)) == []
        assert reasons(HandMade(largest + b" ")) == TOO_LARGE


def test_the_detail_says_how_large_it_is_and_quotes_nothing() -> None:
    (rejection,) = decode_both_ways([HandMade(b"[" * 3_000_000)])[1]
    assert rejection.detail == "the value has 3000000 bytes; 2097152 is the limit"


def test_a_full_chunk_fits_with_17_digits_and_each_axis_on_a_line_of_its_own() -> None:
    values = {"device_id": "手" * 42, "start": 1, "rate_hz": 99.5, "samples": [[-12.345678901234567] * 3] * 20_000}
    value = json.dumps(values, indent=2).encode()
    assert 1_800_000 < len(value) < LARGEST
    readings, rejections = decode_both_ways([HandMade(value)])
    assert rejections == []
    assert len(readings.record) == 20_000


def test_a_binary_chunk_is_as_long_as_it_says_and_no_longer() -> None:
    full = binary_chunk([(1, 2, 3)] * 20_000, start=0)
    assert reasons(HandMade(full, b"a", BINARY)) == []
    assert reasons(HandMade(full.ljust(LARGEST + 1), b"a", BINARY)) == ["bad_binary"]


def test_what_is_too_large_is_looked_at_no_further() -> None:
    """Of 100 MB in a request of kilobytes Python's parser made 3.5 GB, and no other thread ran for half a minute.

    The group's session expired meanwhile, and whoever had the partition next was given the record again.
    """
    for value in (b"[", b"[],", b'{"a":', b'"', b"\xff", b"1"):
        repeated = value * (LARGEST // len(value) + 1)
        assert reasons(HandMade(repeated), HandMade(sample())) == TOO_LARGE


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from([-1, 0, 1, 2, 1000]), st.booleans(), st.booleans())
def test_records_about_the_limit_are_read_as_the_reference_reads_them(
    seed: int, over: int, before: bool, harm: bool
) -> None:
    rng = random.Random(seed)
    record = layout(rng)()
    if harm:
        record = damaged(record, rng)
    if record.value is None:
        return
    padded = record.value.rjust(LARGEST + over) if before else record.value.ljust(LARGEST + over)
    record = HandMade(padded, record.key, record.headers)
    expected = reference_decode(record.value, record.key, record.headers, KAFKA_MS, 3_600_000, 1.0)
    readings, rejections = decode(columns_of([record]))
    assert readings.timestamp_ms.tolist() == [row[1] for row in expected or []]
    assert_same((readings, rejections), decode([record]))


def test_a_text_may_be_escaped_all_over_and_have_a_megabyte_beside_it() -> None:
    value = b'{"id": "a", "u": "%s", "text": "%s"}' % (b"x" * 1_048_000, b"\\u0041" * 65_536)
    assert len(value) < max_text_value(65_536) == 1_441_792
    assert decode_texts([HandMade(value), HandMade(value.ljust(1_441_792))])[1] == []
    (rejection,) = decode_texts([HandMade(value.ljust(1_441_793))])[1]
    assert rejection.reason == "too_large"
    assert rejection.detail == "the value has 1441793 bytes; 1441792 is the limit"


def test_a_text_that_may_be_longer_may_come_in_a_longer_value() -> None:
    value = text(text="é" * 500_000)
    assert len(value) > 2_000_000
    assert decode_texts([HandMade(value)], max_bytes=1_000_000)[1] == []
    assert [bad.reason for bad in decode_texts([HandMade(value)], max_bytes=999_999)[1]] == TOO_LARGE


@pytest.mark.parametrize("value", [b"{}", b'{"a": [[], {}]}', b"[", b"NaN", b"\xff"])
def test_garbage_is_collected_again_after_a_value_was_read(value: bytes) -> None:
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            read_object(value)
        except Refused:
            pass
        finally:
            still = gc.isenabled()
            gc.enable()
        assert still == enabled


# --- Headers ------------------------------------------------------------------------------------------------------


def traced(count: int, value: bytes | None = None) -> HandMade:
    return HandMade(sample() if value is None else value, b"k", [(f"x{k}", b"%d" % k) for k in range(count)], offset=3)


def test_a_record_has_at_most_a_hundred_headers() -> None:
    assert reasons(traced(100)) == []
    for count in (101, 105, 106, 10_000):
        (rejection,) = decode_both_ways([traced(count)])[1]
        assert rejection.reason == "too_large"
        assert rejection.detail == "the record has more than 100 headers"
    assert decode_texts([traced(100, text())])[1] == []
    assert [bad.reason for bad in decode_texts(list(columns_of([traced(101, text())])))[1]] == TOO_LARGE


def test_a_content_type_behind_a_hundred_headers_is_not_looked_for() -> None:
    many: Headers = [*traced(100).headers, *BINARY]
    assert reasons(HandMade(binary_chunk([(1, 2, 3)]), b"a", many)) == TOO_LARGE
    assert reasons(HandMade(binary_chunk([(1, 2, 3)]), b"a", many[1:])) == []


def test_no_more_headers_are_read_than_a_dead_letter_has() -> None:
    """Headers of two bytes each became sixty million objects, of a batch of kilobytes."""
    (record,) = columns_of([traced(10_000)])
    assert list(record.headers) == list(traced(105).headers)
    assert list(Records.of([record])[0].headers) == list(record.headers)


def test_a_dead_letter_has_the_first_hundred_headers_and_its_own_and_is_read_back_whole() -> None:
    (record,) = columns_of([traced(10_000)])
    (rejection,) = decode([record])[1]
    letter = dead_letter(record, rejection, "accelerometer", 0)
    assert letter.headers[:100] == list(traced(100).headers)
    assert dict(letter.headers[100:])["source-offset"] == b"3"
    (back,) = columns_of([HandMade(letter.value, letter.key, letter.headers)])
    assert list(back.headers) == letter.headers
