"""Too much to do, and nobody who takes it: memory stays where it is."""

import itertools
import json
import time
from collections.abc import Callable, Iterator

import numpy as np

from tests.chaos.broker import FragileBroker
from tests.chaos.load import START_MS, Record, made_up_devices, messy_devices
from tests.chaos.poison import ZSTD
from tests.chaos.reckoning import Report, reckon
from tests.chaos.stage import PARTITIONS, Stage
from tests.chaos.vitals import Watch

STALLED_S = 30.0
MAX_DEVICES = 1000
MADE_UP, MADE_UP_AT_ONCE = 100_000, 10_000
RECORDS = 4000
READINGS = 100
BALLAST = "x" * 100_000
"""A field that nobody knows makes each record large: 400 MB wait in the log for a worker that may not grow by half."""

MORE_MB = 200
MORE_THREADS = 2
MORE_DESCRIPTORS = 4


def test_a_producer_ten_times_faster_than_the_worker_does_not_make_it_grow(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """It has a thirtieth of the time while all is sent, and a short queue; what it has no room for stays in Kafka.

    On a slow machine it takes so long that the devices have fallen silent by the end.
    """
    stage = make_stage(delivery=delivery, inference__max_batch="1", inference__queue_frames="64")
    with stage.fleet() as fleet:
        fleet.start(0)
        with Watch(lambda: {"worker": fleet[0].process.pid}) as watch:
            time.sleep(2)
            with fleet.slowed(0):
                sent = stage.load(list(_large_chunks(seed))).wait()
            taken = int(fleet[0].metric("stridecast_records_total"))
            report(f"{taken} of {len(sent)} records taken while they were sent")
            assert 10 * taken <= len(sent)
            fleet[0].wait_for("stridecast_records_total", RECORDS)
        _judge(watch, report)
        wanted = stage.expected(sent)
        by_silence = stage.expected(sent, silent=True).labels.keys() - wanted.labels.keys()
        reckon(stage, fleet, sent, report, expected=wanted, allowed=by_silence, duplicates_at_most=0)


def test_made_up_devices_beyond_the_bound_take_nothing_from_those_that_are_there(
    make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """Their records are dead letters; each in the log would have taken two kilobytes of the worker's memory."""
    stage = make_stage(delivery=delivery, partitions=2, activity__max_devices=str(MAX_DEVICES))
    with stage.fleet() as fleet:
        fleet.start(0)
        sent = stage.load(messy_devices(seed, partitions=2, devices=5, seconds=3, speed=5, farewell=False)).wait()
        with Watch(lambda: {str(number): fleet[number].process.pid for number in fleet.numbers()}) as watch:
            load = stage.load(messy_devices(seed + 1, partitions=2, devices=5, seconds=8, speed=5, start_s=15.0))
            for number in range(MADE_UP // MADE_UP_AT_ONCE):
                crowd = made_up_devices(seed + number, partition=number % 2, count=MADE_UP_AT_ONCE)
                sent += stage.send_at_once(crowd, codec=ZSTD)
            sent += load.wait()
            counted = reckon(stage, fleet, sent, report, duplicates_at_most=0, letters_twice_at_most=0)
        assert counted.letters.expected >= MADE_UP - 2 * MAX_DEVICES
        assert fleet.ended == []
    _judge(watch, report)


def _large_chunks(seed: int) -> Iterator[Record]:
    rng = np.random.default_rng(seed)
    per_partition = RECORDS // PARTITIONS
    for number, partition in itertools.product(range(per_partition), range(PARTITIONS)):
        start = START_MS + number * READINGS * 50
        device = f"phone-{partition}"
        rows = rng.normal([0.5, 9.0, 0.3], 4, (READINGS, 3)).astype(np.float32).tolist()
        value = {"device_id": device, "start": start, "rate_hz": 20, "samples": rows, "note": BALLAST}
        yield Record(0.0, partition, device.encode(), json.dumps(value).encode())


def test_a_broker_that_stands_still_does_not_make_the_workers_grow(
    make_broker: Callable[..., FragileBroker],
    make_stage: Callable[..., Stage],
    delivery: str,
    seed: int,
    report: Report,
) -> None:
    """Connections are open and nobody answers, while thousands of labels wait to be written."""
    broker = make_broker()
    stage = make_stage(broker, delivery=delivery)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=10, speed=12)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(records)
        time.sleep(3)  # by now each has the connections that it needs
        with Watch(lambda: {str(number): fleet[number].process.pid for number in fleet.numbers()}) as watch:
            time.sleep(2)
            broker.freeze()
            time.sleep(STALLED_S)
            broker.thaw()
            sent = load.wait()
            time.sleep(10)
        _judge(watch, report)
        reckon(stage, fleet, sent, report)
    broker.stop()


def _judge(watch: Watch, report: Report) -> None:
    """Compare with what was there before it began: the most memory, and the threads and descriptors in the end."""
    for (name, _), life in watch.lives.items():
        before, after, memory = life[0], life[-1], max(each.rss_mb for each in life)
        told = (
            f"{name}: memory {before.rss_mb:.0f} MB, {memory:.0f} at most, threads {before.threads} to "
            f"{after.threads}, descriptors {before.descriptors} to {after.descriptors}"
        )
        report(told)
        assert memory - before.rss_mb <= MORE_MB, told
        assert after.threads - before.threads <= MORE_THREADS, told
        assert after.descriptors - before.descriptors <= MORE_DESCRIPTORS, told
