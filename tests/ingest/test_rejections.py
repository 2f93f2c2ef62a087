"""Every kind of malformed record, each between good neighbours."""

import pytest

from ingest.rejections import MAX_DETAIL_CHARACTERS, Reason, Rejection
from tests.ingest.both_ways import decode_both_ways as decode
from tests.ingest.records import BINARY, KAFKA_MS, HandMade, binary_chunk, chunk, sample

DEEP = b"[" * 100_000
INT64_MAX = 2**63 - 1


def with_field(text: bytes) -> bytes:
    """A good sample with one more, unknown, field of this JSON text."""
    return sample()[:-1] + b',"unknown":' + text + b"}"


def of_type(content_type: bytes | None) -> HandMade:
    return HandMade(sample(), b"a", [("content-type", content_type)])


def binary(value: bytes, key: bytes | None = b"a") -> HandMade:
    return HandMade(value, key, BINARY)


WHOLE = binary_chunk([(1, 2, 3), (4, 5, 6)])
BAD = {
    Reason.NULL_VALUE: {
        "no value": HandMade(None),
        "no value but a key": HandMade(None, b"phone-17"),
        "no value of a binary chunk": HandMade(None, b"a", BINARY),
        "no value of an unknown type": HandMade(None, b"a", [("content-type", b"text/plain")]),
    },
    Reason.CONTENT_TYPE: {
        "unknown": of_type(b"text/plain"),
        "a variant of JSON": of_type(b"application/vnd.other+json"),
        "empty": of_type(b""),
        "null": of_type(None),
        "not UTF-8": of_type(b"\xff\xfe"),
        "almost ours": of_type(b"application/vnd.stridecast.chunk2"),
        "unknown after a known one": HandMade(
            sample(), None, [("content-type", b"application/json"), ("content-type", b"image/png")]
        ),
    },
    Reason.NOT_JSON: {
        "empty": HandMade(b""),
        "blank": HandMade(b"  \n"),
        "text": HandMade(b"hello"),
        "binary without a header": HandMade(WHOLE),
        "cut off": HandMade(sample()[:-1]),
        "cut off in a chunk": HandMade(chunk()[:-2]),
        "two objects": HandMade(sample() + sample()),
        "a byte too many": HandMade(sample() + b"\x00"),
        "a comma too many": HandMade(sample()[:-1] + b",}"),
        "single quotes": HandMade(sample().replace(b'"', b"'")),
        "a comment": HandMade(sample() + b"// hi"),
        "a byte order mark": HandMade(b"\xef\xbb\xbf" + sample()),
        "UTF-16": HandMade(sample().decode().encode("utf-16")),
        "null": HandMade(b"null"),
        "a number": HandMade(b"17"),
        "a string": HandMade(b'"samples"'),
        "an array of samples": HandMade(b"[" + sample() + b"]"),
        "NaN": HandMade(sample(x=float("nan"))),
        "Infinity": HandMade(sample(y=float("inf"))),
        "-Infinity": HandMade(sample(z=float("-inf"))),
        "NaN in a chunk": HandMade(chunk(samples=[[0, 0, float("nan")]])),
        "NaN in an unknown field": HandMade(with_field(b"NaN")),
        "a leading zero": HandMade(sample().replace(b"12.6805", b"012.6805")),
        "a leading plus": HandMade(sample().replace(b"12.6805", b"+12.6805")),
        "no digit before the point": HandMade(sample().replace(b"12.6805", b".6805")),
        "no digit after the point": HandMade(sample().replace(b"12.6805", b"12.")),
        "hexadecimal": HandMade(sample().replace(b"12.6805", b"0x1f")),
        "a decimal comma": HandMade(sample().replace(b"12.6805", b"12,6805")),
        "invalid UTF-8 in the id": HandMade(sample().replace(b"phone", b"ph\xf6ne")),
        "invalid UTF-8 in a field's name": HandMade(sample()[:-1] + b',"\xff":1}'),
        "invalid UTF-8 in an unknown field": HandMade(with_field(b'"\xc0\x80"')),
        "invalid UTF-8 in a chunk's unknown field": HandMade(chunk()[:-1] + b',"u":"\xed\xa0\x80"}'),
        "a control character": HandMade(with_field(b'"a\nb"')),
        "an unknown escape": HandMade(with_field(b'"\\q"')),
        "an unclosed unknown field": HandMade(with_field(b"[1")),
        "a hundred thousand levels, unclosed": HandMade(DEEP),
        "a hundred thousand levels": HandMade(DEEP + b"]" * 100_000),
        "a hundred thousand levels in an unknown field": HandMade(with_field(DEEP + b"]" * 100_000)),
        "a hundred thousand objects": HandMade(with_field(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)),
        "a hundred thousand levels of samples": HandMade(chunk()[:-1] + b',"samples":' + DEEP + b"]" * 100_000 + b"}"),
        "a hundred and one levels": HandMade(with_field(b"[" * 100 + b"]" * 100)),
        "a hundred and one levels in a chunk": HandMade(chunk()[:-1] + b',"u":' + b"[" * 100 + b"]" * 100 + b"}"),
        "many escaped quotes, unclosed": HandMade(b'{"' + b'\\"' * 500_000),
    },
    Reason.MISSING_FIELD: {
        "all": HandMade(b"{}"),
        "no device id": HandMade(sample(device_id=...)),
        "no timestamp": HandMade(sample(timestamp=...)),
        "no x": HandMade(sample(x=...)),
        "no z": HandMade(sample(z=...)),
        "another case": HandMade(sample().replace(b'"x"', b'"X"')),
        "no start": HandMade(chunk(start=...)),
        "no rate": HandMade(chunk(rate_hz=...)),
        "no device id in a chunk": HandMade(chunk(device_id=...)),
        "no samples, so no chunk": HandMade(chunk(samples=...)),
        "samples, so no sample": HandMade(sample(samples=[[0, 0, 0]])),
    },
    Reason.WRONG_TYPE: {
        "the id a number": HandMade(sample(device_id=17)),
        "the id null": HandMade(sample(device_id=None)),
        "the id null in a chunk": HandMade(chunk(device_id=None)),
        "the time a float": HandMade(sample(timestamp=1_700_000_000_050.0)),
        "the time with an exponent": HandMade(sample().replace(b"1700000000050", b"17e11")),
        "the time a boolean": HandMade(sample(timestamp=True)),
        "the time null": HandMade(sample(timestamp=None)),
        "the time an object": HandMade(sample(timestamp={})),
        "the start a float": HandMade(chunk(start=0.5)),
        "the start a boolean": HandMade(chunk(start=False)),
        "an axis a string": HandMade(sample(x="-0.6946")),
        "an axis a boolean": HandMade(sample(y=True)),
        "an axis null": HandMade(sample(z=None)),
        "an axis an array": HandMade(sample(z=[1])),
        "an axis first right, then wrong": HandMade(sample()[:-1] + b',"x":"1"}'),
        "the rate a string": HandMade(chunk(rate_hz="20")),
        "the rate a boolean": HandMade(chunk(rate_hz=True)),
        "the rate null": HandMade(chunk(rate_hz=None)),
        "samples null": HandMade(chunk(samples=None)),
        "samples an object": HandMade(chunk(samples={"x": [1], "y": [2], "z": [3]})),
        "samples a string": HandMade(chunk(samples="[[1,2,3]]")),
        "a row a number": HandMade(chunk(samples=[[1, 2, 3], 4])),
        "a row null": HandMade(chunk(samples=[None])),
        "a row an object": HandMade(chunk(samples=[{"x": 1, "y": 2, "z": 3}])),
        "a string in a row": HandMade(chunk(samples=[[1, 2, "3"]])),
        "a boolean in a row": HandMade(chunk(samples=[[1, 2, 3], [True, 2, 3]])),
        "null in a row": HandMade(chunk(samples=[[1, 2, None]])),
        "an array in a row": HandMade(chunk(samples=[[1, 2, [3]]])),
    },
    Reason.BAD_ID: {
        "empty": HandMade(sample(device_id="")),
        "a byte too long": HandMade(sample(device_id="a" * 129)),
        "65 characters of two bytes": HandMade(sample(device_id="é" * 65)),
        "a megabyte": HandMade(sample(device_id="a" * 1_000_000)),
        "half a surrogate pair": HandMade(sample(device_id="\ud800")),
        "halves in the wrong order": HandMade(sample(device_id="\udc00\ud800")),
        "empty in a chunk": HandMade(chunk(device_id="")),
        "too long in a chunk": HandMade(chunk(device_id="a" * 129)),
        "half a surrogate pair in a chunk": HandMade(chunk(device_id="a\udfff")),
        "no key": binary(WHOLE, None),
        "an empty key": binary(WHOLE, b""),
        "too long a key": binary(WHOLE, b"a" * 129),
        "a key that is not UTF-8": binary(WHOLE, b"\xff"),
    },
    Reason.BAD_TIMESTAMP: {
        "words": HandMade(sample(timestamp="now")),
        "empty": HandMade(sample(timestamp="")),
        "a number in a string": HandMade(sample(timestamp="1700000000050")),
        "no offset": HandMade(sample(timestamp="2023-11-14T22:13:20.050")),
        "no time": HandMade(sample(timestamp="2023-11-14")),
        "no such day": HandMade(sample(timestamp="2023-02-29T00:00:00Z")),
        "no such hour": HandMade(sample(timestamp="2023-11-14T24:00:00Z")),
        "a leap second": HandMade(sample(timestamp="2016-12-31T23:59:60Z")),
        "no such offset": HandMade(sample(timestamp="2023-11-14T22:13:20+24:00")),
        "no such minute of an offset": HandMade(sample(timestamp="2023-11-14T22:13:20+01:60")),
        "a year 0": HandMade(sample(timestamp="0000-01-01T00:00:00Z")),
        "five digits of a year": HandMade(sample(timestamp="12023-11-14T22:13:20Z")),
        "a named zone": HandMade(sample(timestamp="2023-11-14T22:13:20[Europe/Berlin]")),
        "a blank before": HandMade(sample(timestamp=" 2023-11-14T22:13:20Z")),
        "a line end after": HandMade(sample(timestamp="2023-11-14T22:13:20Z\n")),
        "no digits after the point": HandMade(sample(timestamp="2023-11-14T22:13:20.Z")),
        "digits of another script": HandMade(sample(timestamp="٢٠٢٣-11-14T22:13:20Z")),
        "half a surrogate pair": HandMade(sample(timestamp="\ud800")),
        "a megabyte": HandMade(sample(timestamp="2" * 1_000_000)),
        "words in a chunk": HandMade(chunk(start="now")),
        "beyond int64": HandMade(sample(timestamp=2**63)),
        "beyond uint64": HandMade(sample(timestamp=2**64)),
        "thousands of digits": HandMade(sample().replace(b"1700000000050", b"9" * 10_000)),
        "thousands of digits below zero": HandMade(chunk().replace(b"1700000000000", b"-" + b"9" * 10_000)),
        "int64's least": HandMade(sample(timestamp=-(2**63))),
        "too early to be exact": HandMade(sample(timestamp=-(2**53) - 1)),
        "a start too early to be exact": HandMade(chunk(start=-(2**53) - 1)),
        "a binary start too early to be exact": binary(binary_chunk([(1, 2, 3)], start=-(2**63))),
        "a binary start too early to be exact, but not its last reading": binary(
            binary_chunk([(1, 2, 3)] * 2, start=-(2**53) - 1, rate_hz=0.001)
        ),
        "too late to be exact, whatever the record says": HandMade(sample(timestamp=2**53 + 1), timestamp=INT64_MAX),
        "a chunk that runs out of exact times": HandMade(chunk(start=2**53 - 10), timestamp=INT64_MAX),
        "a chunk that runs for geological ages, whatever the record says": HandMade(
            chunk(rate_hz=1e-15), timestamp=INT64_MAX - 3_600_000
        ),
    },
    Reason.TOO_FAR_AHEAD: {
        "a sample": HandMade(sample(timestamp=KAFKA_MS + 3_600_001)),
        "a sample in ISO 8601": HandMade(sample(timestamp="9999-12-31T23:59:59.999Z")),
        "seconds taken for milliseconds the other way": HandMade(sample(timestamp=1_700_000_000_050_000)),
        "a chunk's start": HandMade(chunk(start=KAFKA_MS + 3_600_001)),
        "a chunk's last reading": HandMade(chunk(start=KAFKA_MS + 3_600_000 - 49)),
        "a binary chunk's last reading": binary(binary_chunk([(1, 2, 3)] * 2, start=KAFKA_MS + 3_600_000 - 49)),
        "a chunk at a tiny rate": HandMade(chunk(rate_hz=1e-9)),
        "a chunk at the tiniest rate": HandMade(chunk(rate_hz=5e-324)),
        "a binary chunk at a tiny rate": binary(binary_chunk([(1, 2, 3)] * 2, rate_hz=1e-45)),
        "a record without a timestamp of its own": HandMade(sample(), timestamp=-1),
    },
    Reason.OUT_OF_RANGE: {
        "an axis": HandMade(sample(x=1000.5)),
        "an axis below": HandMade(sample(y=-1000.0001)),
        "an overflow": HandMade(sample().replace(b"12.6805", b"1e999")),
        "an overflow below": HandMade(sample().replace(b"12.6805", b"-1e999")),
        "hundreds of digits": HandMade(sample().replace(b"12.6805", b"1" + b"0" * 400)),
        "thousands of digits": HandMade(sample().replace(b"12.6805", b"-1" + b"0" * 5000)),
        "a row": HandMade(chunk(samples=[[0, 0, 0], [0, 0, 1001]])),
        "an overflow in a row": HandMade(chunk().replace(b"0.9534", b"1e999")),
        "a binary NaN": binary(binary_chunk([(0, 0, float("nan"))])),
        "a binary infinity": binary(binary_chunk([(0, 0, 0), (0, float("-inf"), 0)])),
        "a binary axis": binary(binary_chunk([(0, 0, 1000.1)])),
        "no rate": HandMade(chunk(rate_hz=0)),
        "a negative rate": HandMade(chunk(rate_hz=-20)),
        "a rate of minus zero": HandMade(chunk(rate_hz=-0.0)),
        "a rate above the limit": HandMade(chunk(rate_hz=1000.1)),
        "a rate that overflows": HandMade(chunk().replace(b'"rate_hz": 20', b'"rate_hz": 1e999')),
        "a binary rate of zero": binary(binary_chunk([(1, 2, 3)], rate_hz=0)),
        "a binary rate that is NaN": binary(binary_chunk([(1, 2, 3)], rate_hz=float("nan"))),
        "a binary rate that is infinite": binary(binary_chunk([(1, 2, 3)], rate_hz=float("inf"))),
    },
    Reason.BAD_SHAPE: {
        "no rows": HandMade(chunk(samples=[])),
        "a row too short": HandMade(chunk(samples=[[1, 2, 3], [1, 2]])),
        "a row too long": HandMade(chunk(samples=[[1, 2, 3, 4]])),
        "an empty row": HandMade(chunk(samples=[[]])),
        "a row too many": HandMade(chunk(samples=[[0, 0, 0]] * 20_001, start=0)),
        "an empty row too many": HandMade(chunk(samples=[[]] * 200_000)),
        "no binary rows": binary(binary_chunk([])),
        "a binary row too many": binary(binary_chunk([(0, 0, 0)] * 20_001, start=0)),
    },
    Reason.TOO_LARGE: {
        "a sample": HandMade(sample().ljust(2_097_153)),
        "a chunk": HandMade(chunk(samples=[[0.25, 0.5, 0.75]] * 120_000)),
        "brackets": HandMade(b"[" * 2_097_153),
        "an unknown field": HandMade(sample(u="x" * 2_097_152)),
        "headers": HandMade(sample(), None, [("a", b"")] * 101),
        "headers, and no JSON": HandMade(b"{", None, [("a", None)] * 200),
    },
    Reason.BAD_BINARY: {
        "empty": binary(b""),
        "cut off in the head": binary(WHOLE[:15]),
        "cut off after the head": binary(WHOLE[:16]),
        "cut off in a row": binary(WHOLE[:-1]),
        "a row short": binary(WHOLE[:-12]),
        "a byte too many": binary(WHOLE + b"\x00"),
        "more than promised": binary(binary_chunk([(1, 2, 3)], count=0)),
        "version 0": binary(binary_chunk([(1, 2, 3)], version=0)),
        "version 2": binary(binary_chunk([(1, 2, 3)], version=2)),
        "the reserved byte in use": binary(binary_chunk([(1, 2, 3)], reserved=1)),
        "JSON": binary(sample()),
    },
}
CASES = [
    pytest.param(record, reason, id=f"{reason}: {name}")
    for reason, records in BAD.items()
    for name, record in records.items()
]


