"""Who comes and who goes, without a consumer."""

import collections
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.structs import TopicPartition

from ingest.consumer.consumer import PARTITION_RECORDS
from ingest.consumer.fetch_progress import FetchProgress
from service.delivery import assignment as module
from service.delivery.assignment import LONGEST_RETRY_S, Assignment
from service.delivery.ledger import Point
from service.delivery.partition import Output
from service.delivery.published import Mark
from service.delivery.read_back import ReadBack, Request
from service.delivery.recovery_plan import Plan
from service.kind import Stream
from tests.clock import Clock
from tests.service.delivery.doors import make_metrics

SOURCE, OTHER = TopicPartition("texts", 0), TopicPartition("texts", 1)


class FakeConsumer:
    """Notes which partitions it is to seek, pause and resume."""

    def __init__(self) -> None:
        self.assigned = {SOURCE}
        self.done: list[tuple[Any, ...]] = []

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def pause(self, source: TopicPartition) -> None:
        self.done.append(("pause", source))

    def resume(self, source: TopicPartition) -> None:
        self.done.append(("resume", source))

    def seek(self, source: TopicPartition, position: int) -> None:
        self.done.append(("seek", source, position))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def make(requests: list[Request]) -> Assignment:
    assignment = Assignment(lambda _: Stream(), "", FetchProgress(), requests.append, make_metrics())
    assignment.consumer = FakeConsumer()
    return assignment


def found(request: Request, **plan: Any) -> ReadBack:
    planned = Plan(**{"position": 50, "rewind_to": 40, "labels": None, **plan})
    output = Output(TopicPartition("labels", 0), 1, end=100)
    return ReadBack(request, planned, output, None, 100, {}, {}, {b"published": Mark(70, 45)}, {60})


def test_a_newcomer_is_read_from_the_place_that_was_found_for_it() -> None:
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    assignment.begin(found(requests[0]))
    partition = assignment.held[SOURCE]
    assert (partition.position, partition.live_from, len(partition.published), partition.reported) == (40, 50, 1, {60})
    assert assignment.consumer.done == [("seek", SOURCE, 40), ("resume", SOURCE)]
    assert not assignment.awaits(requests[0])


