import json
import struct
import warnings

import numpy as np
import pytest

from ingest.messages.decode import Readings
from ingest.rejections import Reason
from tests.ingest.both_ways import decode_both_ways as decode
from tests.ingest.records import BINARY, KAFKA_MS, HandMade, binary_chunk, chunk, sample


def read_one(value: bytes | None, **options: float) -> Readings:
    readings, rejections = decode([HandMade(value)], **options)
    assert rejections == []
    return readings


def read_binary(value: bytes, key: bytes | None = b"phone-17") -> Readings:
    readings, rejections = decode([HandMade(value, key, BINARY)])
    assert rejections == []
    return readings


def assert_columns(readings: Readings) -> None:
    rows = len(readings.timestamp_ms)
    assert readings.ids.dtype == np.uint8
    assert readings.id_at.dtype == np.int64
    assert readings.id_at.shape == (rows,)
    assert readings.id_end.dtype == np.int64
    assert readings.id_end.shape == (rows,)
    assert len(readings.device_ids()) == rows
    assert readings.timestamp_ms.dtype == np.int64
    assert readings.xyz.dtype == np.float32
    assert readings.xyz.shape == (rows, 3)
    assert readings.record.dtype == np.int32
    assert readings.record.shape == (rows,)


def test_a_sample_becomes_one_row() -> None:
    readings = read_one(sample())
    assert readings.device_ids() == [b"phone-17"]
    assert readings.timestamp_ms.tolist() == [1_700_000_000_050]
    assert readings.xyz.tolist() == [[np.float32(-0.6946), np.float32(12.6805), np.float32(0.5039)]]
    assert readings.record.tolist() == [0]
    assert_columns(readings)


def test_a_chunk_becomes_a_row_a_reading_at_its_rate() -> None:
    readings = read_one(chunk(samples=[[1, 2, 3], [4, 5, 6], [7, 8, 9.5]]))
    assert readings.timestamp_ms.tolist() == [1_700_000_000_000, 1_700_000_000_050, 1_700_000_000_100]
    assert readings.xyz.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9.5]]
    assert readings.device_ids() == [b"phone-17"] * 3
    assert_columns(readings)


def test_a_binary_chunk_takes_its_device_from_the_key() -> None:
    readings = read_binary(binary_chunk([(1, 2, 3), (4, 5, 6)], start=-25, rate_hz=1000), "手表".encode())
    assert readings.device_ids() == ["手表".encode()] * 2
    assert readings.timestamp_ms.tolist() == [-25, -24]
    assert readings.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert_columns(readings)


def test_no_records_become_no_rows() -> None:
    readings, rejections = decode([])
    assert rejections == []
    assert readings.device_ids() == []
    assert_columns(readings)


def test_the_forms_mix_in_one_batch_and_keep_their_order() -> None:
    readings, rejections = decode(
        [
            HandMade(chunk(device_id="b", start=0)),
            HandMade(sample(device_id="a", timestamp=1)),
            HandMade(binary_chunk([(1, 2, 3)], start=2), b"a", BINARY),
            HandMade(sample(device_id="b", timestamp=3)),
            HandMade(sample(device_id="c", timestamp="1970-01-01T00:00:00.004Z")),
        ]
    )
    assert rejections == []
    assert readings.record.tolist() == [0, 0, 1, 2, 3, 4]
    assert readings.timestamp_ms.tolist() == [0, 50, 1, 2, 3, 4]
    assert readings.device_ids() == [b"b", b"b", b"a", b"a", b"b", b"c"]
    assert_columns(readings)


@pytest.mark.parametrize(
    ("start", "rate_hz", "times"),
    [
        (0, 20, [0, 50, 100]),
        (0, 3, [0, 333, 667]),
        (0, 400, [0, 3, 5]),  # 2.5 goes up
        (-3, 400, [-3, 0, 2]),  # -0.5 goes up, too
        (1_700_000_000_000, 99.5, [1_700_000_000_000, 1_700_000_000_010, 1_700_000_000_020]),
        (0, 0.001, [0, 1_000_000, 2_000_000]),
    ],
)
def test_reading_k_of_a_chunk_is_at_the_nearest_millisecond(start: int, rate_hz: float, times: list[int]) -> None:
    rows = [[0, 0, 0]] * 3
    assert read_one(chunk(start=start, rate_hz=rate_hz, samples=rows)).timestamp_ms.tolist() == times


def test_the_times_of_a_chunk_follow_the_contracts_order_of_operations() -> None:
    """At 304 Hz reading 19 lies at exactly 62.5 ms, which goes up; 19 * (1000 / 304) is a little less."""
    assert 19 * (1000 / 304) < 62.5
    assert read_one(chunk(start=0, rate_hz=304, samples=[[0, 0, 0]] * 20)).timestamp_ms[19] == 63


