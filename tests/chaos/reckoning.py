"""The end of each scenario: read what came of it, stop the workers, count, and judge."""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from tests.chaos.expected import Expected, Identity
from tests.chaos.fleet import Fleet
from tests.chaos.load import NOWHERE_KNOWN, Record, Sent
from tests.chaos.stage import Stage
from tests.chaos.tally import Reader, Tally, identity_of, letter_identity, tally_labels, tally_letters

Report = Callable[[str], None]
GIVEN_UP_WITHIN_S = 60.0


@dataclass(frozen=True)
class Reckoning:
    """What was counted."""

    labels: Tally
    letters: Tally


def reckon(
    stage: Stage,
    fleet: Fleet,
    sent: Iterable[Sent],
    report: Report,
    *,
    silent: bool = False,
    expected: Expected | None = None,
    allowed: Collection[Identity] = (),
    allowed_letters: Expected | None = None,
    anywhere: bool = False,
    duplicates_at_most: int | None = None,
    letters_twice_at_most: int | None = None,
    refused: Collection[Identity] = (),
) -> Reckoning:
    """Wait until all that was expected has come, let the workers finish, read the rest, count and judge.

    Nothing may be missing or wrong in either mode, but labels that are ``allowed`` may be there or not, whatever they
    say, and so may the dead letters of ``allowed_letters``. ``anywhere`` lets labels lie in any partition. Exactly once
    nothing may come twice; at least once labels may, as often as ``duplicates_at_most``, or any number of times, and
    dead letters likewise. Dead letters of the records ``refused`` are taken by no topic: each is counted, once where no
    worker was killed, and none else is.
    """
    wanted = stage.expected(sent, silent=silent) if expected is None else expected
    wanted = wanted.without_letters(refused)
    outputs = None if anywhere else stage.outputs
    with (
        Reader(stage.broker.bootstrap_servers, stage.output) as labels,
        Reader(stage.broker.bootstrap_servers, stage.dead_letters) as letters,
    ):
        labels.read_until(set(wanted.labels), identity_of(stage.kind))
        letters.read_until(set(wanted.letters), letter_identity)
        _judge_given_up(fleet, set(refused), report)
        statuses = fleet.stop_all()
        labels.read_to_the_end()
        letters.read_to_the_end()
        counted = Reckoning(
            tally_labels(stage.kind, labels.messages, wanted, outputs=outputs, allowed=allowed),
            tally_letters(letters.messages, wanted, allowed_letters),
        )
    for tally in (counted.labels, counted.letters):
        report(str(tally))
    _judge(counted.labels, stage, duplicates_at_most)
    _judge(counted.letters, stage, letters_twice_at_most)
    assert set(statuses) == {0}, f"the workers ended with {statuses}: {fleet.said()[-3000:]}"
    return counted


def as_it_lies(stage: Stage, sent: Iterable[Sent]) -> list[Sent]:
    """Return what the input topic holds, all that was acknowledged among it, some of it more than once.

    In a cluster whose leaders die, librdkafka's idempotent producer has been seen to write a batch again, by its next
    epoch, and to know of the second copy only; and brokers have been seen to have a batch, and not to know where.
    """
    with Reader(stage.broker.bootstrap_servers, stage.input, "read_uncommitted") as reader:
        reader.read_to_the_end()
        found = {(message.partition(), message.offset()): message for message in reader.messages}
    contents = {(partition, message.value()) for (partition, _), message in found.items()}
    for each in sent:
        place = each.record.partition, each.offset
        if each.offset == NOWHERE_KNOWN:
            assert (each.record.partition, each.record.value) in contents, "Kafka has lost an acknowledged record"
            continue
        assert place in found, f"Kafka has lost the acknowledged record at {place}"
        assert found[place].value() == each.record.value, f"Kafka has another record at {place}"
    lying = []
    for (partition, offset), message in found.items():
        assert partition is not None
        assert offset is not None
        headers: Any = message.headers() or []
        record = Record(0.0, partition, message.key(), message.value(), headers)
        lying.append(Sent(record, offset, message.timestamp()[1]))
    return lying


def _judge_given_up(fleet: Fleet, refused: set[Identity], report: Report) -> None:
    """Compare the dead letters that no topic takes with those that workers told of, and with their metric."""
    deadline = time.monotonic() + GIVEN_UP_WITHIN_S
    while refused - (told := fleet.given_up()).keys() and time.monotonic() < deadline:
        time.sleep(0.2)
    missing, wrong = sorted(refused - told.keys()), sorted(told.keys() - refused)
    again = {identity: times for identity, times in told.items() if times > 1}
    if refused:
        report(f"refused: expected {len(refused)}, told of {told.total()}, missing {len(missing)}, again {len(again)}")
    assert not missing, f"no worker tells of {missing[:5]}"
    assert not wrong, f"they would have been taken: {wrong[:5]}"
    if refused and not fleet.killed and not fleet.ended:
        assert not again
        counted = sum(fleet[number].metric("stridecast_dead_letter_failures_total") for number in fleet.numbers())
        assert counted == len(refused)


def _judge(tally: Tally, stage: Stage, duplicates_at_most: int | None) -> None:
    told = f"{tally}; {tally.examples()}; the logs are in {stage.folder}"
    assert not tally.missing, told
    assert not tally.wrong, told
    if stage.delivery == "exactly_once":
        assert not tally.duplicate, told
    elif duplicates_at_most is not None:
        assert len(tally.duplicate) <= duplicates_at_most, told
