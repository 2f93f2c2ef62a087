"""How a backfill's group is named, and what its commits say."""

import datetime

import pytest
from kafka.structs import OffsetAndMetadata

from ingest.snapshot import Snapshot, encode
from service.backfill.stretch import Stretch, ends_at, group_of, is_done
from service.settings import ActivitySettings, KeepSettings, KindSettings, TextSettings

DAY = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
ALL = Stretch(None, None)
SETTINGS = ActivitySettings()


def commit(offset: int, rewind_to: int, end: int) -> OffsetAndMetadata:
    return OffsetAndMetadata(offset, encode(Snapshot(rewind_to, "activities", 0, 1, labels_from=0, end=end)), -1)


def test_the_same_backfill_has_the_same_group_whatever_windows_are_kept_aside() -> None:
    keeping = SETTINGS.model_copy(update={"keep": KeepSettings(per_minute=1)})
    assert group_of("mine", SETTINGS, "abc", ALL) == group_of("mine", keeping, "abc", ALL)
    assert group_of("mine", SETTINGS, "abc", ALL).startswith("mine-backfill-activities-")


@pytest.mark.parametrize(
    ("settings", "digest", "stretch"),
    [
        (SETTINGS.model_copy(update={"max_gap_ms": 300}), "abc", ALL),
        (SETTINGS.model_copy(update={"output_topic": "others"}), "abc", ALL),
        (TextSettings(), "abc", ALL),
        (SETTINGS, "abd", ALL),
        (SETTINGS, "abc", Stretch(DAY, None)),
        (SETTINGS, "abc", Stretch(None, DAY)),
    ],
)
def test_another_one_has_another(settings: KindSettings, digest: str, stretch: Stretch) -> None:
    """Else one with another model would go on with what the first has left."""
    assert group_of("mine", settings, digest, stretch) != group_of("mine", SETTINGS, "abc", ALL)


def test_a_partition_is_done_when_nothing_is_open_at_its_end() -> None:
    assert not is_done(commit(40, 40, end=50))
    assert not is_done(commit(50, 45, end=50))  # whoever made it died before its windows were closed
    assert is_done(commit(50, 50, end=50))
    assert is_done(commit(0, 0, end=0))
    assert ends_at(commit(40, 40, end=50)) == 50


@pytest.mark.parametrize("metadata", ["", "hello", encode(Snapshot(4, "activities", 0, 1, labels_from=0))])
def test_other_commits_name_no_end(metadata: str) -> None:
    assert ends_at(OffsetAndMetadata(10, metadata, -1)) == 0
