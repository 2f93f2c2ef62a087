"""Records made to crash the compiled path, or to take all memory or time."""

import random
import time
from collections.abc import Callable

import pytest

from tests.chaos.load import Record, messy_devices
from tests.chaos.poison import bombs, bombs_everywhere, is_larger, poison, too_much
from tests.chaos.reckoning import Report, reckon
from tests.chaos.stage import Stage
from tests.chaos.vitals import Watch

POISONED = 6000
LARGEST_LETTER = 2 << 20
TOPICS = {"in": {"max.message.bytes": str(8 << 20)}, "dead": {"max.message.bytes": str(LARGEST_LETTER)}}
MANY_PARTITIONS = 24
MOST_MB = 1200
"""220 of the worker itself, and up to 800 more were seen; 24 records at a time took 1970."""
KILLED_SHARE = 0.4


def test_no_record_whatever_its_bytes_stops_a_worker_or_harms_its_neighbours(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """What can't be read is in the dead letters byte for byte; what can be read, by the reference, is read."""
    stage = make_stage(delivery=delivery, partitions=2)
    rng = random.Random(seed)
    good = messy_devices(seed, partitions=2, devices=4, seconds=10, speed=5)
    bad = [Record(rng.uniform(0, 10), rng.randrange(2), *poison(rng)) for _ in range(POISONED)]
    with stage.fleet() as fleet:
        fleet.start(0)
        sent = stage.load(sorted([*good, *bad], key=lambda record: record.at_s)).wait()
        counted = reckon(stage, fleet, sent, report, duplicates_at_most=0)
        assert fleet.ended == []
    assert "Traceback" not in fleet.said()
    assert counted.letters.expected > POISONED // 3


@pytest.mark.parametrize("kill", [False, True])
def test_batches_that_are_small_on_the_wire_and_huge_to_read_cost_a_worker_no_record_and_little_memory(
    make_stage: Callable[..., Stage], delivery: str, seed: int, kill: bool, report: Report
) -> None:
    """Zeros by the 100 MB, headers and null records by the ten thousand, gzip members of few bytes, and their like."""
    stage = make_stage(delivery=delivery, partitions=2, topics=TOPICS)
    rng = random.Random(seed)
    good = messy_devices(seed, partitions=2, devices=4, seconds=20, speed=5)
    with stage.fleet() as fleet:
        fleet.start(0)
        with Watch(lambda: {"worker": fleet[0].process.pid}) as watch:
            load, sent = stage.load(good), []
            for bomb in bombs(rng, 2):
                sent += stage.send_at_once(bomb.records, codec=bomb.codec, compress=bomb.compress)
                if kill and rng.random() < KILLED_SHARE:
                    time.sleep(rng.uniform(0, 5))
                    fleet.kill(0)
            sent += load.wait()
            unreadable = too_much(rng, 2)
            stage.send_at_once(unreadable.records, codec=unreadable.codec)
            wanted = stage.expected(sent)
            fleet[0].wait_for("stridecast_unreadable_records_total", len(unreadable.records))
        given_up = {identity for identity, letter in wanted.letters.items() if is_larger(letter, LARGEST_LETTER)}
        reckon(stage, fleet, sent, report, expected=wanted, refused=given_up, duplicates_at_most=0)
        assert fleet.ended == []
    assert "Traceback" not in fleet.said()
    check_memory(watch, report)


def test_records_of_fifty_megabytes_in_each_of_many_partitions_take_the_memory_of_a_few(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """A worker begins with all of them before it."""
    stage = make_stage(delivery=delivery, partitions=MANY_PARTITIONS, topics=TOPICS)
    rng, sent = random.Random(seed), []
    for bomb in bombs_everywhere(rng, MANY_PARTITIONS):
        sent += stage.send_at_once(bomb.records, codec=bomb.codec)
    wanted = stage.expected(sent)
    with stage.fleet() as fleet:
        fleet.start(0)
        with Watch(lambda: {str(number): fleet[number].process.pid for number in fleet.numbers()}) as watch:
            reckon(stage, fleet, sent, report, expected=wanted, refused=wanted.letters.keys(), duplicates_at_most=0)
        assert fleet.ended == []
    check_memory(watch, report)


def check_memory(watch: Watch, report: Report) -> None:
    for life in watch.lives.values():
        most = max(each.rss_mb for each in life)
        report(f"memory {life[0].rss_mb:.0f} MB, {most:.0f} at most")
        assert most <= MOST_MB
