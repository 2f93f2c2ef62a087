"""Makes failing schedules shorter: fewer steps, shorter turns, smaller numbers."""

from collections.abc import Callable, Iterator

from tests.delivery.world import TURN, Schedule, Step

Fails = Callable[[Schedule], bool]


def shrink(schedule: Schedule, fails: Fails) -> Schedule:
    """Simplify a schedule for as long as it still fails."""
    while True:
        shorter = _simplify(_drop_steps(schedule, fails), fails)
        if shorter == schedule:
            return schedule
        schedule = shorter


def _drop_steps(schedule: Schedule, fails: Fails) -> Schedule:
    size = len(schedule.steps)
    while size >= 1:
        start = 0
        while start < len(schedule.steps):
            shorter = schedule._replace(steps=schedule.steps[:start] + schedule.steps[start + size :])
            if fails(shorter):
                schedule = shorter
            else:
                start += size
        size //= 2
    return schedule


def _simplify(schedule: Schedule, fails: Fails) -> Schedule:
    for which in range(len(schedule.steps)):
        tried: set[Step] = set()
        while new := [step for step in _simpler(schedule.steps[which]) if step not in tried]:
            tried.add(new[0])
            simpler = schedule._replace(steps=(*schedule.steps[:which], new[0], *schedule.steps[which + 1 :]))
            if fails(simpler):
                schedule = simpler
    return schedule


def _simpler(step: Step) -> Iterator[Step]:
    name, a, b, c = step
    if name == "turn":
        for bit in range(len(TURN)):
            yield name, a, b, c & ~(1 << bit)
    elif name == "send":
        yield name, a, 1, c
        yield name, a, b, c % 6
    elif name not in ("revoke", "rebalance") and c != 1:
        yield name, a, b, 1