def test_an_unfinished_recovery_has_an_age_until_its_replay_is_over(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that never found where to begin was to be seen in no gauge: there was no lag of it either."""
    requests: list[Request] = []
    assignment = make(requests)
    assert assignment.recovery_age_s() == 0
    assignment.assigned({SOURCE})
    clock.now += 100
    assignment.assigned({OTHER})
    clock.now += 200
    assert assignment.recovery_age_s() == 300
    assert not list(assignment.read())
    monkeypatch.setattr(module, "fetch_position", lambda *_: None)
    assignment.begin(found(requests[0]))
    assignment.follow()
    assert assignment.recovery_age_s() == 300  # it is replayed
    assignment.held[SOURCE].move_to(50)
    assignment.follow()
    assert assignment.recovery_age_s() == 200
    assignment.released({OTHER})
    assert assignment.recovery_age_s() == 0


def test_a_partition_is_lost_from_its_first_failure_until_what_failed_is_committed(clock: Clock) -> None:
    """Each try began the age anew, and was over within seconds: an output topic that was gone was seen in no gauge."""
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    for _ in range(3):
        assignment.begin(found(requests[-1]))
        partition = assignment.held[SOURCE]
        partition.position, partition.recovering_since = 60, None
        assignment.start_all_over([partition], "its topic is gone")
        clock.now += 100
    assignment.begin(found(requests[-1]))
    partition = assignment.held[SOURCE]
    partition.recovering_since = None  # it is read on
    assert assignment.recovery_age_s() == 300
    assignment.committed(partition, Point(59, 50, 100))
    assert assignment.recovery_age_s() == 300
    assignment.committed(partition, Point(60, 50, 100))
    assert assignment.recovery_age_s() == 0


def test_a_partition_whose_topic_was_made_anew_after_its_output_failed_is_lost_until_the_new_log_is_committed(
    clock: Clock,
) -> None:
    """Its recovery was told of as stuck until the new log had as many records as the old one."""
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    assignment.begin(found(requests[-1]))
    partition = assignment.held[SOURCE]
    partition.position = 1_000_000
    assignment.start_all_over([partition], "its topic is gone")
    assignment.begin(found(requests[-1], position=0, rewind_to=0))
    partition = assignment.held[SOURCE]
    partition.recovering_since = None
    assignment.committed(partition, Point(100, 50, 100))
    assert assignment.recovery_age_s() == 0


def test_a_partition_whose_log_was_cut_off_is_lost_until_anything_is_committed(clock: Clock) -> None:
    """The position that it had may never come again."""
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    assignment.begin(found(requests[-1]))
    assignment.held[SOURCE].position = 1_000_000
    assignment.start_over(assignment.held[SOURCE], "its log goes back to 0")
    clock.now += 100
    assignment.begin(found(requests[-1], position=0, rewind_to=0))
    partition = assignment.held[SOURCE]
    partition.recovering_since = None
    assert assignment.recovery_age_s() == 100
    assignment.committed(partition, Point(7, 7, 0))
    assert assignment.recovery_age_s() == 0


def test_a_partition_has_no_lag_before_its_end_is_known(clock: Clock) -> None:
    """It was 0 until the first answer to a fetch, as if nothing waited."""
    requests: list[Request] = []
    fetch_progress = FetchProgress()
    assignment = Assignment(lambda _: Stream(), "", fetch_progress, requests.append, make_metrics())
    assignment.consumer = FakeConsumer()
    assignment.assigned({SOURCE})
    assignment.begin(found(requests[0]))
    assert [reading.lag for reading in assignment.read()] == [None]
    fetch_progress.note_response([SOURCE], 1.0, {SOURCE: 90})
    assert [reading.lag for reading in assignment.read()] == [50]  # with what is replayed


def test_partitions_that_begin_together_are_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A start on a topic of eight partitions said the same eight times."""
    caplog.set_level("INFO")
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({TopicPartition("texts", number) for number in range(8)})
    first, *others = requests
    assignment.begin_all(collections.deque([found(first)]))
    assignment.begin_all(collections.deque([*map(found, others), found(first)]))
    assignment.begin_all(collections.deque())
    assert len(assignment.held) == 8
    assert caplog.messages == [
        f"took texts[{first.source.partition}]: position 50, reading from 40, 1 labels and 1 dead letters known",
        "took 7 partitions of texts: 70 records to replay, 7 labels and 7 dead letters known",
    ]


def test_an_answer_that_nobody_waits_for_any_more_is_ignored() -> None:
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    assignment.released({SOURCE})
    assert not assignment.awaits(requests[0])
    assignment.assigned({SOURCE})  # it is back, as another assignment
    assignment.begin(found(requests[0]))
    assert not assignment.held
    assignment.begin(found(requests[1]))
    assert set(assignment.held) == {SOURCE}


def test_a_partition_that_goes_is_dead_at_once() -> None:
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    assignment.begin(found(requests[0]))
    partition = assignment.held[SOURCE]
    assignment.released({SOURCE})
    assert not partition.alive
    assert not assignment.held


def test_a_partition_whose_output_fails_again_and_again_is_recovered_later_and_later(clock: Clock) -> None:
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    waits = []
    for _ in range(8):
        assignment.begin(found(requests[-1]))
        assignment.start_all_over([assignment.held[SOURCE]], "its topic is gone")
        waits.append(requests[-1].not_before - clock.now)
    assert waits == [1, 2, 4, 8, 16, LONGEST_RETRY_S, LONGEST_RETRY_S, LONGEST_RETRY_S]


def test_a_commit_of_less_than_what_had_been_read_does_not_have_the_next_recovery_come_soon(clock: Clock) -> None:
    """What failed lies behind it, and will fail again: the partition was recovered each second."""
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    waits = []
    for _ in range(3):
        assignment.begin(found(requests[-1]))
        partition = assignment.held[SOURCE]
        assignment.committed(partition, Point(50, 50, 100))
        partition.position = 60
        assignment.start_all_over([partition], "its topic is gone")
        waits.append(requests[-1].not_before - clock.now)
    assert waits == [1, 2, 4]


@pytest.mark.parametrize("helped", ["commit", "another assignment"])
def test_what_helps_has_the_next_recovery_come_soon(helped: str, clock: Clock) -> None:
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    for _ in range(3):
        assignment.begin(found(requests[-1]))
        assignment.start_all_over([assignment.held[SOURCE]], "its topic is gone")
    assignment.begin(found(requests[-1]))
    if helped == "commit":
        assignment.committed(assignment.held[SOURCE], Point(50, 50, 100))
    else:
        assignment.released({SOURCE})
        assignment.assigned({SOURCE})
        assignment.begin(found(requests[-1]))
    assignment.start_all_over([assignment.held[SOURCE]], "its topic is gone")
    assert requests[-1].not_before - clock.now == 1


def test_partitions_that_start_over_for_one_reason_are_told_of_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A change of a coordinator had a worker log the same sentence for each of its partitions."""
    asked: list[Request] = []
    assignment = make(asked)
    sources = [TopicPartition("accelerometer", number) for number in (0, 1)]
    assignment.assigned(set(sources))
    for request in asked:
        assignment.begin(found(request))
    partitions = list(assignment.held.values())
    assignment.start_all_over(partitions, "a record could not be written (no answer)")
    [told] = [record for record in caplog.records if record.levelname == "ERROR"]
    where = "accelerometer[0], accelerometer[1]"
    assert told.getMessage() == (
        f"{where}: a record could not be written (no answer); recovering from what was committed in 1 s"
    )
    assert not any(partition.alive for partition in partitions)
    assert {request.source for request in asked[2:]} == set(sources)


def test_records_whose_dead_letters_were_given_up_get_none_after_a_recovery_until_their_partition_is_gone() -> None:
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    assignment.begin(found(requests[-1]))
    assignment.undeliverable.note(SOURCE, [52, 55])
    assignment.start_all_over([assignment.held[SOURCE]], "its output failed")
    assignment.begin(found(requests[-1]))
    assert {52, 55} <= set(assignment.held[SOURCE].reported)
    assignment.committed(assignment.held[SOURCE], Point(53, 50, 100))
    assert assignment.undeliverable.of(SOURCE) == {55}
    assignment.released({SOURCE})
    assert not assignment.undeliverable.of(SOURCE)


def test_a_partition_that_starts_over_is_another_assignment_and_paused_until_its_place_is_found() -> None:
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    assignment.begin(found(requests[0]))
    before = assignment.held[SOURCE]
    assignment.start_all_over([before], "its topic is gone")
    assert assignment.consumer.done[-1] == ("pause", SOURCE)
    assignment.begin(found(requests[1]))
    assert not before.alive
    assert assignment.held[SOURCE] is not before


def test_a_partition_on_its_way_out_of_the_consumer_is_not_touched_there() -> None:
    """The consumer drops it before it tells, and refuses to pause what it doesn't have."""
    requests: list[Request] = []
    assignment = make(requests)
    assignment.assigned({SOURCE})
    assignment.begin(found(requests[0]))
    done = list(assignment.consumer.done)
    assignment.consumer.assigned = set()
    assignment.pause(assignment.held[SOURCE], True)
    assignment.seek_back()
    assignment.start_all_over([assignment.held[SOURCE]], "its topic is gone")
    assert assignment.consumer.done == done


def test_a_partition_is_behind_while_more_records_are_to_come_than_a_poll_gives() -> None:
    requests: list[Request] = []
    fetch_progress = FetchProgress()
    assignment = Assignment(lambda _: Stream(), "", fetch_progress, requests.append, make_metrics())
    assignment.consumer = FakeConsumer()
    state = SimpleNamespace(position=SimpleNamespace(offset=50))
    assignment.consumer._subscription = SimpleNamespace(assignment={SOURCE: state})
    assignment.assigned({SOURCE})
    assignment.begin(found(requests[0]))
    partition = assignment.held[SOURCE]
    behind = []
    for position, end in (
        (60, None),
        (60, 60 + PARTITION_RECORDS),
        (60, 61 + PARTITION_RECORDS),
        (61, 61 + PARTITION_RECORDS),
    ):
        state.position.offset = position
        if end is not None:
            fetch_progress.note_response([SOURCE], 1.0, {SOURCE: end})
        assignment.follow()
        behind.append(partition.behind)
    assert behind == [False, False, True, False]
    assert partition.position == 61
