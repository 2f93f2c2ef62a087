"""Topics that go, refuse, expire, are cut short or grow while workers run."""

import time
from collections.abc import Callable, Iterable, Sequence

import pytest

from tests.chaos.expected import Expected, Identity
from tests.chaos.fleet import Fleet
from tests.chaos.load import Record, Sent, messy_devices
from tests.chaos.operations import (
    add_partitions,
    commit,
    committed,
    delete_records,
    delete_topic,
    forget_commits,
    make_topic,
    rewind_points,
    set_up_topic,
)
from tests.chaos.reckoning import Report, reckon
from tests.chaos.stage import PARTITIONS, Stage
from tests.chaos.tally import Reader, identity_of

COMMITTED_WITHIN_S = 30.0


@pytest.fixture
def early(seed: int) -> list[Record]:
    """The first minute of all devices, which breaks off with windows open."""
    return messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=6, speed=10, farewell=False)


@pytest.fixture
def late(seed: int) -> list[Record]:
    """The second minute of the same devices, until all is closed."""
    return messy_devices(seed + 1, partitions=PARTITIONS, devices=3, seconds=8, speed=7.5, start_s=60.0)


def wait_until_committed(stage: Stage, sent: Iterable[Sent]) -> None:
    """Wait until the group has committed the end of what was sent."""
    ends: dict[int, int] = {}
    for each in sent:
        ends[each.record.partition] = max(ends.get(each.record.partition, 0), each.offset + 1)
    deadline = time.monotonic() + COMMITTED_WITHIN_S
    while {partition: position for partition, (position, _) in committed(stage).items()} != ends:
        assert time.monotonic() < deadline, f"{committed(stage)} is committed, not {ends}"
        time.sleep(0.2)


def label_and_stop(stage: Stage, fleet: Fleet, records: Sequence[Record]) -> list[Sent]:
    """Have a worker label records and commit their end, and stop it; return what was sent."""
    fleet.start(0)
    sent = stage.load(records).wait()
    wait_until_committed(stage, sent)
    assert fleet.stop(0) == [0]
    return sent


def from_offsets(sent: Iterable[Sent], starts: dict[int, int]) -> list[Sent]:
    """Return what lies at or after an offset in each partition."""
    return [each for each in sent if each.offset >= starts.get(each.record.partition, 0)]


def joined(*parts: Expected, letters: Expected) -> Expected:
    """Put labels together, of which the first part's hold where two have the same."""
    labels = {identity: label for part in reversed(parts) for identity, label in part.labels.items()}
    return Expected(labels, letters.letters)


def without(expected: Expected, identities: Iterable[Identity]) -> Expected:
    """Leave labels out."""
    left_out = set(identities)
    labels = {identity: label for identity, label in expected.labels.items() if identity not in left_out}
    return Expected(labels, expected.letters)


# --- The output ----------------------------------------------------------------------------------------------------


def test_an_output_topic_that_is_deleted_and_made_again_gets_all_labels_that_come_after(
    make_stage: Callable[..., Stage],
    delivery: str,
    early: list[Record],
    late: list[Record],
    report: Report,
) -> None:
    stage = make_stage(delivery=delivery)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        first = stage.load(early).wait()
        settled = stage.expected(first).labels.keys()
        with Reader(stage.broker.bootstrap_servers, stage.output) as labels:
            labels.read_until(set(settled), identity_of(stage.kind))
        wait_until_committed(stage, first)
        delete_topic(stage, stage.output)
        load = stage.load(late)
        time.sleep(6)
        make_topic(stage, stage.output, PARTITIONS)
        sent = first + load.wait()
        whole = stage.expected(sent)
        reckon(stage, fleet, sent, report, expected=without(whole, settled), allowed=settled)


def test_an_output_topic_that_takes_no_label_for_its_size_gets_all_once_it_does(
    make_stage: Callable[..., Stage], delivery: str, early: list[Record], late: list[Record], report: Report
) -> None:
    """Every label is refused for good; a worker that can't go on ends, and its supervisor starts it again."""
    stage = make_stage(delivery=delivery, topics={"out": {"max.message.bytes": "120"}})
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(early + [_later(record, 8.0) for record in late])
        fleet.wait_until_said("TooLarge", within_s=30)
        time.sleep(6)
        set_up_topic(stage, stage.output, max_message_bytes=str(1 << 20))
        reckon(stage, fleet, load.wait(), report)


