"""Dead letters, and labels, that their topics refuse."""

import gzip
import itertools
import time
from collections.abc import Callable

import pytest

from tests.chaos.broker import FragileBroker
from tests.chaos.faults import KILLS, Kill, kill_schedule, play
from tests.chaos.load import Record, Sent, messy_devices, texts
from tests.chaos.operations import (
    allow_writing,
    delete_topic,
    forbid_writing,
    make_topic,
    set_up_topic,
)
from tests.chaos.poison import ANY_TIME, GZIP, STRICT, gathered, refused, scattered
from tests.chaos.reckoning import Report, reckon
from tests.chaos.stage import Stage
from tests.chaos.tally import Reader, letter_identity
from tests.inference.bundles import WORDS

TOPICS = {"in": ANY_TIME, "dead": STRICT}
PARTITIONS = 4
AT_ONCE = 400
FEW_KILLS = max(3, KILLS // 5)


def with_unwelcome(seed: int, *, seconds: float, count: int, kind: str = "activity") -> list[Record]:
    """Good records with unwelcome ones among them."""
    if kind == "text":
        good = texts(seed, partitions=PARTITIONS, count=1000, seconds=seconds, words=WORDS)
    else:
        good = messy_devices(seed, partitions=PARTITIONS, devices=2, seconds=seconds, speed=5)
    bad = scattered(seed, partitions=PARTITIONS, seconds=seconds, count=count)
    return sorted([*good, *bad], key=lambda record: record.at_s)


def at_once(stage: Stage, seed: int) -> list[Sent]:
    """Send many unwelcome records to each partition, all of a partition in one request."""
    batches = gathered(seed, partitions=PARTITIONS, count=AT_ONCE)
    return list(itertools.chain.from_iterable(map(stage.send_at_once, batches)))


@pytest.mark.parametrize("kind", ["activity", "text"])
def test_dead_letters_that_their_topic_refuses_are_counted_and_all_others_come(
    make_stage: Callable[..., Stage], delivery: str, kind: str, seed: int, report: Report
) -> None:
    """For their timestamps, their size, or because they have no key: some of a batch, or all of it."""
    stage = make_stage(kind=kind, delivery=delivery, partitions=PARTITIONS, topics=TOPICS)
    with stage.fleet() as fleet:
        fleet.start(0)
        load = stage.load(with_unwelcome(seed, seconds=6, count=500, kind=kind))
        sent = at_once(stage, seed) + load.wait()
        wanted = stage.expected(sent)
        reckon(
            stage,
            fleet,
            sent,
            report,
            expected=wanted,
            refused=refused(wanted),
            duplicates_at_most=0,
            letters_twice_at_most=0,
        )
        assert fleet.ended == []


@pytest.mark.timeout(120 + 15 * FEW_KILLS)
def test_dead_letters_that_their_topic_refuses_cost_no_other_however_workers_die(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(delivery=delivery, partitions=PARTITIONS, topics=TOPICS)
    schedule = kill_schedule(seed + 2, FEW_KILLS, workers=2)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(with_unwelcome(seed, seconds=schedule[-1].at_s + 3, count=80 * FEW_KILLS))
        sent: list[Sent] = []

        def strike(kill: Kill) -> None:
            sent.extend(at_once(stage, seed + len(sent)))
            fleet.kill(kill.worker)

        play(schedule, strike)
        sent += load.wait()
        wanted = stage.expected(sent)
        reckon(stage, fleet, sent, report, expected=wanted, refused=refused(wanted), duplicates_at_most=0)
        assert fleet.ended == []


def test_a_dead_letter_larger_than_the_broker_takes_of_any_request_is_given_up_and_all_others_come(
    make_broker: Callable[..., FragileBroker],
    make_stage: Callable[..., Stage],
    delivery: str,
    seed: int,
    report: Report,
) -> None:
    """The broker cuts the connection. The letter was sent again and again for ever, and stopped what came with it."""
    broker = make_broker(settings={"socket.request.max.bytes": str(2 << 20)})
    large = {"max.message.bytes": str(32 << 20)}
    stage = make_stage(broker, delivery=delivery, partitions=PARTITIONS, topics={"in": large, "dead": large})
    with stage.fleet() as fleet:
        fleet.start(0)
        load = stage.load(messy_devices(seed, partitions=PARTITIONS, devices=2, seconds=8, speed=5))
        time.sleep(2)
        bomb = [Record(0.0, 1, b"key", b"0" * size) for size in (5 << 20, 1000, (1 << 20) + 1000)]
        bombs = stage.send_at_once(bomb, codec=GZIP, compress=gzip.compress)
        sent = bombs + load.wait()
        reckon(stage, fleet, sent, report, refused={(1, bombs[0].offset)}, duplicates_at_most=0)
        assert fleet.ended == []
    broker.stop()


@pytest.mark.parametrize("which", ["dead_letters", "output"])
def test_a_topic_that_nobody_may_write_for_a_while_gets_all_when_it_may_be_written_again(
    make_stage: Callable[..., Stage], delivery: str, seed: int, which: str, report: Report
) -> None:
    """By an ACL; one of the workers is killed meanwhile."""
    stage = make_stage(delivery=delivery, partitions=PARTITIONS, topics=TOPICS)
    topic = getattr(stage, which)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(with_unwelcome(seed, seconds=20, count=500))
        for number in (0, 1):
            time.sleep(3)
            forbid_writing(stage, topic)
            time.sleep(3)
            fleet.kill(number)
            time.sleep(2)
            allow_writing(stage, topic)
        sent = load.wait()
        wanted = stage.expected(sent)
        reckon(stage, fleet, sent, report, expected=wanted, refused=refused(wanted), duplicates_at_most=0)


@pytest.mark.parametrize("largest", [120, 3000])
def test_an_output_topic_that_refuses_labels_for_their_size_for_a_while_gets_all_once_it_takes_them(
    make_stage: Callable[..., Stage], delivery: str, seed: int, largest: int, report: Report
) -> None:
    """None is taken, or single ones; one of the workers is killed meanwhile."""
    stage = make_stage(delivery=delivery, partitions=PARTITIONS)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(messy_devices(seed, partitions=PARTITIONS, devices=6, seconds=20, speed=5))
        for number in (0, 1):
            time.sleep(3)
            set_up_topic(stage, stage.output, max_message_bytes=str(largest))
            time.sleep(3)
            fleet.kill(number)
            time.sleep(2)
            set_up_topic(stage, stage.output, max_message_bytes=str(1 << 20))
        reckon(stage, fleet, load.wait(), report, duplicates_at_most=0)


@pytest.mark.parametrize("kill", [False, True])
def test_a_dead_letters_topic_that_is_deleted_and_made_again_gets_all_that_were_not_in_it_before(
    make_stage: Callable[..., Stage], delivery: str, seed: int, kill: bool, report: Report
) -> None:
    """Letters are on their way when it goes; the workers stand still for a moment, so that it is certain which."""
    stage = make_stage(delivery=delivery, partitions=PARTITIONS, topics={"in": ANY_TIME})
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(with_unwelcome(seed, seconds=20, count=1500))
        time.sleep(5)
        with fleet.frozen(0, 1):
            time.sleep(0.3)  # until Kafka has done what it was asked to
            with Reader(stage.broker.bootstrap_servers, stage.dead_letters, "read_uncommitted") as letters:
                letters.read_to_the_end()
            delete_topic(stage, stage.dead_letters)
        time.sleep(2)
        if kill:
            fleet.kill(0)
        time.sleep(3)
        make_topic(stage, stage.dead_letters, 1)
        sent = load.wait()
        whole = stage.expected(sent)
        before = set(map(letter_identity, letters.messages))
        reckon(stage, fleet, sent, report, expected=whole.without_letters(before), allowed_letters=whole)
