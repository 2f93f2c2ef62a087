"""Brokers that die, are not there, stand still, or have no room."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.broker.errors import BrokerDied
from tests.chaos.broker import FragileBroker
from tests.chaos.load import messy_devices
from tests.chaos.reckoning import Report, reckon
from tests.chaos.stage import PARTITIONS, Stage

AWAY_S = 20.0
STILL_S = 70.0  # longer than a producer tries a batch
DISK_MB = 96


@pytest.fixture
def own_broker(make_broker: Callable[..., FragileBroker]) -> Iterator[FragileBroker]:
    broker = make_broker()
    yield broker
    broker.stop()


def test_a_broker_that_is_killed_and_started_again_costs_no_window(
    own_broker: FragileBroker, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(own_broker, delivery=delivery)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=32, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = stage.load(records)
        for _ in range(2):
            time.sleep(7)
            own_broker.kill()
            own_broker.start()
        reckon(stage, fleet, load.wait(), report)


def test_workers_that_are_killed_with_their_broker_do_not_keep_the_others_from_their_partitions(
    own_broker: FragileBroker, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """Kafka has been seen to come back without the sessions of the dead, for whom the group then waits."""
    stage = make_stage(own_broker, delivery=delivery)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=25, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = stage.load(records)
        time.sleep(7)
        fleet.kill(1)
        own_broker.kill()
        fleet.kill(2)
        own_broker.start()
        reckon(stage, fleet, load.wait(), report)


def test_a_broker_that_is_away_for_a_while_under_load_costs_no_window(
    own_broker: FragileBroker, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(own_broker, delivery=delivery)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=15, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = stage.load(records)
        time.sleep(6)
        own_broker.stop()
        time.sleep(AWAY_S)
        own_broker.start()
        fleet.wait_until_said("Kafka answers again, after ")
        reckon(stage, fleet, load.wait(), report)


def test_a_broker_that_stands_still_for_longer_than_a_batch_is_tried_costs_no_window(
    own_broker: FragileBroker, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """At least once, workers published nothing any more afterwards, and nothing failed."""
    stage = make_stage(own_broker, delivery=delivery)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=12, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(records)
        time.sleep(6)
        own_broker.freeze()
        time.sleep(STILL_S)
        own_broker.thaw()
        reckon(stage, fleet, load.wait(), report)
    assert "Traceback" not in fleet.said()


def test_workers_started_before_their_broker_begin_when_it_comes(
    own_broker: FragileBroker, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """Without a broker a worker ends in one sentence, and its supervisor starts it again until there is one."""
    stage = make_stage(own_broker, delivery=delivery)
    sent = stage.load(messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=1, speed=100)).wait()
    own_broker.stop()
    with stage.fleet() as fleet:
        fleet.start(0, 1, ready=False)
        fleet.wait_until_ended(2)
        for ended in fleet.ended:
            assert ended.status == 1
            assert f"no Kafka broker answers at {own_broker.bootstrap_servers}" in ended.last_line
        own_broker.start()
        reckon(stage, fleet, sent, report)
    assert "Traceback" not in fleet.said()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory, of DISK_MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
    if done is None or done.returncode != 0:
        why = done.stderr.strip() if done is not None else "only root may"
        pytest.skip(f"a small file system can't be mounted ({why}): run as root, with the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_broker_whose_disk_is_full_halts_and_nothing_is_missing_when_there_is_room_again(
    small_disk: Path,
    make_broker: Callable[..., FragileBroker],
    make_stage: Callable[..., Stage],
    delivery: str,
    seed: int,
    report: Report,
) -> None:
    broker = make_broker(small_disk / "data")
    try:
        stage = make_stage(broker, delivery=delivery)
        ballast = small_disk / "ballast"
        with stage.fleet() as fleet:
            fleet.start(0, 1)
            load = stage.load(messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=20, speed=4))
            time.sleep(5)
            _fill(ballast)
            with pytest.raises(BrokerDied):
                _wait_until_dead(broker)
            broker.stop()
            ballast.unlink()
            time.sleep(3)
            broker.start()
            reckon(stage, fleet, load.wait(), report)
    finally:
        broker.stop()


def _fill(path: Path) -> None:
    """Write until there is no room at all."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 12))


def _wait_until_dead(broker: FragileBroker) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        broker.check()
        time.sleep(0.2)