def test_the_rate_of_a_binary_chunk_is_the_float32_widened() -> None:
    """The nearest float32 to 0.1 is a little more than 0.1, which shows after 5,000 readings."""
    rate_hz = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    readings = read_binary(binary_chunk([(0, 0, 0)] * 5_000, start=0, rate_hz=0.1))
    assert readings.timestamp_ms[-1] == int(np.floor(4_999 * 1000 / rate_hz + 0.5)) == 49_989_999


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2023-11-14T22:13:20.050Z", 1_700_000_000_050),
        ("2023-11-14T22:13:20.05Z", 1_700_000_000_050),
        ("2023-11-14T22:13:20,05Z", 1_700_000_000_050),
        ("2023-11-14 23:13:20.050+01:00", 1_700_000_000_050),
        ("2023-11-14T23:13:20.050+0100", 1_700_000_000_050),
        ("2023-11-15T03:58:20.050+05:45", 1_700_000_000_050),
        ("2023-11-14T10:13:20.050-12", 1_700_000_000_050),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13Z", 1_699_999_980_000),
        ("2023-11-14T22:13:20.0509999999999999999999999Z", 1_700_000_000_050),
        ("2023-11-14T22:13:20.9999999Z", 1_700_000_000_999),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("1969-12-31T23:59:59.9990Z", -1),
        ("1969-12-31T23:59:59.0001Z", -1_000),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000),
        ("2024-02-29T00:00:00-00:00", 1_709_164_800_000),
    ],
)
def test_an_iso_8601_time_is_cut_off_to_milliseconds(text: str, milliseconds: int) -> None:
    late = HandMade(sample(timestamp=text), timestamp=2_000_000_000_000)
    assert decode([late])[0].timestamp_ms.tolist() == [milliseconds]
    late = HandMade(chunk(start=text, samples=[[0, 0, 0]]), timestamp=2_000_000_000_000)
    assert decode([late])[0].timestamp_ms.tolist() == [milliseconds]


@pytest.mark.parametrize("timestamp", [0, -1, -(2**53), 2**53])
def test_an_integer_time_is_taken_as_it_is(timestamp: int) -> None:
    readings, _ = decode([HandMade(sample(timestamp=timestamp), timestamp=2**60)])
    assert readings.timestamp_ms.tolist() == [timestamp]


def test_a_reading_may_lie_exactly_the_limit_ahead_of_its_record() -> None:
    value = sample(timestamp=KAFKA_MS + 3_600_000)
    assert read_one(value).timestamp_ms.tolist() == [KAFKA_MS + 3_600_000]
    value = chunk(start=KAFKA_MS + 3_600_000 - 50)
    assert read_one(value).timestamp_ms.tolist() == [KAFKA_MS + 3_600_000 - 50, KAFKA_MS + 3_600_000]


def test_how_far_ahead_a_reading_may_lie_is_a_setting() -> None:
    records = [HandMade(sample(timestamp=KAFKA_MS + 5)), HandMade(sample(timestamp=KAFKA_MS + 6))]
    readings, rejections = decode(records, max_ahead_ms=5)
    assert readings.timestamp_ms.tolist() == [KAFKA_MS + 5]
    assert [(bad.record, bad.reason) for bad in rejections] == [(1, Reason.TOO_FAR_AHEAD)]


@pytest.mark.parametrize("value", [1000, -1000, 1000.0, 999.9999999999])
def test_the_largest_acceleration_is_taken(value: float) -> None:
    assert read_one(sample(y=value)).xyz[0, 1] == np.float32(value)


def test_the_limit_is_judged_before_rounding_to_float32() -> None:
    """The nearest float32 to 1000.00001 is 1000, which is within the limit; the value is not."""
    assert np.float32(1000.00001) == 1000
    for value in (sample(x=1000.00001), chunk(samples=[[0, 0, -1000.00001]])):
        _, rejections = decode([HandMade(value)])
        assert [bad.reason for bad in rejections] == [Reason.OUT_OF_RANGE]


