"""Workers that come, go, freeze, or differ from one another, in one group."""

import time
from collections.abc import Callable
from typing import Any

from tests.chaos.expected import Expected, expected_activities
from tests.chaos.fleet import Fleet
from tests.chaos.load import messy_devices, texts
from tests.chaos.operations import commit, committed
from tests.chaos.reckoning import Report, reckon
from tests.chaos.stage import PARTITIONS, SESSION_TIMEOUT_S, Stage
from tests.inference.bundles import WORDS

OLD: dict[str, Any] = {"lateness_slots": 4, "max_gap_ms": 250}
NEW: dict[str, Any] = {"lateness_slots": 10, "max_gap_ms": 1000}
HELD = 30
"""What the producers of two workers may have held when they froze. One that thaws writes nothing else before it is sure
of its partitions; when it did, 91 labels and 37 letters came twice."""
FOREIGN = '{"v":99,"from":"a worker that is not born yet"}'


def test_a_worker_frozen_past_its_session_and_thawed_loses_nothing(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """Others have its partitions when it wakes, with labels in its hands that it has not sent yet."""
    stage = make_stage(delivery=delivery)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=32, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = stage.load(records)
        _freeze_and_thaw(fleet)
        reckon(stage, fleet, load.wait(), report, duplicates_at_most=HELD, letters_twice_at_most=HELD)


def test_a_text_worker_frozen_past_its_session_and_thawed_loses_nothing(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(kind="text", delivery=delivery)
    records = texts(seed, partitions=PARTITIONS, count=3000, seconds=32, words=WORDS)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = stage.load(records)
        _freeze_and_thaw(fleet)
        reckon(stage, fleet, load.wait(), report, duplicates_at_most=HELD, letters_twice_at_most=HELD)


def _freeze_and_thaw(fleet: Fleet) -> None:
    for number in (0, 1):
        time.sleep(4)
        fleet.freeze(number)
        time.sleep(SESSION_TIMEOUT_S + 4)
        fleet.thaw(number)


def test_scaling_from_one_worker_to_three_and_back_under_load_loses_nothing(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(delivery=delivery)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=30, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0)
        load = stage.load(records)
        time.sleep(2)
        fleet.start(1, 2)
        time.sleep(5)
        assert fleet.stop(0) == [0]
        time.sleep(2)
        assert fleet.stop(1) == [0]
        reckon(stage, fleet, load.wait(), report, duplicates_at_most=0)
        assert fleet.ended == []


def test_devices_that_fall_silent_while_workers_are_killed_get_their_last_windows(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """Whole devices stop one after the other while others of their partitions go on; in the end all stop."""
    stage = make_stage(delivery=delivery, activity__idle_timeout_s="8")
    leave_at_s = (6.0, 12.0, 18.0)
    records = messy_devices(
        seed, partitions=PARTITIONS, devices=5, seconds=30, speed=4, farewell=False, leave_at_s=leave_at_s
    )
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = stage.load(records)
        for number in (0, 1, 2, 0):
            time.sleep(6.5)
            fleet.kill(number)
        counted = reckon(stage, fleet, load.wait(), report, silent=True)
        assert fleet.ended == []
    assert counted.labels.expected > 1000


def test_workers_of_one_group_with_other_settings_lose_nothing_that_both_would_label(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """An upgrade one worker at a time, as to `lateness_slots` and `max_gap_ms`.

    Which windows are complete, and what a straggler does, depends on who holds the partition: what both would label
    alike must come, and nothing that neither would.
    """
    stage = make_stage(delivery=delivery)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=24, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(records)
        time.sleep(4)
        for number in (0, 1):
            assert fleet.stop(number) == [0]
            fleet.start(number, flags=tuple(_flags(NEW)))
            time.sleep(3)
        sent = load.wait()
        before = expected_activities(sent, stage.bundle, **OLD)
        after = expected_activities(sent, stage.bundle, **NEW)
        both = {identity: label for identity, label in before.labels.items() if identity in after.labels}
        allowed = before.labels.keys() | after.labels.keys()
        reckon(stage, fleet, sent, report, expected=Expected(both, before.letters), allowed=allowed)
        assert len(both) > 300


def test_commits_of_a_version_that_nobody_knows_are_told_of_and_cost_at_most_what_was_open(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(delivery=delivery)
    early, late = (
        messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=6, speed=4, start_s=start, farewell=farewell)
        for start, farewell in ((0.0, False), (24.0, True))
    )
    with stage.fleet() as fleet:
        fleet.start(0)
        first = stage.load(early).wait()
        positions = positions_once_they_pass(stage, len(first))
        assert fleet.stop(0) == [0]
        commit(stage, {partition: (position, FOREIGN) for partition, position in positions.items()})
        fleet.start(0)
        fleet.wait_until_said("metadata")
        sent = first + stage.load(late).wait()
        whole, again = stage.expected(sent), stage.expected(sent[len(first) :])
        closed = stage.expected(first).labels.keys()
        # A window open at the position is labelled, if at all, of what came after.
        sure = {identity: label for identity, label in again.labels.items() if identity not in closed}
        sure |= {identity: label for identity, label in whole.labels.items() if identity in closed}
        allowed = (whole.labels.keys() | again.labels.keys()) - sure.keys()
        reckon(stage, fleet, sent, report, expected=Expected(sure, whole.letters), allowed=allowed)


def test_a_commit_of_long_ago_that_kafka_answers_with_again_has_nothing_said_twice(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """Kafka 4.4 did, after a kill on a starved machine, where it had loaded the group's commits over and over."""
    stage = make_stage(delivery=delivery)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=16, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0)
        load = stage.load(records)
        time.sleep(4)
        stale = committed(stage)
        sent = load.wait()
        positions_once_they_pass(stage, len(sent))
        assert fleet.stop(0) == [0]
        commit(stage, stale)
        fleet.start(0)
        positions_once_they_pass(stage, len(sent))
        counted = reckon(stage, fleet, sent, report, duplicates_at_most=0)
        assert counted.letters.duplicate == []
        assert sum(position for position, _ in stale.values()) < len(sent) / 2


def positions_once_they_pass(stage: Stage, records: int, *, within_s: float = 60) -> dict[int, int]:
    """Wait until so many records lie before the committed positions."""
    deadline = time.monotonic() + within_s
    while True:
        positions = {partition: position for partition, (position, _) in committed(stage).items()}
        if sum(positions.values()) == records:
            return positions
        assert time.monotonic() < deadline, f"{positions} are committed of {records} records"
        time.sleep(0.2)


def _flags(settings: dict[str, int]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--activity.{name.replace('_', '-')}", str(value))]
