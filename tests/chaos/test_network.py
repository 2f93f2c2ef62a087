"""Connections that are cut, or slow: the workers' own, through a proxy; load and readers have theirs."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from service.broker.ports import free_port
from tests.chaos.broker import FragileBroker
from tests.chaos.load import messy_devices
from tests.chaos.proxy import FETCH, PRODUCE, Proxy, Side
from tests.chaos.reckoning import Report, reckon
from tests.chaos.stage import PARTITIONS, Stage


@dataclass(frozen=True)
class Proxied:
    """A broker, and the proxy to its second listener."""

    broker: FragileBroker
    proxy: Proxy

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.proxy.port}"


@pytest.fixture(scope="module")
def proxied(make_broker: Callable[..., FragileBroker]) -> Iterator[Proxied]:
    behind = free_port()
    with Proxy(behind) as proxy:
        broker = make_broker(proxied=(behind, proxy.port))
        yield Proxied(broker, proxy)
        broker.stop()


@pytest.mark.parametrize(
    ("kind", "side"),
    [(FETCH, "response"), (PRODUCE, "request"), (PRODUCE, "response")],
    ids=["fetch answers", "produce requests", "produce answers"],
)
def test_connections_cut_in_the_middle_cost_no_window(
    kind: int,
    side: Side,
    proxied: Proxied,
    make_stage: Callable[..., Stage],
    delivery: str,
    seed: int,
    report: Report,
) -> None:
    """Of a produce request whose answer is cut off the worker can't know whether Kafka has it."""
    stage = make_stage(proxied.broker, delivery=delivery).told(kafka__bootstrap_servers=proxied.address)
    rng, torn_before = random.Random(seed), proxied.proxy.torn
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=16, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(records)
        for _ in range(12):
            time.sleep(rng.uniform(0.3, 1.5))
            proxied.proxy.tear(kind, side)
        reckon(stage, fleet, load.wait(), report)
    assert proxied.proxy.torn - torn_before >= 10


def test_all_connections_cut_at_once_again_and_again_cost_no_window(
    proxied: Proxied, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(proxied.broker, delivery=delivery).told(kafka__bootstrap_servers=proxied.address)
    rng = random.Random(seed)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=16, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(records)
        for _ in range(6):
            time.sleep(rng.uniform(0.5, 4))
            proxied.proxy.cut_all()
        reckon(stage, fleet, load.wait(), report)


def test_connections_slowed_to_a_trickle_cost_no_window(
    proxied: Proxied, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """At 4 kB a second everything takes too long, heartbeats included where they wait behind a fetch."""
    stage = make_stage(proxied.broker, delivery=delivery).told(kafka__bootstrap_servers=proxied.address)
    records = messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=24, speed=4)
    with stage.fleet() as fleet:
        fleet.start(0, 1)
        load = stage.load(records)
        time.sleep(4)
        proxied.proxy.bytes_per_s = 4000
        time.sleep(12)
        proxied.proxy.bytes_per_s = None
        reckon(stage, fleet, load.wait(), report)
