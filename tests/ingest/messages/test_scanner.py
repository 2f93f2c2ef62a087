"""The compiled loop: what it reads by itself, what it leaves, and that it never looks outside its arrays.

That it reads as the models do is what `test_decode_properties` and `fuzz_decode` are for.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ingest.messages import scanner
from ingest.messages.decode import decode, read_surely
from ingest.record_batches.record_columns import Records
from tests.ingest.both_ways import assert_same, columns_of
from tests.ingest.fuzz_decode import PIECE, compare
from tests.ingest.records import BINARY, KAFKA_MS, HandMade, binary_chunk, chunk, sample

ROOT = Path(__file__).parents[3]
JSON = [("content-type", b"application/json")]


def sure(*records: HandMade) -> list[bool]:
    """Which records the loop reads by itself."""
    _, left = read_surely(columns_of(records), 3_600_000, 1.0)
    return [k not in left for k in range(len(records))]


@pytest.mark.parametrize(
    "record",
    [
        HandMade(sample()),
        HandMade(sample(), b"key", JSON),
        HandMade(sample(), None, [("trace", None), ("content-type", b"text/plain"), *JSON, ("z", b"")]),
        HandMade(sample().replace(b" ", b"")),
        HandMade(b" \t\r\n" + sample().replace(b":", b" :\n").replace(b",", b" ,\t") + b"\r\n "),
        HandMade(b'{"z":1,"y":-2.5,"timestamp":0,"x":0.0,"device_id":"a"}'),
        HandMade(sample(x=float(np.float32(0.1)), y=-float(np.float32(9.80665)), z=1e-7)),
        HandMade(sample().replace(b"12.6805", b"1.26805E+1").replace(b"0.5039", b"5039e-4")),
        HandMade(sample(timestamp="2023-11-14T22:13:20.050Z")),
        HandMade(sample(timestamp="2024-02-29 00:00-05:30"), timestamp=KAFKA_MS * 2),
        HandMade(sample(device_id="x" * 128)),
        HandMade('{"device_id":"手表-3","timestamp":0,"x":0,"y":1,"z":2,"größe":"é😀"}'.encode()),
        HandMade(sample(u=[1, {"a": [{}, [], "\n\\\u2028", None, True, False]}], v="\ud800", w=-1.5e300)),
        HandMade(sample()[:-1] + b',"u":' + b"[" * 60 + b"]" * 60 + b',"v":' + b"9" * 5000 + b"}"),
        HandMade(b'{"x": 5, "timestamp": 3, "device_id": "b", ' + sample()[1:]),
        HandMade(chunk()),
        HandMade(chunk(timestamp=1, x=2, u={}), None, JSON),
        HandMade(b'{"samples":[[1,2,3],[4,5,6]],"rate_hz":20.5,"start":-5,"device_id":"a"}'),
        HandMade(chunk(start="2023-11-14T22:13:20.050Z").replace(b"[", b"\n[ ").replace(b"]", b"\t] ")),
        HandMade(binary_chunk([(1, 2, 3), (4, 5, 6)]), b"a", BINARY),
        HandMade(binary_chunk([(-0.0, 1000, -1000)]), "手表".encode(), BINARY),
    ],
)
def test_the_loop_reads_these_by_itself(record: HandMade) -> None:
    assert sure(record, record, record) == [True, True, True]


@pytest.mark.parametrize(
    "record",
    [
        HandMade(None),
        HandMade(sample(), None, [("content-type", b"application/json; charset=utf-8")]),
        HandMade(sample(), None, [*JSON, ("content-type", None)]),
        HandMade(sample(device_id="é")),  # escaped
        HandMade(sample().replace(b'"x"', b'"\\u0078"')),
        HandMade(sample().replace(b"12.6805", b"12.680500000000000001")),
        HandMade(sample(x=1000.5)),
        HandMade(sample(timestamp=KAFKA_MS + 3_600_001)),
        HandMade(sample()[:-1] + b',"u":' + b"[" * 62 + b"]" * 62 + b"}"),
        HandMade(chunk(rate_hz=33.333333333333336)),
        HandMade(chunk(samples=[[0, 0, 0]] * 20_001, start=0)),
        HandMade(binary_chunk([(1, 2, 3)]), None, BINARY),
    ],
)
def test_the_loop_leaves_these(record: HandMade) -> None:
    good = HandMade(sample())
    assert sure(good, record, good) == [True, False, True]


def test_a_number_halfway_between_two_float32s_is_left_and_its_neighbours_are_not() -> None:
    """The sixteen digits behind the point are more than a float64 holds, so the loop's value may be a little off."""
    low = np.float32(5)
    middle = (float(low) + float(np.nextafter(low, np.float32(6)))) / 2
    texts = [f"{middle:.17f}", f"{middle - 1e-14:.17f}", f"{middle + 1e-14:.17f}"]
    records = [HandMade(sample(x=7).replace(b'"x": 7', f'"x": {text}'.encode())) for text in texts]
    assert sure(*records) == [False, True, True]
    readings, _ = decode(columns_of(records))
    assert readings.xyz[:, 0].tolist() == [5, 5, np.nextafter(low, np.float32(6))]


