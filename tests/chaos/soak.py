"""Random faults for as long as asked for, under steady load: counts stay exact and processes stay as they are.

    python -m tests.chaos.soak --seconds 3600 --seed 7 --delivery exactly_once

The seed decides the load and the schedule of the faults. Worker 0 is never killed, so that one process lives all the
time; it is frozen, cut off and made to share like the others. With ``--cluster``, Kafka is three brokers instead of one
behind a proxy, and what they suffer takes the place of what the proxy and its broker do.
"""

import argparse
import functools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from service.broker.ports import free_port
from service.host.interruption import interrupted_once
from tests.chaos.broker import FragileBroker
from tests.chaos.cluster import FROZEN_S, INTERNAL_TOPICS, NODES, FragileCluster
from tests.chaos.fleet import Fleet
from tests.chaos.load import Load, Sent, messy_devices
from tests.chaos.operations import allow_writing, forbid_writing, set_up_topic
from tests.chaos.poison import ANY_TIME, STRICT, gathered, refused, scattered
from tests.chaos.proxy import Proxy
from tests.chaos.reckoning import as_it_lies, reckon
from tests.chaos.stage import DELIVERIES, PARTITIONS, SESSION_TIMEOUT_S, Stage, open_stage
from tests.chaos.vitals import Watch, growth, memory_course
from tests.inference.bundles import har_bundle

WORKERS = 3
CALM_AT_THE_END_S = 20.0
SLOW_BYTES_PER_S = 20_000.0
REFUSED_S = 5.0
WATCH_EVERY_S = 1.0
SETTLED_S = 30.0
BROKER_WITHIN_S = 240.0  # a busy machine is no fault of what is tested
# Kinds of fault, and how often each comes, relative to the others.
FAULTS = {"kill": 6, "freeze": 2, "kill the broker": 1, "scale": 3, "cut": 3, "slow": 2} | {
    "refuse labels": 1,  # for their size
    "forbid labels": 1,
    "forbid letters": 2,
    "unwelcome": 3,  # very many records at once whose dead letters are partly refused
}
# And with three brokers, of which two are always well.
CLUSTER_FAULTS = {"kill": 4, "freeze": 2, "scale": 3, "refuse labels": 1} | {
    "kill a broker": 2,
    "restart a broker": 3,
    "freeze a broker": 1,
    "move leaders": 3,
}
AT_ONCE = 200
TOPICS = {"in": ANY_TIME, "dead": STRICT}

# A life shorter than this says what it took, and nothing about growth.
TELLING_S = 120.0
# What a process that has settled may grow by, from the first third of its life to the last.
MORE_MB, MORE_THREADS, MORE_DESCRIPTORS = 50, 2, 4


@dataclass(frozen=True)
class Fault:
    """What is done, when, and to which worker where it is done to one."""

    at_s: float
    kind: str
    worker: int


def schedule(seed: int, seconds: float, kinds: Mapping[str, int]) -> list[Fault]:
    """Choose faults, with a few seconds or a quarter of a minute between them."""
    rng = random.Random(seed)
    faults, now = [], 5.0
    while now < seconds - CALM_AT_THE_END_S:
        (kind,) = rng.choices(list(kinds), weights=list(kinds.values()))
        first = 1 if kind == "kill" else 0
        faults.append(Fault(now, kind, rng.randrange(first, WORKERS)))
        now += rng.uniform(2, 15)
    return faults


@dataclass(frozen=True)
class Soak:
    """All that takes part, whatever Kafka is."""

    stage: Stage
    fleet: Fleet
    sent: list[Sent] = field(default_factory=list)

    def strike(self, fault: Fault) -> None:
        """Do what the schedule says, and undo what must not last."""
        if fault.kind == "kill":
            self.fleet.kill(fault.worker)
        elif fault.kind == "freeze":
            self.fleet.freeze(fault.worker)
            time.sleep(SESSION_TIMEOUT_S + 2)
            self.fleet.thaw(fault.worker)
        elif fault.kind == "scale":
            self._scale()
        elif fault.kind == "refuse labels":
            set_up_topic(self.stage, self.stage.output, max_message_bytes="120")
            time.sleep(REFUSED_S)
            set_up_topic(self.stage, self.stage.output, max_message_bytes=str(1 << 20))
        else:
            raise ValueError(fault.kind)

    def _scale(self) -> None:
        if WORKERS in self.fleet.numbers():
            self.fleet.stop(WORKERS)
        else:
            self.fleet.start(WORKERS, ready=False)

    def pids(self) -> dict[str, int]:
        """Return the processes that are watched."""
        return {f"worker {number}": self.fleet[number].process.pid for number in self.fleet.numbers()}


