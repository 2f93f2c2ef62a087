from dataclasses import replace

import pytest
from kafka.structs import TopicPartition

from ingest.snapshot import Snapshot, encode
from service.delivery.recovery_plan import NO_END, LabelsToRead, PartitionState, Plan, plan

RULES = "lateness_slots=4"
SNAPSHOT = Snapshot(40, "activities", 2, 8, labels_from=17, rules=RULES)
PLACE = PartitionState(
    (50, encode(SNAPSHOT)), log_start=0, log_end=90, output=TopicPartition("activities", 2), outputs=8, rules=RULES
)


def test_without_a_commit_the_log_is_read_from_its_start_and_labels_since_the_time_of_its_first_record() -> None:
    """Kafka deletes a topic's commits with it: older labels are of another topic of this name."""
    found = plan(replace(PLACE, committed=None, log_start=3))
    assert found == Plan(position=3, rewind_to=3, labels=LabelsToRead(since_offset=3))


def test_a_bounded_partition_is_read_up_to_where_its_commit_says() -> None:
    committed = (50, encode(Snapshot(40, "activities", 2, 8, labels_from=17, rules=RULES, end=70)))
    bounded = replace(PLACE, committed=committed, bounded=True)
    assert plan(bounded) == Plan(position=50, rewind_to=40, labels=LabelsToRead(offset=17), end=70)
    assert plan(replace(bounded, bounded=False)).end == NO_END


def test_what_is_open_at_the_end_is_closed_by_who_knows_its_labels() -> None:
    still_open = (70, encode(Snapshot(60, "activities", 2, 8, labels_from=17, rules=RULES, end=70)))
    closed = (70, encode(Snapshot(70, "activities", 2, 8, labels_from=17, rules=RULES, end=70)))
    assert plan(replace(PLACE, committed=still_open, bounded=True)).labels == LabelsToRead(offset=17)
    assert plan(replace(PLACE, committed=closed, bounded=True)).labels is None


def test_labels_of_a_bounded_partition_whose_records_expired_are_read_back_all_the_same() -> None:
    """Others have labelled what is left."""
    committed = (50, encode(Snapshot(40, "activities", 2, 8, labels_from=17, rules=RULES, end=80)))
    found = plan(replace(PLACE, committed=committed, log_start=60, bounded=True))
    assert (found.position, found.labels, found.end) == (60, LabelsToRead(since_offset=60), 80)


@pytest.mark.parametrize("committed", [None, (50, ""), (50, "hello"), (50, encode(SNAPSHOT)), (50, '{"rewind_to":4}')])
def test_other_commits_say_of_no_bounded_partition_where_it_ends(committed: tuple[int, str] | None) -> None:
    assert plan(replace(PLACE, committed=committed, bounded=True)).end == NO_END


def test_a_snapshot_rewinds_to_the_oldest_open_reading_and_reads_labels_from_where_it_says() -> None:
    assert plan(PLACE) == Plan(position=50, rewind_to=40, labels=LabelsToRead(offset=17))


def test_a_snapshot_tells_whom_to_pass_over() -> None:
    committed = (50, encode(Snapshot(40, "activities", 2, 8, 17, skip_until={b"phone1": 5}, rules=RULES)))
    assert plan(replace(PLACE, committed=committed)).skip_until == {b"phone1": 45}


def test_an_operators_reset_has_no_metadata_and_starts_at_its_position_with_nothing_published() -> None:
    assert plan(replace(PLACE, committed=(50, ""))) == Plan(position=50, rewind_to=50, labels=None)


@pytest.mark.parametrize(
    ("log_start", "log_end", "labels"),
    [(60, 90, None), (0, 20, LabelsToRead(since_offset=0)), (5, 20, LabelsToRead(since_offset=5))],
)
def test_a_position_outside_the_log_starts_at_the_earliest_record_and_says_so(
    log_start: int, log_end: int, labels: LabelsToRead | None
) -> None:
    """What is left of a log that was cut off has been labelled, up to where it ends."""
    found = plan(replace(PLACE, log_start=log_start, log_end=log_end))
    assert (found.position, found.rewind_to, found.labels) == (log_start, log_start, labels)
    assert "position 50 lies outside the log" in found.warnings[0]


def test_a_rewind_point_that_expired_starts_at_the_earliest_record_and_says_so() -> None:
    found = plan(replace(PLACE, log_start=45))
    assert (found.position, found.rewind_to) == (50, 45)
    assert "records from 40 to 44 have expired" in found.warnings[0]


@pytest.mark.parametrize("metadata", ["hello", "[]", encode(Snapshot(51, "a", 0, 1, 0))])
def test_metadata_of_another_program_starts_at_the_position_and_says_so(metadata: str) -> None:
    found = plan(replace(PLACE, committed=(50, metadata)))
    assert (found.position, found.rewind_to, found.labels) == (50, 50, LabelsToRead(since_offset=50))
    assert "metadata can't be used" in found.warnings[0]


def test_another_version_is_taken_at_its_rewind_point_and_all_labels_since_are_read() -> None:
    for metadata in ['{"v":1,"rewind_to":40,"topic":"activities","partition":2}', '{"v":3,"rewind_to":40,"new":1}']:
        found = plan(replace(PLACE, committed=(50, metadata)))
        assert (found.position, found.rewind_to, found.labels) == (50, 40, LabelsToRead(since_offset=40))
        assert not found.publishes_replay
        assert "another version" in found.warnings[0]


@pytest.mark.parametrize(("output", "outputs"), [(("other", 2), 8), (("activities", 0), 2), (("activities", 2), 9)])
def test_labels_that_went_elsewhere_are_read_from_all_partitions(output: tuple[str, int], outputs: int) -> None:
    found = plan(replace(PLACE, output=TopicPartition(*output), outputs=outputs))
    assert (found.position, found.rewind_to, found.labels) == (50, 40, LabelsToRead(since_offset=40))
    assert "labels went to activities[2] of 8 partitions" in found.warnings[0]


def test_labels_of_which_some_are_in_other_partitions_are_read_from_all() -> None:
    committed = (50, encode(Snapshot(40, "activities", 2, 8, labels_from=-1, rules=RULES)))
    assert plan(replace(PLACE, committed=committed)).labels == LabelsToRead(since_offset=40)


def test_a_worker_with_other_rules_says_what_its_own_close() -> None:
    """Windows that the old ones left open may be closed by the new ones before the position: replayed mutely, lost."""
    found = plan(replace(PLACE, rules="lateness_slots=0"))
    assert (found.publishes_replay, found.rewind_to, found.labels) == (True, 40, LabelsToRead(since_offset=40))
    assert "other settings (lateness_slots=4)" in found.warnings[0]
