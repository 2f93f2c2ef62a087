"""Random schedules of the delivery model: whatever happens in whatever order, every window is published once.

How many schedules are explored is set by STRIDECAST_SCHEDULES (20,000 by default), from which seed by
STRIDECAST_FIRST_SEED (0). A failure names its seed, and describes the shortened schedule.
"""

import os

import pytest

from tests.delivery.describe import describe
from tests.delivery.oracle import violations
from tests.delivery.schedule import random_schedule
from tests.delivery.shrink import shrink
from tests.delivery.windower import Record, expected
from tests.delivery.world import Schedule, Setting

SCHEDULES = int(os.environ.get("STRIDECAST_SCHEDULES", "20000"))
FIRST_SEED = int(os.environ.get("STRIDECAST_FIRST_SEED", "0"))
PARTS = 10


@pytest.mark.parametrize("part", range(PARTS))
def test_every_window_is_published_once_whatever_happens(part: int) -> None:
    for seed in range(FIRST_SEED + part, FIRST_SEED + SCHEDULES, PARTS):
        schedule = random_schedule(seed)
        wrong = violations(schedule)
        if wrong:
            short = shrink(schedule, lambda one: bool(violations(one)))
            pytest.fail(f"seed {seed}: {wrong}\n{describe(short)}\n{short!r}")


def test_schedules_lead_to_windows_dead_letters_and_late_readings() -> None:
    records = [
        (step[0], step[2]) for seed in range(1000) for step in random_schedule(seed).steps if step[0].startswith("send")
    ]

    assert len(records) > 5000
    assert sum(ahead <= -2 for _, ahead in records) > 300
    assert sum(name == "send_bad_record" for name, _ in records) > 100


def test_a_window_that_time_closed_is_not_published_again_for_a_late_reading() -> None:
    """What tombstones are for.

    Device a sends slots 100 to 105, then, after a record of b that stays open, the first of them once more: late,
    dropped. It falls silent, and rewind_to lies at b's record. A successor without tombstones sees only the late
    readings, takes a for new, finds window 99 open at the position, and publishes it again: its label lies before
    labels_from.
    """
    every = (1 << 12) - 1
    schedule = Schedule(
        Setting(exactly_once=True, outputs=1, survivor=1, room=1),
        (
            ("rebalance", 0, 0, 1),
            ("send", 0, 1, 5),
            ("turn", 0, 0, every),
            ("wait", 4, 0, 0),
            ("send", 2, 1, 3),
            ("send", 0, -7, 3),
            ("wait", 7, 0, 0),
            ("turn", 0, 0, every),
            ("turn", 0, 0, every),
            ("turn", 0, 0, every),
        ),
    )

    assert violations(schedule) == []
    assert "twice: a99 is published 2 times" in violations(schedule, frozenset(["tombstones for devices that strayed"]))


def test_the_reference_labels_what_is_complete_and_fills_no_gap_of_two() -> None:
    log = [
        Record("b", ((100, 0), (101, 1), (103, 0))),
        Record("b", ((104, 1), (107, 1))),
        Record("b", ((120, 1),)),
        Record("b", ((102, 1),)),
    ]

    assert expected(log) == {("b", 100): (0, 1, None, 0), ("b", 102): (None, 0, 1, None)}
