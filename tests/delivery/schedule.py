"""Random schedules, each from a seed."""

import random

from tests.delivery.oracle import violations
from tests.delivery.world import TURN, WORKERS, Schedule, Setting, Step

WORKER_STEPS = {
    "poll": 10, "recover": 6, "check_silence": 4, "seal": 4, "infer": 8, "acknowledge": 7, "commit": 8, "write": 8,
}  # fmt: skip
OTHER_STEPS = {"turn": 14, "send": 14, "send_bad_record": 1, "wait": 5, "write_marker": 2}
FAULTS = {
    "rebalance": 2, "revoke": 3, "crash": 1, "freeze": 1, "thaw": 2, "lose_answer": 1, "abort": 1, "write_orphan": 1,
    "time_out_transaction": 1, "expire": 0.3, "freeze and be replaced": 1, "freeze and rejoin": 1,
    "crash and be replaced": 1, "rebalance and revoke": 1, "resend before silence": 0.5, "wait for silence": 3,
}  # fmt: skip
COUNTS = {
    "poll": (1, 2, 4, 8), "recover": (1, 3, 3), "infer": (1, 4), "acknowledge": (1, 2, 4), "write": (1, 2, 4),
    "commit": (1, 1, 1, 1, 1, 1, 0), "revoke": (1, 1, 0),
}  # fmt: skip
# Steps that only make sense in a row. Each has a step's name and its worker, counted from the current one.
EPISODES = {
    "freeze and be replaced": [("freeze", 0), ("rebalance", 0), ("turn", 1), ("turn", 1), ("thaw", 0), ("turn", 0)],
    "freeze and rejoin": [
        ("freeze", 0),
        ("rebalance", 0),
        ("turn", 1),
        ("thaw", 0),
        ("rebalance", 0),
        ("turn", 0),
        ("turn", 0),
    ],
    "crash and be replaced": [("crash", 0), ("rebalance", 0), ("turn", 1)],
    "rebalance and revoke": [("rebalance", 0), ("revoke", 0), ("turn", 1), ("turn", 0)],
    "wait for silence": [("wait", 0), ("turn", 0), ("turn", 0)],
}
# How far ahead of its newest reading a device's next ones begin: in order, late, again, with jumps.
ARRIVALS = (
    (1,),
    (1, 1, 1, 2, 0, -1),
    (1, 1, -6, -7, -8, 5),
    (1, 1, 1, 2, 4, 5, 8),
    (1, 1, 2, 0, -1, -3, -5, -7, 4, 8, 11),
)
ALL = (1 << len(TURN)) - 1


def random_schedule(seed: int) -> Schedule:
    """Return the schedule of a seed. Each one draws its own odds for everything that may happen."""
    draw = random.Random(seed)
    setting = Setting(draw.random() < 0.5, draw.choice((1, 2)), draw.randrange(4), draw.choice((0, 1, 1, 9)))
    odds = {name: weight * draw.choice((0.3, 1, 2)) for name, weight in (WORKER_STEPS | OTHER_STEPS).items()} | {
        name: weight * draw.choice((0, 0.3, 1, 2)) for name, weight in FAULTS.items()
    }
    partitions = draw.choice((1, 1, 2))
    workers = draw.choice((2, 3))
    devices = draw.choice((1, 2, 2, 3))
    arrival = draw.choice(ARRIVALS)
    names = draw.choices(list(odds), list(odds.values()), k=draw.randrange(20, 110))
    steps: list[Step] = [("rebalance", draw.randrange(16), 0, 7)]
    worker = 0
    for name in names:
        if draw.random() < 0.3:
            worker = draw.randrange(workers)
        if name == "resend before silence":
            steps += _resend_before_silence(draw, worker, partitions)
            continue
        for part, shift in EPISODES.get(name, [(name, 0)]):
            steps.append(_step(part, draw, (worker + shift) % WORKERS, partitions, devices, arrival))
    return Schedule(setting, tuple(steps))


def _step(name: str, draw: random.Random, worker: int, partitions: int, devices: int, arrival: tuple[int, ...]) -> Step:
    if name == "send":
        device = draw.randrange(devices) * 2 + draw.randrange(partitions)
        return name, device, draw.choice(arrival), draw.choice((3, 3, 1, 0, 2, 5)) + 6 * draw.randrange(8)
    if name == "send_bad_record":
        return name, draw.randrange(partitions), 0, 0
    if name == "turn":
        return name, worker, draw.randrange(4), _part_of_a_turn(draw)
    if name == "wait":
        return name, draw.choice((1, 2, 4, 7, 11)), 0, 0
    if name == "rebalance":
        return name, draw.randrange(16), 0, draw.choice((7, 7, 7, 1, 2, 4, 3, 5, 6))
    if name in WORKER_STEPS or name in FAULTS:
        which = (
            draw.randrange(partitions) if name in ("poll", "recover", "check_silence", "seal") else draw.randrange(4)
        )
        return name, worker, which, draw.choice(COUNTS.get(name, (0,)))
    return name, draw.randrange(4), draw.randrange(4), 0


def _resend_before_silence(draw: random.Random, worker: int, partitions: int) -> list[Step]:
    """A device sends, then another; the first sends the same again, and falls silent before the other one."""
    partition, waits = draw.randrange(partitions), draw.choice(((4, 7), (7, 4), (2, 11)))
    values = 6 * draw.randrange(8)
    return [
        ("send", partition, draw.choice((1, 5)), 5 + values),
        ("turn", worker, 0, ALL),
        ("wait", waits[0], 0, 0),
        ("send", partition + 2, 1, draw.choice((0, 3)) + values),
        ("send", partition, draw.choice((-6, -7, -8, -5)), draw.choice((3, 3, 4, 5)) + values),
        ("wait", waits[1], 0, 0),
        ("turn", worker, 0, ALL),
        ("turn", worker, 0, _part_of_a_turn(draw)),
    ]


def _part_of_a_turn(draw: random.Random) -> int:
    """Return which of a turn's steps are taken: all, the first, the last, or any."""
    some = draw.randrange(len(TURN))
    return draw.choice((ALL, ALL, ALL, (1 << some) - 1, (1 << some) - 1, ALL >> some << some, draw.randrange(ALL)))


def search(seeds: range, without: frozenset[str] = frozenset()) -> tuple[int, Schedule, list[str]] | None:
    """Return the first seed whose schedule goes wrong, the schedule and what is wrong; None if there is none."""
    for seed in seeds:
        schedule = random_schedule(seed)
        wrong = violations(schedule, without)
        if wrong:
            return seed, schedule, wrong
    return None
