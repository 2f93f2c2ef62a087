"""Seeded schedules of faults, and the clock that plays them."""

import os
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

KILLS = int(os.environ.get("CHAOS_KILLS") or 10)


@dataclass(frozen=True)
class Kill:
    """A worker to be killed, so many seconds after the beginning."""

    at_s: float
    worker: int


def kill_schedule(seed: int, kills: int, workers: int) -> list[Kill]:
    """Choose whom to kill and when: in quick succession, while others start or recover, and after calmer stretches."""
    rng = random.Random(seed)
    schedule, now = [], 1.0
    for _ in range(kills):
        shortest, longest = rng.choice([(0.05, 1.5), (1.5, 6.0), (1.5, 6.0), (6.0, 10.0)])
        now += rng.uniform(shortest, longest)
        schedule.append(Kill(now, rng.randrange(workers)))
    return schedule


def play(schedule: Iterable[Kill], strike: Callable[[Kill], None]) -> None:
    """Do each at its time; one that is overdue, because those before it took long, at once."""
    began = time.monotonic()
    for fault in schedule:
        time.sleep(max(0.0, fault.at_s - (time.monotonic() - began)))
        strike(fault)