def test_a_scale_converts_every_form_and_the_limit_applies_after_it() -> None:
    good = [
        HandMade(sample(x=1, y=-101.9, z=0)),
        HandMade(chunk(samples=[[1, -101.9, 0]])),
        HandMade(binary_chunk([(1, -101.9, 0)]), b"a", BINARY),
        HandMade(b'{"x": "no", ' + sample(x=1, y=-101.9, z=0)[1:]),  # only the models can read it
    ]
    bad = [
        HandMade(sample(x=102)),
        HandMade(chunk(samples=[[0, 0, 0], [102, 0, 0]])),
        HandMade(binary_chunk([(102, 0, 0)]), b"a", BINARY),
        HandMade(b'{"x": "no", ' + sample(x=102)[1:]),
    ]
    readings, rejections = decode(good + bad, scale=9.80665)
    np.testing.assert_allclose(readings.xyz, [[9.80665, -999.29764, 0]] * 4, rtol=1e-6)
    assert [(bad.record, bad.reason) for bad in rejections] == [(r, Reason.OUT_OF_RANGE) for r in (4, 5, 6, 7)]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("content-type", b"application/json")],
        [("content-type", b"application/json; charset=utf-8")],
        [("content-type", b" Application/JSON ;charset=utf-8")],
        [("traceparent", None), ("content-type", b"text/plain"), ("content-type", b"application/json")],
        [("Content-Type", b"text/plain")],  # names of Kafka headers are compared as they are
    ],
)
def test_these_headers_say_json(headers: list[tuple[str, bytes | None]]) -> None:
    readings, rejections = decode([HandMade(sample(), None, headers), HandMade(chunk(), None, headers)])
    assert rejections == []
    assert readings.record.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/vnd.stridecast.chunk",
        b"Application/VND.Stridecast.Chunk",
        b"application/vnd.stridecast.chunk; version=1",
    ],
)
def test_these_headers_say_binary_chunk(content_type: bytes) -> None:
    readings, rejections = decode([HandMade(binary_chunk([(1, 2, 3)]), b"a", [("content-type", content_type)])])
    assert rejections == []
    assert readings.xyz.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    "value",
    [
        sample(note=None, tags=["a", {"b": [1, 2.5e300, True]}], sampler={"x": "1"}),
        sample(start="yesterday", rate_hz=-1),  # fields of the other form are unknown to this one
        sample(note="x" * 5000),
        sample(u=1)[:-1] + b',"big":' + b"9" * 5000 + b"}",
        sample(u=1)[:-1] + b',"huge":1e999}',
        sample(u=1)[:-1] + b',"half":"\\ud800"}',
        sample(u="é")[:-1] + ',"é":"手"}'.encode(),
        b" \t\r\n" + sample() + b"\n",
        sample().replace(b"device_id", b"device_\\u0069d"),
        b'{"x": 5, "timestamp": true, "device_id": 3, ' + sample()[1:],  # of a repeated field the last counts
        sample(u=[[[]]] * 300),
        sample()[:-1] + b',"u":' + b"[" * 99 + b"]" * 99 + b"}",
        sample()[:-1] + b',"u":"' + b"[" * 5000 + b'"}',
        sample()[:-1] + b',"u":"' + b'\\"[' * 5000 + b'"}',
    ],
)
def test_unknown_fields_and_odd_but_legal_json_are_taken(value: bytes) -> None:
    readings = read_one(value)
    assert readings.timestamp_ms.tolist() == [1_700_000_000_050]
    assert readings.xyz.tolist() == [[np.float32(-0.6946), np.float32(12.6805), np.float32(0.5039)]]


@pytest.mark.parametrize(
    "value",
    [
        chunk(timestamp=True, x="", note={"samples": 1}),
        chunk(u=[[]] * 300),
        chunk().replace(b'"samples"', b'"\\u0073amples"'),
        b'{"samples": 5, ' + chunk()[1:],
        chunk(samples=[[-0.6946, 12.6805, 0.5039], [5.012, 11.264, 0.9534]], u="é"),
    ],
)
def test_a_chunk_may_be_as_odd_as_a_sample(value: bytes) -> None:
    assert read_one(value).timestamp_ms.tolist() == [1_700_000_000_000, 1_700_000_000_050]


def test_a_chunk_may_have_twenty_thousand_readings() -> None:
    rows = [(float(k % 7), 0.0, -1.0) for k in range(20_000)]
    for record in (
        HandMade(chunk(samples=rows, start=0)),
        HandMade(binary_chunk(rows, start=0), b"phone-17", BINARY),
        HandMade(b'{"samples": 5, ' + chunk(samples=rows, start=0)[1:]),  # only the models can read it
    ):
        readings, rejections = decode([record])
        assert rejections == []
        assert readings.timestamp_ms[[0, 1, 19_999]].tolist() == [0, 50, 999_950]
        assert readings.xyz.sum(axis=0).tolist() == [59_997, 0, -20_000]


@pytest.mark.parametrize("device_id", ["a", "é" * 64, "a" * 128, "\x00", "\u2028\n", "😀" * 32])
def test_a_device_id_is_1_to_128_bytes_of_any_utf8(device_id: str) -> None:
    encoded = device_id.encode()
    for record in (
        HandMade(sample(device_id=device_id)),
        HandMade(json.dumps(json.loads(sample(device_id=device_id)), ensure_ascii=False).encode()),
        HandMade(chunk(device_id=device_id)),
        HandMade(binary_chunk([(0, 0, 0)]), encoded, BINARY),
    ):
        assert set(decode([record])[0].device_ids()) == {encoded}


def test_the_device_id_in_json_counts_whatever_the_key_says() -> None:
    readings, rejections = decode([HandMade(sample(), b"\xff"), HandMade(sample(), b"tablet-3")])
    assert rejections == []
    assert readings.device_ids() == [b"phone-17"] * 2


def test_integers_and_negative_zero_are_numbers() -> None:
    readings = read_one(sample(x=-0.0, y=7, z=-3))
    assert readings.xyz.tolist() == [[0, 7, -3]]
    assert np.signbit(readings.xyz[0, 0])


def test_overflow_and_nan_make_no_warnings() -> None:
    rows = [(float("nan"), float("inf"), 3e38)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, rejections = decode(
            [HandMade(binary_chunk(rows), b"a", BINARY), HandMade(sample(x=1e308)), HandMade(chunk(rate_hz=1e-320))],
            scale=9.80665,
        )
    assert [bad.reason for bad in rejections] == [Reason.OUT_OF_RANGE, Reason.OUT_OF_RANGE, Reason.TOO_FAR_AHEAD]