@dataclass(frozen=True, kw_only=True)
class BrokerSoak(Soak):
    """One broker, and workers that reach it through a proxy."""

    broker: FragileBroker
    proxy: Proxy

    def strike(self, fault: Fault) -> None:
        """Do it to the broker or to the connections, or leave it to the workers."""
        if fault.kind == "kill the broker":
            self.broker.kill()
            self.broker.start(timeout_s=BROKER_WITHIN_S)
        elif fault.kind == "cut":
            self.proxy.cut_all()
        elif fault.kind == "slow":
            self.proxy.bytes_per_s = SLOW_BYTES_PER_S
            time.sleep(5)
            self.proxy.bytes_per_s = None
        elif fault.kind.startswith("forbid"):
            topic = self.stage.output if fault.kind == "forbid labels" else self.stage.dead_letters
            forbid_writing(self.stage, topic)
            time.sleep(REFUSED_S)
            allow_writing(self.stage, topic)
        elif fault.kind == "unwelcome":
            for batch in gathered(len(self.sent), partitions=PARTITIONS, count=AT_ONCE):
                self.sent.extend(self.stage.send_at_once(batch))
        else:
            super().strike(fault)


@dataclass(frozen=True, kw_only=True)
class ClusterSoak(Soak):
    """Three brokers."""

    cluster: FragileCluster

    def strike(self, fault: Fault) -> None:
        """Do it to the broker of the worker's number, or leave it to the workers; then wait until all is well."""
        node = self.cluster.nodes[fault.worker % NODES]
        if fault.kind == "kill a broker":
            node.kill()
        elif fault.kind == "restart a broker":
            node.stop()
        elif fault.kind == "freeze a broker":
            node.freeze()
            time.sleep(FROZEN_S)
        elif fault.kind == "move leaders":
            topics = [self.stage.input, self.stage.output, self.stage.dead_letters, *INTERNAL_TOPICS]
            self.cluster.assign_replicas(topics, lambda replicas: [*replicas[1:], replicas[0]])
        else:
            super().strike(fault)
            return
        self.cluster.mend()


@contextmanager
def soak_in(folder: Path, delivery: str, *, cluster: bool) -> Iterator[Soak]:
    """Set the stage: a broker, a proxy in front of it, and workers behind that; or a cluster, and workers."""
    bundle = har_bundle(folder / "tiny-har")
    if cluster:
        with FragileCluster(folder / "cluster") as nodes:
            stage = open_stage(nodes, folder, bundle, delivery=delivery, topics=TOPICS)
            with stage.fleet() as fleet:
                fleet.start(*range(WORKERS))
                yield ClusterSoak(stage, fleet, cluster=nodes)
        return
    behind = free_port()
    with Proxy(behind) as proxy, FragileBroker(folder / "kafka", proxied=(behind, proxy.port)) as broker:
        stage = open_stage(broker, folder, bundle, delivery=delivery, topics=TOPICS)
        stage = stage.told(kafka__bootstrap_servers=f"127.0.0.1:{proxy.port}")
        with stage.fleet() as fleet:
            fleet.start(*range(WORKERS))
            yield BrokerSoak(stage, fleet, broker=broker, proxy=proxy)


