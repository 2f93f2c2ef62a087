"""What must hold when all has come to rest: each window once, each dead letter, and no growth."""

from collections import Counter

from tests.delivery.broker import DEAD, Label, Letter
from tests.delivery.windows import expected
from tests.delivery.world import Schedule, World


def faults(schedule: Schedule, without: frozenset[str] = frozenset()) -> list[str]:
    """Run a schedule; return what is wrong at its end, a sentence each."""
    world = World(schedule.setting, without)
    for step in schedule.steps:
        world.step(step)
    try:
        worker = world.finish()
    except AssertionError as error:
        return [f"stuck: {error}"]
    wrong = _labels(world) + _letters(world)
    for holding in worker.held.values():
        committed = world.broker.committed.get(holding.partition)
        if committed is None:
            continue
        if committed.rewind_to != committed.position:
            wrong.append(f"growth: the rewind stays at {committed.rewind_to} for position {committed.position}")
        if committed.labels_from < holding.end:
            wrong.append(f"growth: labels_from stays at {committed.labels_from}, for an output that held {holding.end}")
        if holding.said or holding.remembered or holding.graves:
            wrong.append("growth: windows stay remembered")
    return wrong


def _labels(world: World) -> list[str]:
    wrong = []
    hurt = {world.broker.inputs[partition][offset].device for partition, offset in world.truncated}
    windows = {}
    for log in world.broker.inputs:
        windows.update(expected(log))
    seen: Counter[tuple[str, int]] = Counter()
    excused: Counter[tuple[str, int]] = Counter()
    for place, entries in world.broker.logs.items():
        for entry in entries:
            label = entry.what
            if not isinstance(label, Label) or label.device in hurt or not world.broker.is_committed(place, entry):
                continue
            seen[label.identity] += 1
            excused[label.identity] += entry.excused
            wanted = windows.get(label.identity)
            if label.content != wanted and label.device not in world.broker.given_up:
                wrong.append(f"wrong: {label.device}{label.start} is said with {label.content}, not {wanted}")
    for device, start in windows:
        allowed = 1 if world.setting.exactly_once else 1 + excused[device, start]
        if device in hurt:
            continue
        if seen[device, start] == 0:
            wrong.append(f"missing: {device}{start}")
        elif seen[device, start] > allowed and device not in world.broker.given_up:
            wrong.append(f"twice: {device}{start} is said {seen[device, start]} times")
    return wrong


def _letters(world: World) -> list[str]:
    broker = world.broker
    wanted = {
        Letter(partition, offset)
        for partition, log in enumerate(broker.inputs)
        for offset, record in enumerate(log)
        if record.device is None and (partition, offset) not in world.truncated
    }
    seen = Counter(
        entry.what for entry in broker.logs[DEAD] if isinstance(entry.what, Letter) and broker.is_committed(DEAD, entry)
    )
    wrong = [f"missing: the dead letter of record {offset} of {partition}" for partition, offset in wanted - set(seen)]
    if world.setting.exactly_once:
        wrong += [
            f"twice: the dead letter of record {what.offset} of {what.partition}"
            for what, count in seen.items()
            if count > 1
        ]
    return wrong
