import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.snapshot import MOST_CHARACTERS, NAME_SIZE, VERSION, Foreign, Snapshot, SnapshotError, decode, encode

RULES = "lateness_slots=1200 unit=m/s2 max_ahead_s=1000000000"
NAMES = [number.to_bytes(NAME_SIZE, "big") for number in range(320)]
PLAIN = {"rewind_to": 40, "topic": "a", "partition": 0, "partitions": 1, "labels_from": 0}


@given(
    st.dictionaries(
        st.binary(min_size=NAME_SIZE, max_size=NAME_SIZE),
        st.one_of(st.integers(0, 300), st.integers(0, 2**40), st.just(2**62)),
        max_size=30,
    )
)
def test_a_snapshot_comes_back_as_it_was(skip_until: dict[bytes, int]) -> None:
    snapshot = Snapshot(40, "activities", 2, 8, labels_from=17, skip_until=skip_until, rules=RULES, end=70)
    assert decode(encode(snapshot), 50) == snapshot


def test_a_snapshot_of_all_devices_that_may_be_skipped_fits_a_commits_metadata() -> None:
    """Brokers allow 4096 characters; a topic's name has 249 at most."""
    skip_until = {name: 2**20 * (number + 1) for number, name in enumerate(NAMES)}  # of 335 million records
    snapshot = Snapshot(
        2**40, "a" * 249, 9999, 10_000, labels_from=2**40, skip_until=skip_until, rules=RULES, end=2**40
    )
    assert decode(encode(snapshot), 2**62) == snapshot
    assert len(encode(snapshot)) <= MOST_CHARACTERS


def test_what_does_not_fit_a_commits_metadata_is_left_out_lest_no_commit_be_taken_any_more() -> None:
    skip_until = {name: 2**50 * number for number, name in enumerate(NAMES)}
    snapshot = Snapshot(0, "a" * 249, 9999, 10_000, labels_from=0, skip_until=skip_until)
    found = decode(encode(snapshot), 0)
    assert isinstance(found, Snapshot)
    assert len(encode(snapshot)) <= MOST_CHARACTERS
    assert len(found.skip_until) > 200
    assert found.skip_until.items() <= skip_until.items()


@pytest.mark.parametrize(
    "metadata",
    [
        '{"v":1,"rewind_to":40,"topic":"a","partition":0}',
        json.dumps({**PLAIN, "v": VERSION + 1}),
        '{"v":4,"rewind_to":40,"more":1}',
        json.dumps({**PLAIN, "v": 2, "buried": {"abc": 1}}),
        json.dumps({**PLAIN, "v": 3, "buried": "\\"}),
        json.dumps({**PLAIN, "v": 3, "buried": "~~~~~"}),
        json.dumps({**PLAIN, "v": 3, "buried": base64.b85encode(b"\x01short").decode()}),
        json.dumps({**PLAIN, "v": 3, "buried": base64.b85encode(b"\x80" * 9).decode()}),
        json.dumps({**PLAIN, "v": 3, "buried": base64.b85encode(b"\xff" * 900 + b"\x01longer").decode()}),
    ],
)
def test_of_another_versions_snapshot_the_rewind_point_is_known(metadata: str) -> None:
    assert decode(metadata, position=100) == Foreign(40)


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "not JSON",
        "[]",
        '{"v":1}',
        '{"v":2,"rewind_to":-1}',
        '{"v":1,"rewind_to":101}',
        '{"v":1,"rewind_to":1.5}',
        "[" * 4000,
    ],
)
def test_what_is_no_snapshot_is_refused(metadata: str) -> None:
    with pytest.raises(SnapshotError):
        decode(metadata, position=100)
