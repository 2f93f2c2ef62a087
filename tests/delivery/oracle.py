"""What must hold at the end of a schedule: each window once, each dead letter, and no growth."""

from collections import Counter

from tests.delivery.broker import DEAD_LETTERS, Label, Letter
from tests.delivery.windower import expected
from tests.delivery.world import Schedule, World


def violations(schedule: Schedule, without: frozenset[str] = frozenset()) -> list[str]:
    """Run a schedule; return what is violated at its end, one sentence each."""
    world = World(schedule.setting, without)
    for step in schedule.steps:
        world.step(step)
    try:
        worker = world.finish()
    except AssertionError as error:
        return [f"stuck: {error}"]
    wrong = _labels(world) + _letters(world)
    for partition in worker.held.values():
        committed = world.broker.committed.get(partition.source)
        if committed is None:
            continue
        if committed.rewind_to != committed.position:
            wrong.append(f"growth: the rewind stays at {committed.rewind_to} for position {committed.position}")
        if committed.labels_from < partition.read_back_end:
            wrong.append(
                f"growth: labels_from stays at {committed.labels_from}, "
                f"for an output that held {partition.read_back_end}"
            )
        if partition.read_back or partition.remembered or partition.silences:
            wrong.append("growth: windows stay remembered")
    return wrong


def _labels(world: World) -> list[str]:
    wrong = []
    affected = {world.broker.inputs[partition][offset].device for partition, offset in world.expired}
    windows = {}
    for log in world.broker.inputs:
        windows.update(expected(log))
    seen: Counter[tuple[str, int]] = Counter()
    excused: Counter[tuple[str, int]] = Counter()
    for destination, entries in world.broker.logs.items():
        for entry in entries:
            label = entry.value
            if (
                not isinstance(label, Label)
                or label.device in affected
                or not world.broker.is_committed(destination, entry)
            ):
                continue
            seen[label.identity] += 1
            excused[label.identity] += entry.excused
            wanted = windows.get(label.identity)
            if label.content != wanted and label.device not in world.broker.overflow:
                wrong.append(f"wrong: {label.device}{label.start} is published with {label.content}, not {wanted}")
    for device, start in windows:
        allowed = 1 if world.setting.exactly_once else 1 + excused[device, start]
        if device in affected:
            continue
        if seen[device, start] == 0:
            wrong.append(f"missing: {device}{start}")
        elif seen[device, start] > allowed and device not in world.broker.overflow:
            wrong.append(f"twice: {device}{start} is published {seen[device, start]} times")
    return wrong


def _letters(world: World) -> list[str]:
    broker = world.broker
    wanted = {
        Letter(partition, offset)
        for partition, log in enumerate(broker.inputs)
        for offset, record in enumerate(log)
        if record.device is None and (partition, offset) not in world.expired
    }
    seen = Counter(
        entry.value
        for entry in broker.logs[DEAD_LETTERS]
        if isinstance(entry.value, Letter) and broker.is_committed(DEAD_LETTERS, entry)
    )
    wrong = [f"missing: the dead letter of record {offset} of {partition}" for partition, offset in wanted - set(seen)]
    if world.setting.exactly_once:
        wrong += [
            f"twice: the dead letter of record {letter.source_offset} of {letter.source_partition}"
            for letter, count in seen.items()
            if count > 1
        ]
    return wrong