@pytest.mark.parametrize(("bad", "reason"), CASES)
def test_a_bad_record_is_refused_whole_and_its_neighbours_are_not(bad: HandMade, reason: Reason) -> None:
    records = [
        HandMade(sample(device_id="before", timestamp=1)),
        HandMade(chunk(device_id="before", start=2)),
        bad,
        HandMade(binary_chunk([(7, 8, 9)], start=3), b"after", BINARY),
        HandMade(sample(device_id="after", timestamp=4)),
    ]
    readings, rejections = decode(records)
    assert [(rejection.record, rejection.reason) for rejection in rejections] == [(2, reason)]
    assert readings.record.tolist() == [0, 1, 1, 3, 4]
    assert readings.timestamp_ms.tolist() == [1, 2, 52, 3, 4]
    assert readings.device_ids() == [b"before"] * 3 + [b"after"] * 2
    assert readings.xyz[3].tolist() == [7, 8, 9]
    detail = rejections[0].detail
    assert 5 < len(detail) <= MAX_DETAIL_CHARACTERS
    assert detail.isprintable()
    detail.encode()


def test_the_table_covers_every_reason_that_a_record_gives_by_itself() -> None:
    """For too many devices it is refused by what came before it: `tests/service/pipeline/test_device_limit.py`."""
    assert set(BAD) == set(Reason) - {Reason.TOO_MANY_DEVICES}