def test_readings_of_chunks_that_come_unexpectedly_find_room() -> None:
    rows = [[1.0, 2.0, 3.0]] * 20_000
    records = [HandMade(sample()), *[HandMade(chunk(samples=rows, start=0))] * 3, HandMade(sample(timestamp=7))]
    readings, rejections = decode(columns_of(records))
    assert rejections == []
    assert readings.record.tolist() == [0, *[1] * 20_000, *[2] * 20_000, *[3] * 20_000, 4]
    assert readings.timestamp_ms[[1, 20_000, 40_000, 60_001]].tolist() == [0, 999_950, 999_950, 7]
    assert readings.device_ids() == [b"phone-17"] * 60_002


def test_a_slice_of_records_is_decoded_as_its_records_are() -> None:
    records = [HandMade(sample(timestamp=k, u=k % 3)) for k in range(40)]
    columns = columns_of(records)
    for part in (slice(0, 0), slice(3, 17), slice(39, 60), slice(None, None, 3)):
        assert_same(decode(records[part]), decode(columns[part]))


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("wrong", [-(2**63), -2, -1, 10**6, 2**62, 2**63 - 1])
def test_places_outside_of_the_bytes_are_left_unread(place: int, wrong: int) -> None:
    """They never come from the consumer; but what the loop relies on, it looks at."""
    columns = columns_of([HandMade(sample()), HandMade(binary_chunk([(1, 2, 3)]), b"a", BINARY)])
    places = columns.places.copy()
    places[place] = wrong
    readings, left = read_surely(Records(columns.raw, places), 2**70, 1.0)
    assert set(readings.record.tolist()) | set(left.tolist()) == {0, 1}
    assert np.all((readings.id_at >= 0) & (readings.id_end <= len(columns.raw)))


def test_thousands_of_mutated_messages_are_read_and_refused_as_one_by_one() -> None:
    rng = random.Random(11)
    pieces = [compare(rng) for _ in range(10)]
    assert all(PIECE / 10 < good < PIECE for good, _ in pieces)
    # Chunks have many readings each; those of one piece may all be refused.
    assert all(readings >= good for good, readings in pieces)
    assert sum(readings > good for good, readings in pieces) > 5


def fuzz(messages: int, **environment: str) -> str:
    """What a Python started for it says about so many mutated messages."""
    command = ["-W", "error::RuntimeWarning", "-m", "tests.ingest.fuzz_decode", "--seed", "5", "--messages"]
    done = subprocess.run(
        [sys.executable, *command, str(messages)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_interpreted_with_each_index_and_sum_checked_the_loop_reads_the_same() -> None:
    assert "600 messages" in fuzz(600, NUMBA_DISABLE_JIT="1")


@pytest.mark.timeout(600)  # compiling takes half a minute of CPU time, and other tests may run beside it
def test_compiled_with_bounds_checked_the_loop_reads_the_same(tmp_path: Path) -> None:
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_OPT": "0", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert "6,000 messages" in fuzz(6_000, **checked)


def test_the_loop_releases_the_gil() -> None:
    assert scanner.scan.targetoptions["nogil"] is True  # type: ignore[attr-defined]
