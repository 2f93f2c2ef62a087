import pytest

from ingest.snapshot import Foreign, Snapshot, SnapshotError, decode, encode


def test_a_snapshot_comes_back_as_it_was_and_fits_a_commits_metadata() -> None:
    """Brokers allow 4096 bytes."""
    buried = {f"{number:011}": 10**12 for number in range(128)}
    snapshot = Snapshot(2**62, "a" * 249, 9999, 10_000, labels_from=2**62, buried=buried, rules="lateness_slots=1200")
    assert decode(encode(snapshot), 2**62) == snapshot
    assert len(encode(snapshot)) < 4096


@pytest.mark.parametrize(
    "metadata",
    [
        '{"v":1,"rewind_to":40,"topic":"a","partition":0}',
        '{"v":3,"rewind_to":40,"topic":"a","partition":0,"partitions":1,"labels_from":0}',
        '{"v":3,"rewind_to":40,"more":1}',
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
