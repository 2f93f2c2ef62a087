from ingest.snapshot import Snapshot, encode
from service.recovery import Plan, plan


def test_without_a_commit_the_log_is_read_from_its_start() -> None:
    assert plan(None, log_start=3, log_end=90) == Plan(position=3, rewind_to=3)


def test_a_snapshot_rewinds_to_the_oldest_open_reading() -> None:
    committed = (50, encode(Snapshot(40, "activities", 2)))
    assert plan(committed, log_start=0, log_end=90) == Plan(position=50, rewind_to=40)


def test_an_operators_reset_has_no_metadata_and_starts_at_its_position() -> None:
    assert plan((50, ""), log_start=0, log_end=90) == Plan(position=50, rewind_to=50)


def test_a_position_outside_the_log_starts_at_the_earliest_record_and_says_so() -> None:
    metadata = encode(Snapshot(40, "activities", 2))
    for log_start, log_end in [(60, 90), (0, 20)]:
        found = plan((50, metadata), log_start=log_start, log_end=log_end)
        assert (found.position, found.rewind_to) == (log_start, log_start)
        assert "position 50 lies outside the log" in found.warnings[0]


def test_a_rewind_point_that_expired_starts_at_the_earliest_record_and_says_so() -> None:
    found = plan((50, encode(Snapshot(40, "activities", 2))), log_start=45, log_end=90)
    assert (found.position, found.rewind_to) == (50, 45)
    assert "records from 40 to 44 have expired" in found.warnings[0]


def test_metadata_of_another_version_or_program_starts_at_the_position_and_says_so() -> None:
    for metadata in ["hello", '{"v":2,"rewind_to":40,"topic":"a","partition":0}', encode(Snapshot(51, "a", 0))]:
        found = plan((50, metadata), log_start=0, log_end=90)
        assert (found.position, found.rewind_to) == (50, 50)
        assert "metadata can't be used" in found.warnings[0]
