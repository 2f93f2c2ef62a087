import pytest

from ingest.snapshot import Snapshot, SnapshotError, decode, encode


def test_a_snapshot_comes_back_as_it_was_and_fits_a_commits_metadata() -> None:
    snapshot = Snapshot(rewind_to=2**62, topic="a" * 249, partition=9999)
    assert decode(encode(snapshot), 2**62) == snapshot
    assert len(encode(snapshot)) < 4096


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "not JSON",
        "[]",
        '{"v":1}',
        '{"v":1,"rewind_to":-1,"topic":"a","partition":0}',
        '{"v":1,"rewind_to":101,"topic":"a","partition":0}',
        '{"v":1,"rewind_to":1.5,"topic":"a","partition":0}',
        '{"v":2,"rewind_to":1,"topic":"a","partition":0}',
        '{"v":1,"rewind_to":1,"topic":"a","partition":0,"more":1}',
    ],
)
def test_what_is_no_snapshot_of_this_version_is_refused(metadata: str) -> None:
    with pytest.raises(SnapshotError):
        decode(metadata, position=100)