def run(folder: Path, seconds: float, seed: int, delivery: str, console: Console, *, cluster: bool) -> None:
    """Soak, count and judge. Raises AssertionError for what is not as it should be."""
    faults, done = schedule(seed, seconds, CLUSTER_FAULTS if cluster else FAULTS), Counter[str]()
    with soak_in(folder, delivery, cluster=cluster) as soak, Watch(soak.pids, WATCH_EVERY_S) as watch:
        good = messy_devices(seed, partitions=PARTITIONS, devices=2, seconds=seconds, speed=2)
        bad = scattered(seed, partitions=PARTITIONS, seconds=seconds, count=int(seconds))
        records = sorted([*good, *bad], key=lambda record: record.at_s)
        load, began = soak.stage.load(records), time.monotonic()
        with _shown(seconds, console) as show:
            for fault in faults:
                while (left := fault.at_s - (time.monotonic() - began)) > 0:
                    show(time.monotonic() - began, load, done)
                    time.sleep(min(left, 0.5))
                console.print(f"{time.monotonic() - began:6.0f} s: {fault.kind}, worker {fault.worker}")
                soak.strike(fault)
                done[fault.kind] += 1
            while load.is_alive():
                show(time.monotonic() - began, load, done)
                time.sleep(0.5)
        console.print(f"faults: {dict(done)}; workers that ended by themselves: {len(soak.fleet.ended)}")
        ended = Counter(each.last_line for each in soak.fleet.ended)
        for line, times in ended.items():
            console.print(f"  {times} x {line}", markup=False)
        sent = soak.sent + load.wait(known=not cluster)
        if cluster:
            sent = as_it_lies(soak.stage, sent)
        wanted = soak.stage.expected(sent)
        told = functools.partial(console.print, highlight=False)
        reckon(soak.stage, soak.fleet, sent, told, expected=wanted, refused=refused(wanted))
    _judge(watch, console)


@contextmanager
def _shown(seconds: float, console: Console) -> Iterator[Callable[[float, Load, Counter[str]], None]]:
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=seconds)

        def show(passed_s: float, load: Load, done: Counter[str]) -> None:
            told = f"sent {len(load.sent)} records, {done.total()} faults"
            progress.update(task, completed=passed_s, description=told)

        yield show


def _judge(watch: Watch, console: Console) -> None:
    """Show how each process that lived long enough to tell has grown, and refuse what isn't flat."""
    table = Table("process", "lived", "memory", "threads", "descriptors", title="from the first third to the last")
    grew = []
    for (name, pid), life in watch.lives.items():
        grown = growth(life, settled_s=SETTLED_S)
        if grown is None:
            continue
        table.add_row(
            f"{name} ({pid})",
            f"{grown.lived_s:.0f} s",
            f"{grown.first.rss_mb:.0f} MB {grown.rss_mb:+.1f}",
            f"{grown.first.threads} {grown.threads:+.0f}",
            f"{grown.first.descriptors} {grown.descriptors:+.0f}",
        )
        grows = grown.rss_mb > MORE_MB or grown.threads > MORE_THREADS or grown.descriptors > MORE_DESCRIPTORS
        if grows and grown.lived_s >= TELLING_S:
            grew.append(f"{name} ({pid}): {grown}")
    console.print(table)
    longest = max(watch.lives.values(), key=len)
    told = " ".join(f"{megabytes:.0f}" for megabytes in memory_course(longest))
    console.print(f"memory of the one that lived longest, in twelfths of its life: {told} MB", highlight=False)
    assert not grew, grew


def main() -> int:
    """Soak as the arguments say; return 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--delivery", choices=DELIVERIES, default=DELIVERIES[-1])
    parser.add_argument("--cluster", action="store_true", help="three brokers instead of one behind a proxy")
    options = parser.parse_args()
    console, folder = Console(width=None if sys.stdout.isatty() else 120), Path(tempfile.mkdtemp(prefix="soak-"))
    again = f"make soak SECONDS={options.seconds:g} SEED={options.seed} DELIVERY={options.delivery}"
    again += " CLUSTER=1" if options.cluster else ""
    console.print(f"{again}; logs in {folder}", highlight=False)
    try:
        with interrupted_once():
            run(folder, options.seconds, options.seed, options.delivery, console, cluster=options.cluster)
    except KeyboardInterrupt:
        console.print(f"ended before it was done; logs in {folder}", highlight=False)
        return 1
    except AssertionError as error:
        console.print(f"{error}\nThe same again: {again}; logs in {folder}", markup=False, highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
