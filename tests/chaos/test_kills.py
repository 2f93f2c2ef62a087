"""SIGKILL of workers at random moments."""

from collections.abc import Callable

import pytest

from tests.chaos.faults import KILLS, kill_schedule, play
from tests.chaos.load import messy_devices, texts
from tests.chaos.reckoning import Report, reckon
from tests.chaos.stage import PARTITIONS, Stage
from tests.inference.bundles import WORDS

TEXT_KILLS = max(3, KILLS // 5)
CALM_S = 5.0


@pytest.mark.timeout(120 + 15 * KILLS)
def test_every_window_comes_however_often_one_of_three_workers_is_killed(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(delivery=delivery)
    schedule = kill_schedule(seed, KILLS, workers=3)
    seconds = schedule[-1].at_s + CALM_S
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=seconds, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = stage.load(records)
        play(schedule, lambda kill: fleet.kill(kill.worker))
        counted = reckon(stage, fleet, load.wait(), report, duplicates_at_most=0)
        assert fleet.ended == []
    assert counted.labels.expected > 10 * KILLS


@pytest.mark.timeout(120 + 15 * TEXT_KILLS)
def test_every_text_is_labelled_however_often_one_of_three_workers_is_killed(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(kind="text", delivery=delivery)
    schedule = kill_schedule(seed + 1, TEXT_KILLS, workers=3)
    seconds = schedule[-1].at_s + CALM_S
    records = texts(seed, partitions=PARTITIONS, count=int(150 * seconds), seconds=seconds, words=WORDS)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = stage.load(records)
        play(schedule, lambda kill: fleet.kill(kill.worker))
        reckon(stage, fleet, load.wait(), report, duplicates_at_most=0)
        assert fleet.ended == []