def test_all_the_bad_records_of_the_table_among_as_many_good_ones() -> None:
    bad = [record for records in BAD.values() for record in records.values()]
    reasons = [reason for reason, records in BAD.items() for _ in records]
    mixed = [record for k, worst in enumerate(bad) for record in (HandMade(sample(timestamp=k)), worst)]
    readings, rejections = decode(mixed)
    assert readings.record.tolist() == list(range(0, 2 * len(bad), 2))
    assert readings.timestamp_ms.tolist() == list(range(len(bad)))
    assert readings.device_ids() == [b"phone-17"] * len(bad)
    assert [rejection.record for rejection in rejections] == list(range(1, 2 * len(bad), 2))
    assert [rejection.reason for rejection in rejections] == reasons


def test_a_batch_of_bad_records_alone_has_no_readings() -> None:
    readings, rejections = decode([HandMade(b"{"), HandMade(sample(x=2000)), HandMade(None)])
    assert readings.device_ids() == []
    assert readings.xyz.shape == (0, 3)
    assert [rejection.reason for rejection in rejections] == ["not_json", "out_of_range", "null_value"]


@pytest.mark.parametrize(
    ("bad", "detail"),
    [
        (HandMade(sample(x="1")), "Sample.x: not a number"),
        (HandMade(chunk(samples=[[1, 2, 3], [1, True, 3]])), "Chunk.samples[1][1]: not a number"),
        (HandMade(chunk(samples=[[1, 2, 3], [1, 2, 2000]])), "Chunk.samples[1][2]: 2000.0 is not within ±1000 m/s^2"),
        (binary(binary_chunk([(0, 0, 0), (0, 2000, 0)])), "samples[1][1]: 2000.0 is not within ±1000 m/s^2"),
        (binary(WHOLE[:-1]), "39 bytes; a chunk of 2 readings has 40"),
        (HandMade(sample(device_id="a" * 129)), "Sample.device_id: the device id has 129 bytes; 128 is the limit"),
        (of_type(b"text/plain"), "content type 'text/plain' is none of this topic's"),
        (of_type(b"\xff"), "content type '\\xff' is none of this topic's"),
        (HandMade(b""), "the value is empty"),
        (HandMade(b" \n"), "the value is empty"),
        (HandMade(b"{} {}"), "the value is not JSON: Extra data: line 1 column 4 (char 3)"),
        (HandMade(b"{}"), "Sample.device_id: the field is missing"),
        (HandMade(sample(device_id=5)), "Sample.device_id: not a string"),
        (
            HandMade(sample(timestamp=1.5)),
            "Sample.timestamp: neither a whole number of milliseconds nor an ISO 8601 time",
        ),
        (HandMade(chunk(samples=[[1, 2]])), "Chunk.samples[0]: a reading is three numbers: x, y and z"),
        (HandMade(chunk(samples=[[1, 2, 3, 4]])), "Chunk.samples[0]: a reading is three numbers: x, y and z"),
        (HandMade(chunk(samples=[1])), "Chunk.samples[0]: not a list"),
    ],
)
def test_the_detail_says_where_and_what(bad: HandMade, detail: str) -> None:
    assert [rejection.detail for rejection in decode([bad])[1]] == [detail]


def test_a_detail_is_cut_and_kept_printable() -> None:
    assert Rejection(0, Reason.NOT_JSON, "a\nb\x1b[31m\ud800é").detail == "a\\nb\\x1b[31m\\ud800é"
    assert Rejection(0, Reason.NOT_JSON, "x" * 200).detail == "x" * 200
    assert Rejection(0, Reason.NOT_JSON, "x" * 201).detail == "x" * 199 + "…"
    assert len(Rejection(0, Reason.NOT_JSON, "\x00" * 100_000).detail) == 200


def test_each_reason_has_a_name_for_labels_and_a_meaning_for_people() -> None:
    for reason in Reason:
        assert reason == reason.value == reason.name.lower()
        assert 20 < len(reason.meaning) < 110
