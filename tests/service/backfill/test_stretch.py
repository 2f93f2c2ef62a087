"""How a backfill's group is named, and what its commits say."""

import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import NoError, UnknownMemberIdError
from kafka.protocol.consumer import OffsetSpec
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.snapshot import Snapshot, encode
from service.backfill import stretch
from service.backfill.other_workers import OtherWorkers
from service.backfill.stretch import Stretch, begin, group_of, is_done, require_end
from service.configuration.settings import ActivitySettings, KeepSettings, KindSettings, TextSettings
from service.kind import Kind, WorkerError

DAY = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
ALL = Stretch(None, None)
SETTINGS = ActivitySettings()
SOURCE = TopicPartition(SETTINGS.input_topic, 0)
NOTHING = OffsetAndMetadata(-1, "", -1)


def commit(offset: int, rewind_to: int, end: int) -> OffsetAndMetadata:
    return OffsetAndMetadata(offset, encode(Snapshot(rewind_to, "activities", 0, 1, labels_from=0, end=end)), -1)


def test_the_same_backfill_has_the_same_group_wherever_its_bundle_lies_and_whatever_is_kept_aside() -> None:
    keeping = SETTINGS.model_copy(update={"keep": KeepSettings(per_minute=1), "bundle": "./elsewhere"})
    assert group_of("mine", SETTINGS, "abc", ALL) == group_of("mine", keeping, "abc", ALL)
    assert group_of("mine", SETTINGS, "abc", ALL).startswith("mine-backfill-activities-")


@pytest.mark.parametrize(
    ("settings", "digest", "other"),
    [
        (SETTINGS.model_copy(update={"max_gap_ms": 300}), "abc", ALL),
        (SETTINGS.model_copy(update={"output_topic": "others"}), "abc", ALL),
        (TextSettings(), "abc", ALL),
        (SETTINGS, "abd", ALL),
        (SETTINGS, "abc", Stretch(DAY, None)),
        (SETTINGS, "abc", Stretch(None, DAY)),
    ],
)
def test_another_one_has_another(settings: KindSettings, digest: str, other: Stretch) -> None:
    """Else one with another model would go on with what the first has left."""
    assert group_of("mine", settings, digest, other) != group_of("mine", SETTINGS, "abc", ALL)


def test_a_partition_is_done_when_nothing_is_open_at_its_end() -> None:
    assert not is_done(commit(40, 40, end=50), 50)
    assert not is_done(commit(50, 45, end=50), 50)  # whoever made it died before its windows were closed
    assert is_done(commit(50, 50, end=50), 50)
    assert is_done(commit(0, 0, end=0), 0)
    assert require_end("group", SOURCE, commit(40, 40, end=50)) == 50


@pytest.mark.parametrize("metadata", ["", "hello", encode(Snapshot(4, "activities", 0, 1, labels_from=0))])
def test_a_commit_that_names_no_end_is_refused_with_what_to_do(metadata: str) -> None:
    """Taken for done, it would pass over all the partition's records."""
    with pytest.raises(WorkerError, match=r"group mine for accelerometer\[0\] was reset.*--delete"):
        require_end("mine", SOURCE, OffsetAndMetadata(10, metadata, -1))


class FakeAdmin:
    """A log of 100 records a partition, and a group that may be in use."""

    def __init__(self, commits: dict[TopicPartition, OffsetAndMetadata], in_use: int = 0) -> None:
        self.commits = commits
        self.in_use = in_use  # for so many attempts

    def list_group_offsets(self, requested: dict[str, list[TopicPartition]]) -> dict[str, Any]:
        (group,) = requested
        known = self.commits if group == "mine" else {}
        return {group: {source: known.get(source, NOTHING) for source in requested[group]}}

    def describe_groups(self, groups: list[str]) -> dict[str, Any]:
        return {groups[0]: {"members": []}}

    def list_partition_offsets(self, requested: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Any]:
        return {
            source: SimpleNamespace(offset=0 if spec is OffsetSpec.EARLIEST else 100)
            for source, spec in requested.items()
        }

    def alter_group_offsets(self, group: str, commits: dict[TopicPartition, OffsetAndMetadata]) -> dict[Any, Any]:
        self.in_use -= 1
        if self.in_use >= 0:
            return dict.fromkeys(commits, UnknownMemberIdError)
        self.commits |= commits
        return dict.fromkeys(commits, NoError)


KIND = Kind("activity", SETTINGS, prepare=lambda *_: None, encode_labels=lambda *_: None, rules="rules")  # type: ignore[arg-type]
OTHER = TopicPartition(SETTINGS.input_topic, 1)


def begun(admin: FakeAdmin, partitions: int) -> dict[TopicPartition, int]:
    return begin(admin, "mine", KIND, ALL, partitions, 1, OtherWorkers("workers", "activities"))


def test_where_it_ends_is_settled_once() -> None:
    admin = FakeAdmin({})
    assert begun(admin, 2) == {SOURCE: 100, OTHER: 100}
    assert {source: require_end("mine", source, at) for source, at in admin.commits.items()} == {
        SOURCE: 100,
        OTHER: 100,
    }
    admin.commits[SOURCE] = commit(30, 30, end=70)
    assert begun(admin, 2) == {SOURCE: 70, OTHER: 100}


def test_partitions_that_were_added_since_are_left_for_the_next_time() -> None:
    assert begun(FakeAdmin({SOURCE: commit(30, 30, end=70)}), 2) == {SOURCE: 70}


def test_one_that_is_done_begins_anew_when_its_group_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever died after its last commit is in the group for a while: taken for done, new records had no labels."""
    monkeypatch.setattr(stretch, "RETRY_S", 0.0)
    admin = FakeAdmin({SOURCE: commit(70, 70, end=70)}, in_use=3)
    assert begun(admin, 1) == {SOURCE: 100}
    assert admin.commits[SOURCE].offset == 0
    monkeypatch.setattr(stretch, "SETTLE_WITHIN_S", 0.0)
    with pytest.raises(WorkerError, match="somebody is still in it"):
        begun(FakeAdmin({SOURCE: commit(70, 70, end=70)}, in_use=1_000_000), 1)