def _later(record: Record, seconds: float) -> Record:
    return Record(record.at_s + seconds, record.partition, record.key, record.value, record.headers)


def test_partitions_added_to_the_output_while_workers_run_cost_no_label(
    make_stage: Callable[..., Stage], delivery: str, early: list[Record], late: list[Record], report: Report
) -> None:
    """Workers that were there before and those that start after put labels of one partition in different places."""
    stage = make_stage(delivery=delivery, outputs=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(early + [_later(record, 8.0) for record in late])
        time.sleep(4)
        add_partitions(stage, stage.output, PARTITIONS)
        time.sleep(2)
        fleet.kill(0)
        time.sleep(3)
        assert fleet.stop(1) == [0]
        reckon(stage, fleet, load.wait(), report, anywhere=True)


# --- The input -----------------------------------------------------------------------------------------------------


def test_partitions_added_to_the_input_while_workers_run_are_read_from_their_starts(
    make_stage: Callable[..., Stage], delivery: str, seed: int, early: list[Record], report: Report
) -> None:
    stage = make_stage(delivery=delivery)
    more = messy_devices(seed + 2, partitions=PARTITIONS + 2, devices=3, seconds=8, speed=7.5, start_s=60.0)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        first = stage.load(early).wait()
        add_partitions(stage, stage.input, PARTITIONS + 2)
        sent = first + stage.load(more).wait()
        reckon(stage, fleet, sent, report, duplicates_at_most=0)


def test_commits_that_have_expired_have_all_read_again_and_nothing_said_twice(
    make_stage: Callable[..., Stage], delivery: str, early: list[Record], late: list[Record], report: Report
) -> None:
    """Nobody ran for longer than the group's offsets are kept; records and labels are all there."""
    stage = make_stage(delivery=delivery)
    with stage.fleet() as fleet:
        first = label_and_stop(stage, fleet, early)
        forget_commits(stage)
        assert committed(stage) == {}
        fleet.start(0, 1)
        sent = first + stage.load(late).wait()
        reckon(stage, fleet, sent, report, duplicates_at_most=0, letters_twice_at_most=0)


def test_commits_that_lie_beyond_the_log_are_told_of_and_nothing_is_said_twice(
    make_stage: Callable[..., Stage], delivery: str, early: list[Record], late: list[Record], report: Report
) -> None:
    """A log that was cut off behind the position: what is left of it has been labelled."""
    stage = make_stage(delivery=delivery)
    with stage.fleet() as fleet:
        first = label_and_stop(stage, fleet, early)
        commit(stage, {number: (position + 1000, at) for number, (position, at) in committed(stage).items()})
        fleet.start(0)
        fleet.wait_until_said("lies outside the log")
        sent = first + stage.load(late).wait()
        reckon(stage, fleet, sent, report, duplicates_at_most=0, letters_twice_at_most=0)


def test_commits_that_lie_before_the_log_are_told_of_and_all_that_is_left_is_labelled(
    make_stage: Callable[..., Stage], delivery: str, early: list[Record], late: list[Record], report: Report
) -> None:
    """Nobody ran for longer than the topic keeps: what expired unread is lost, and the log says so."""
    stage = make_stage(delivery=delivery)
    with stage.fleet() as fleet:
        first = label_and_stop(stage, fleet, early)
        second = stage.load(late).wait()
        expired = {partition: position + 40 for partition, (position, _) in committed(stage).items()}
        delete_records(stage, stage.input, expired)
        fleet.start(0)
        fleet.wait_until_said("lies outside the log")
        left = from_offsets(second, expired)
        letters = stage.expected(first + left)
        wanted = joined(stage.expected(first), stage.expected(left), letters=letters)
        reckon(stage, fleet, first + left, report, expected=wanted)


def test_an_input_cut_off_above_the_rewind_point_is_told_of_and_costs_what_was_open_at_most(
    make_stage: Callable[..., Stage], delivery: str, early: list[Record], late: list[Record], report: Report
) -> None:
    stage = make_stage(delivery=delivery)
    with stage.fleet() as fleet:
        first = label_and_stop(stage, fleet, early)
        positions = {partition: position for partition, (position, _) in committed(stage).items()}
        points = rewind_points(stage)
        cut = {partition: (points[partition] + position + 1) // 2 for partition, position in positions.items()}
        assert all(points[partition] < offset <= positions[partition] for partition, offset in cut.items())
        delete_records(stage, stage.input, cut)
        fleet.start(0)
        fleet.wait_until_said("have expired")
        sent = first + stage.load(late).wait()
        rest = stage.expected(from_offsets(sent, cut))
        settled = stage.expected(first)
        after = {
            identity: label for identity, label in rest.labels.items() if label[1]["source"][1] >= positions[label[0]]
        }
        wanted = joined(settled, Expected(after, {}), letters=stage.expected(sent))
        reckon(stage, fleet, sent, report, expected=wanted)


def test_records_that_expire_under_a_worker_s_position_are_told_of_and_the_rest_is_labelled(
    make_stage: Callable[..., Stage], delivery: str, early: list[Record], late: list[Record], report: Report
) -> None:
    """The worker stands still for a moment; when it goes on, what it would read next is gone.

    But for what the broker sent it before, in answer to the fetch that was under way.
    """
    stage = make_stage(delivery=delivery)
    with stage.fleet() as fleet:
        fleet.start(0)
        first = stage.load(early).wait()
        wait_until_committed(stage, first)
        fleet.freeze(0)
        second = stage.load([_later(record, -record.at_s) for record in late]).wait()
        expired = {partition: position + 200 for partition, (position, _) in committed(stage).items()}
        delete_records(stage, stage.input, expired)
        fleet.thaw(0)
        left = from_offsets(second, expired)
        whole, rest = stage.expected(first + second), stage.expected(left)
        settled = stage.expected(first)
        letters = stage.expected(first + left)
        wanted = joined(settled, rest, letters=letters)
        allowed = whole.labels.keys() - settled.labels.keys()
        wanted = without(wanted, [identity for identity in rest.labels if identity not in whole.labels])
        reckon(
            stage,
            fleet,
            first + second,
            report,
            expected=wanted,
            allowed=allowed | rest.labels.keys(),
            allowed_letters=whole,
        )
    assert "have expired before they were read" in fleet.said()


def test_an_input_compacted_under_the_rewind_point_costs_what_was_open_at_most(
    make_stage: Callable[..., Stage], delivery: str, early: list[Record], late: list[Record], report: Report
) -> None:
    """Compaction leaves each device's last record: no warning can be had, for the log still begins where it did."""
    stage = make_stage(delivery=delivery)
    with stage.fleet() as fleet:
        first = label_and_stop(stage, fleet, early)
        first += compact(stage, first)
        fleet.start(0)
        sent = first + stage.load(late).wait()
        whole, settled = stage.expected(sent), stage.expected(first)
        again = stage.expected(sent[len(first) :])
        sure = {key: label for key, label in whole.labels.items() if key in settled.labels or key in again.labels}
        allowed = whole.labels.keys() | again.labels.keys() - sure.keys()
        reckon(
            stage, fleet, sent, report, expected=Expected(sure, whole.letters), allowed=allowed - settled.labels.keys()
        )


def compact(stage: Stage, sent: list[Sent]) -> list[Sent]:
    """Have the log compacted, and wait until most of it is gone; return what had to be sent for it.

    Only a segment that is not written to any more is compacted, so a record in each partition begins another.
    """
    quick = {"segment_ms": "100", "min_cleanable_dirty_ratio": "0.001", "max_compaction_lag_ms": "100"}
    set_up_topic(stage, stage.input, cleanup_policy="compact", **quick)
    nudges = stage.load([Record(0.0, number, b"nudge", b"not JSON") for number in range(PARTITIONS)]).wait()
    deadline = time.monotonic() + 60
    number_left = len(sent)
    while number_left > len(sent) // 2:
        assert time.monotonic() < deadline, f"{number_left} of {len(sent)} records are left"
        time.sleep(1)
        with Reader(stage.broker.bootstrap_servers, stage.input) as reader:
            reader.read_to_the_end()
            number_left = len(reader.messages)
    set_up_topic(stage, stage.input, cleanup_policy="delete")  # a compacted topic takes no record without a key
    return nudges
