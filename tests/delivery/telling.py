"""Schedules told in words, a clause a step, with what each step brought about."""

from tests.delivery.oracle import faults
from tests.delivery.windows import Record
from tests.delivery.world import INPUTS, TURN, Schedule, Step, World

WORKERS = "ABCD"
DOES = {
    "recover": "recovers", "poll": "polls", "listen": "notices silence", "seal": "takes a snapshot", "infer": "infers",
    "land": "its sends land", "acknowledge": "hears of it", "commit": "commits", "revoke": "revokes in time",
    "lose": "gets no answer to a send", "abort": "aborts", "crash": "is killed", "freeze": "freezes", "thaw": "thaws",
}  # fmt: skip


def tell(schedule: Schedule, without: frozenset[str] = frozenset()) -> str:
    """Tell a schedule and what is wrong at its end."""
    world = World(schedule.setting, without)
    clauses = [_tell_step(world, step) for step in schedule.steps]
    kind = "exactly once" if schedule.setting.exactly_once else "at least once"
    end = WORKERS[schedule.setting.survivor]
    wrong = sorted(faults(schedule, without), key=lambda what: what.startswith("wrong"))
    return f"{kind}: " + "; ".join(clauses) + f"; {end} goes on alone" + (f" -> {wrong[0]}" if wrong else "")


def _tell_step(world: World, step: Step) -> str:
    name, a, _, c = step
    before = [len(log) for log in world.broker.inputs]
    owners = _owners(world)
    world.step(step)
    if name in ("send", "send_rubbish"):
        return _tell_record(world, a % INPUTS, before[a % INPUTS])
    if name == "wait":
        return f"{a} ticks pass"
    if name == "rebalance" or (name == "revoke" and owners != _owners(world)):
        prefix = "" if name == "rebalance" else f"{WORKERS[a]} revokes{', giving up' if c == 0 else ''}: "
        return prefix + _tell_rebalance(world, owners)
    if name == "turn":
        return f"{WORKERS[a]} " + ", ".join(DOES[does] for bit, does in enumerate(TURN) if c >> bit & 1)
    if name in DOES:
        lost = ", the answer is lost" if name == "commit" and c == 0 and world.setting.exactly_once else ""
        return f"{WORKERS[a]} {DOES[name]}{lost}"
    return {
        "land_adrift": "a dead worker's send lands", "land_marker": "a marker lands",
        "time_out": "the broker times a transaction out", "truncate": f"records of {a % INPUTS} expire",
    }[name]  # fmt: skip


def _tell_record(world: World, partition: int, offset: int) -> str:
    if offset == len(world.broker.inputs[partition]):
        return "(a record that may not come)"
    record: Record = world.broker.inputs[partition][offset]
    if record.device is None:
        return f"record {offset} of {partition} is bad"
    slots = [slot for slot, _ in record.readings]
    return f"{record.device} sends slots {slots[0]}-{slots[-1]} (record {offset} of {partition})"


def _owners(world: World) -> dict[int, str]:
    names = {id(worker): WORKERS[which] for which, worker in enumerate(world.workers)}
    return {partition: names.get(id(owner), "nobody") for partition, owner in world.group.owner.items()}


def _tell_rebalance(world: World, before: dict[int, str]) -> str:
    given = [f"{partition} to {owner}" for partition, owner in _owners(world).items() if owner != before[partition]]
    asked = [
        f"{WORKERS[which]} is to give up {' and '.join(map(str, sorted(worker.revoking)))}"
        for which, worker in enumerate(world.workers)
        if worker.revoking
    ]
    return "rebalance (" + ", ".join(given + asked or ["no change"]) + ")"
