"""Records made to crash the compiled path."""

import random
from collections.abc import Callable

from tests.chaos.load import Record, messy_devices
from tests.chaos.poison import poison
from tests.chaos.reckoning import Report, reckon
from tests.chaos.stage import Stage

POISONED = 6000


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
