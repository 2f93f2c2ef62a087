"""When a backfill is through, and what keeps it from getting there, by commits that are made up."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from kafka.errors import CoordinatorNotAvailableError, KafkaError, TopicAuthorizationFailedError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.snapshot import Snapshot, encode
from service.backfill import watch
from service.backfill.other_workers import OtherWorkers
from service.backfill.watch import Watch
from service.host.progress import Reached
from service.kind import WorkerError

FIRST, SECOND = TopicPartition("accelerometer", 0), TopicPartition("accelerometer", 1)
ENDS = {FIRST: 50, SECOND: 30}
GROUP, WORKERS = "mine-backfill-activities-1", "mine"
NOTHING = OffsetAndMetadata(-1, "", -1)


def commit(offset: int, rewind_to: int | None = None, *, end: int = 0, output: str = "activities") -> OffsetAndMetadata:
    rewind_to = offset if rewind_to is None else rewind_to
    metadata = encode(Snapshot(rewind_to, output, 0, 1, labels_from=0, end=end or msgspec.UNSET))
    return OffsetAndMetadata(offset, metadata, -1)


class FakeAdmin:
    """Answers as each step says: the backfill's commits, or an error; the last step again and again."""

    def __init__(self, *steps: dict[TopicPartition, OffsetAndMetadata] | KafkaError) -> None:
        self.steps = list(steps)
        self.workers: dict[TopicPartition, OffsetAndMetadata] = dict.fromkeys(ENDS, NOTHING)
        self.members: list[dict[str, Any]] = []
        self.log_end = 1000

    def list_group_offsets(self, requested: dict[str, list[TopicPartition]]) -> dict[str, Any]:
        (group,) = requested
        if group == WORKERS:
            return {group: self.workers}
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, KafkaError):
            raise step
        return {group: step}

    def describe_groups(self, groups: list[str]) -> dict[str, Any]:
        return {groups[0]: {"members": self.members}}

    def list_partition_offsets(self, requested: dict[TopicPartition, Any]) -> dict[TopicPartition, Any]:
        return dict.fromkeys(requested, SimpleNamespace(offset=self.log_end))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.0)
    monkeypatch.setattr(watch, "LOOK_AROUND_S", 0.0)


def watched(admin: FakeAdmin, show: Callable[[Reached], None] = lambda _: None) -> Watch:
    """Watch until it stops."""
    stop = threading.Event()
    others = OtherWorkers(WORKERS, "activities")
    thread = Watch(admin, GROUP, ENDS, others, show, stop)
    thread.start()
    thread.join(10)
    assert stop.is_set()
    return thread


UNDER_WAY = {FIRST: commit(20, end=50), SECOND: commit(30, end=30)}
ALMOST = {FIRST: commit(50, 45, end=50), SECOND: commit(30, end=30)}
DONE = {FIRST: commit(50, end=50), SECOND: commit(30, end=30)}


def test_it_is_through_when_nothing_is_open_at_any_end() -> None:
    seen: list[Reached] = []
    found = watched(FakeAdmin(UNDER_WAY, ALMOST, DONE), seen.append)
    assert (found.complete, found.error) == (True, None)
    assert [(now.done, now.total) for now in seen] == [(0, 30), (30, 30), (30, 30)]


def test_while_kafka_is_away_it_waits() -> None:
    assert watched(FakeAdmin(UNDER_WAY, CoordinatorNotAvailableError(), DONE)).complete


@pytest.mark.parametrize("error", [SystemExit(1), BrokenPipeError(), ValueError()])
def test_whatever_keeps_it_from_being_shown_ends_it(error: BaseException) -> None:
    """What is shown goes to a terminal, or a pipe, that may be gone: it would have watched no more, and never ended."""

    def show(_: Reached) -> None:
        raise error

    found = watched(FakeAdmin(UNDER_WAY), show)
    assert (found.complete, found.error) == (False, error)


def test_what_kafka_refuses_for_good_ends_it() -> None:
    error = TopicAuthorizationFailedError()
    assert watched(FakeAdmin(UNDER_WAY, error)).error is error


def test_a_commit_that_is_gone_or_was_reset_ends_it() -> None:
    found = watched(FakeAdmin(UNDER_WAY, {**UNDER_WAY, FIRST: NOTHING}))
    assert isinstance(found.error, WorkerError)
    assert "has lost its commit of accelerometer[0]" in str(found.error)
    found = watched(FakeAdmin(UNDER_WAY, {**UNDER_WAY, FIRST: OffsetAndMetadata(50, "", -1)}))
    assert f"the commit of group {GROUP} for accelerometer[0] was reset" in str(found.error)


def test_where_another_process_has_ended_it_and_deleted_the_group_it_is_through() -> None:
    assert watched(FakeAdmin(dict.fromkeys(ENDS, NOTHING))).complete
    admin = FakeAdmin(dict.fromkeys(ENDS, NOTHING))
    admin.log_end = 0  # the topic was made anew, and its commits went with the old one
    assert "accelerometer[0] ends at 0, and went on to 50 before" in str(watched(admin).error)


def test_a_log_that_was_cut_off_ends_it() -> None:
    admin = FakeAdmin(UNDER_WAY)
    admin.log_end = 40
    assert "accelerometer[0] ends at 40, and went on to 50 before" in str(watched(admin).error)


@pytest.mark.parametrize("theirs", [commit(60, 49), commit(20), OffsetAndMetadata(20, "", -1)])
def test_workers_that_label_the_same_end_it(theirs: OffsetAndMetadata) -> None:
    admin = FakeAdmin(UNDER_WAY)
    admin.workers = {FIRST: theirs, SECOND: NOTHING}
    assert "let them finish first, choose an earlier --until, or name a topic of its own" in str(watched(admin).error)


def test_workers_that_label_what_is_done_here_do_not() -> None:
    """Of that partition nothing more is said, or there was nothing to say."""
    admin = FakeAdmin(UNDER_WAY, UNDER_WAY, DONE)
    admin.workers = {FIRST: commit(60), SECOND: commit(10)}
    assert watched(admin).complete


@pytest.mark.parametrize("theirs", [commit(60, 50), commit(50), commit(20, output="others")])
def test_workers_that_have_settled_it_or_write_elsewhere_do_not(theirs: OffsetAndMetadata) -> None:
    admin = FakeAdmin(UNDER_WAY, UNDER_WAY, DONE)
    admin.workers = {FIRST: theirs, SECOND: NOTHING}
    assert watched(admin).complete


def test_a_worker_that_has_just_come_ends_it_and_one_of_another_topic_does_not() -> None:
    def member(topic: str) -> dict[str, Any]:
        return {"member_assignment": {"assigned_partitions": [{"topic": topic, "partitions": [0]}]}}

    admin = FakeAdmin(UNDER_WAY, UNDER_WAY, DONE)
    admin.members = [member("texts"), {"member_assignment": None}]
    assert watched(admin).complete
    admin = FakeAdmin(UNDER_WAY)
    admin.members = [member("accelerometer")]
    assert "holds accelerometer[0] and has committed nothing yet" in str(watched(admin).error)
    admin.workers = {FIRST: NOTHING, SECOND: commit(60)}
    assert "holds accelerometer[0] and has committed nothing yet" in str(watched(admin).error)
