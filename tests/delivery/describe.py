"""Schedules in words: a clause for each step, with what the step did."""

from tests.delivery.oracle import violations
from tests.delivery.windower import Record
from tests.delivery.world import INPUTS, TURN, Schedule, Step, World

WORKERS = "ABCD"
DOES = {
    "recover": "recovers", "poll": "polls", "check_silence": "checks for silence", "seal": "takes a snapshot",
    "infer": "infers", "write": "has its sends written", "acknowledge": "gets acknowledgements", "commit": "commits",
    "revoke": "revokes in time", "lose_answer": "gets no answer to a send", "abort": "aborts", "crash": "is killed",
    "freeze": "freezes", "thaw": "resumes",
}  # fmt: skip


def describe(schedule: Schedule, without: frozenset[str] = frozenset()) -> str:
    """Describe a schedule and what is wrong at its end."""
    world = World(schedule.setting, without)
    clauses = [_describe_step(world, step) for step in schedule.steps]
    mode = "exactly once" if schedule.setting.exactly_once else "at least once"
    end = WORKERS[schedule.setting.survivor]
    wrong = sorted(violations(schedule, without), key=lambda sentence: sentence.startswith("wrong"))
    return f"{mode}: " + "; ".join(clauses) + f"; {end} goes on alone" + (f" -> {wrong[0]}" if wrong else "")


def _describe_step(world: World, step: Step) -> str:
    name, a, _, c = step
    before = [len(log) for log in world.broker.inputs]
    owners = _owners(world)
    world.step(step)
    if name in ("send", "send_bad_record"):
        return _describe_record(world, a % INPUTS, before[a % INPUTS])
    if name == "wait":
        return f"{a} ticks pass"
    if name == "rebalance" or (name == "revoke" and owners != _owners(world)):
        prefix = "" if name == "rebalance" else f"{WORKERS[a]} revokes{', at its deadline' if c == 0 else ''}: "
        return prefix + _describe_rebalance(world, owners)
    if name == "turn":
        return f"{WORKERS[a]} " + ", ".join(DOES[does] for bit, does in enumerate(TURN) if c >> bit & 1)
    if name in DOES:
        lost = ", the answer is lost" if name == "commit" and c == 0 and world.setting.exactly_once else ""
        return f"{WORKERS[a]} {DOES[name]}{lost}"
    return {
        "write_orphan": "a send that no worker waits for is written", "write_marker": "a marker is written",
        "time_out_transaction": "the broker aborts a transaction at its timeout",
        "expire": f"records of {a % INPUTS} expire",
    }[name]  # fmt: skip


def _describe_record(world: World, partition: int, offset: int) -> str:
    if offset == len(world.broker.inputs[partition]):
        return "(a record that may not be sent)"
    record: Record = world.broker.inputs[partition][offset]
    if record.device is None:
        return f"record {offset} of {partition} is bad"
    slots = [slot for slot, _ in record.readings]
    return f"{record.device} sends slots {slots[0]}-{slots[-1]} (record {offset} of {partition})"


def _owners(world: World) -> dict[int, str]:
    names = {id(worker): WORKERS[which] for which, worker in enumerate(world.workers)}
    return {partition: names.get(id(owner), "nobody") for partition, owner in world.group.owner.items()}


def _describe_rebalance(world: World, before: dict[int, str]) -> str:
    assigned = [f"{partition} to {owner}" for partition, owner in _owners(world).items() if owner != before[partition]]
    revoking = [
        f"{WORKERS[which]} is to revoke {' and '.join(map(str, sorted(worker.revoking)))}"
        for which, worker in enumerate(world.workers)
        if worker.revoking
    ]
    return "rebalance (" + ", ".join(assigned + revoking or ["no change"]) + ")"
