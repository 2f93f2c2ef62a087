"""The demo: broker, topics, worker and synthetic devices on this machine, and a live table of what is labelled.

Nothing is left when it ends: the broker's data is in a temporary folder, and broker and worker are run by guards
that end them when this process dies, however it dies.

    DemoError    a part of the demo failed, or no label arrived; the text says which
"""

import collections
import http.client
import json
import math
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kafka
from kafka.errors import KafkaError
from kafka.structs import TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.broker.errors import BrokerError
from service.broker.fetching import fetch_kafka
from service.broker.node import Broker
from service.child_worker import ChildWorker, ChildWorkerError, running_worker
from service.replay.run import Replay, ReplayError
from service.replay.synthesiser import SyntheticFleet
from service.settings import Settings
from service.topic_specs import specs
from service.topics import TopicError, ensure_topics

PARTITIONS = 4
TABLE_EVERY_S = 0.5
LINE_EVERY_S = 5.0
SENDER_GRACE_S = 3.0
TOLD_WITHIN_S = 0.5
"""How long after a part ended a signal may come that was meant for all of us."""
BESIDE_ROWS = 9
"""Lines of the live view that are no device's: headline, the table's frame, what is left out, caption, cursor."""


class DemoError(Exception):
    """The demo can't go on, or no label arrived."""


class Board:
    """What the labels that have arrived say, beside what is true."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._numbers = {device_id: number for number, device_id in enumerate(replay.fleet.device_ids)}
        self.latest: dict[str, dict[str, Any]] = {}
        self.labels = 0
        self.judged = 0
        self.right = 0

    def take(self, label: dict[str, Any]) -> None:
        """Take one label in; it is judged where the wearer did the same from the window's start to its end."""
        number = self._numbers.get(label["device_id"])
        if number is None:
            return
        before, after = (self._replay.truth(number, label[edge]) for edge in ("window_start", "window_end"))
        truth = before if before == after else None
        self.labels += 1
        self.latest[label["device_id"]] = {**label, "truth": truth}
        if truth is not None:
            self.judged += 1
            self.right += truth == label["activity"]

    @property
    def agreement(self) -> float:
        """Share of judged labels that are right; NaN before the first."""
        return self.right / self.judged if self.judged else math.nan


class Rates:
    """Messages and windows a second and their latency over the last ten seconds, from the worker's own metrics."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen: collections.deque[tuple[float, float, float]] = collections.deque(maxlen=20)
        self._latencies: collections.deque[list[tuple[float, float]]] = collections.deque(maxlen=20)
        self.p50_ms = math.nan
        self.p99_ms = math.nan

    def read(self) -> None:
        """Scrape the worker; where it does not answer, what was read last stays: whether it runs is seen elsewhere."""
        try:
            with urllib.request.urlopen(self._url, timeout=5) as answer:
                text = answer.read().decode()
        except (OSError, http.client.HTTPException):
            return
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        messages, windows = (
            sum(sample.value for sample in samples if sample.name == name)
            for name in ("stridecast_records_total", "stridecast_windows_total")
        )
        buckets = [
            (float(sample.labels["le"]), sample.value)
            for sample in samples
            if sample.name == "stridecast_end_to_end_latency_seconds_bucket"
        ]
        self._seen.append((time.monotonic(), messages, windows))
        self._latencies.append(buckets)
        before = dict(self._latencies[0])
        lately = [(bound, count - before.get(bound, 0.0)) for bound, count in buckets]
        self.p50_ms, self.p99_ms = (1000 * quantile(lately, share) for share in (0.5, 0.99))

    @property
    def per_second(self) -> tuple[float, float]:
        """Messages and windows a second."""
        if len(self._seen) < 2:
            return 0.0, 0.0
        (then, *old), (now, *new) = self._seen[0], self._seen[-1]
        messages, windows = ((after - before) / (now - then) for before, after in zip(old, new, strict=True))
        return messages, windows


def quantile(buckets: list[tuple[float, float]], share: float) -> float:
    """Estimate a quantile from cumulative (upper bound, count), as Prometheus' histogram_quantile does."""
    total = buckets[-1][1] if buckets else 0.0
    low = below = 0.0
    for bound, count in buckets:
        if total and count >= share * total:
            return (
                low if math.isinf(bound) else low + (bound - low) * (share * total - below) / max(count - below, 1e-9)
            )
        low, below = bound, count
    return math.nan


def run_demo(settings: Settings, *, devices: int, seconds: float | None, seed: int, stop: threading.Event) -> None:
    """Run until `seconds` have passed since the first reading was sent, or `stop` is set.

    Raises DemoError where a part fails or no label arrived, and whatever the broker, the topics and the worker raise.
    """
    console = Console()
    console.print("Stridecast demo: Apache Kafka, the activity worker and synthetic devices, all on this machine.")
    fetch_kafka()
    try:
        board = _run_parts(settings, devices, seconds, seed, stop, console)
    except (BrokerError, TopicError, ReplayError, ChildWorkerError, DemoError):
        # What stops us may stop our parts as well, and a moment earlier.
        if not stop.wait(TOLD_WITHIN_S):
            raise
        console.print("stopped")
        return
    console.print(
        f"{board.labels} labels arrived; {_share(board)} of the {board.judged} with a steady truth were right."
    )
    if not board.labels and not stop.is_set():
        raise DemoError("no label arrived")


def _run_parts(
    settings: Settings, devices: int, seconds: float | None, seed: int, stop: threading.Event, console: Console
) -> Board:
    with tempfile.TemporaryDirectory(prefix="stridecast-demo-") as folder:
        console.print("starting Apache Kafka ...")
        with Broker(Path(folder) / "kafka").start(stop=stop) as broker:
            ensure_topics(broker.bootstrap_servers, specs([settings.activity], PARTITIONS))
            console.print("starting the worker ...")
            with running_worker(settings, broker.bootstrap_servers, Path(folder) / "worker.log", stop) as worker:
                console.print(f"the worker's live view is at {worker.url}/")
                fleet = SyntheticFleet(devices, seed, dwell_s=20.0)
                return play(settings, broker, worker, fleet, seconds, stop, console)


def play(
    settings: Settings,
    broker: Broker,
    worker: ChildWorker,
    fleet: SyntheticFleet,
    seconds: float | None,
    stop: threading.Event,
    console: Console,
) -> Board:
    """Send the devices' readings and show the labels as they arrive.

    Raises DemoError, ChildWorkerError or BrokerDied as soon as a part has ended.
    """
    servers = broker.bootstrap_servers
    replay = Replay(fleet, bootstrap_servers=servers, topic=settings.activity.input_topic, seconds=seconds)
    board, rates, failures = Board(replay), Rates(f"{worker.url}/metrics"), collections.deque[Exception]()
    ending = threading.Event()
    sender = threading.Thread(target=_send, args=(replay, ending, failures), name="replay", daemon=True)
    try:
        with _reading_labels(servers, settings.activity.output_topic) as consumer:
            sender.start()
            with _display(console) as show:
                while sender.is_alive():
                    _take_labels(consumer, board)
                    worker.check()
                    broker.check()
                    show(board, rates, replay)
                    if stop.is_set():
                        ending.set()
            _take_labels(consumer, board, timeout_ms=1500)
    except KafkaError as error:
        raise DemoError(f"the labels could not be read: {error}") from error
    finally:
        ending.set()
        if sender.ident is not None:
            sender.join(SENDER_GRACE_S)  # before the broker ends: what it has sent is still acknowledged
    if failures:
        raise DemoError(f"the replay failed: {failures[0]}") from failures[0]
    return board


def _send(replay: Replay, stop: threading.Event, failures: "collections.deque[Exception]") -> None:
    try:
        replay.run(stop)
    except Exception as error:
        failures.append(error)


@contextmanager
def _reading_labels(bootstrap_servers: str, topic: str) -> Iterator[kafka.KafkaConsumer]:
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=bootstrap_servers, group_id=None, enable_auto_commit=False, metrics_enabled=False
    )
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        consumer.seek_to_beginning()
        yield consumer
    finally:
        consumer.close(autocommit=False)


def _take_labels(consumer: kafka.KafkaConsumer, board: Board, timeout_ms: int = 100) -> None:
    for records in consumer.poll(timeout_ms=timeout_ms).values():
        for record in records:
            board.take(json.loads(record.value))


@contextmanager
def _display(console: Console) -> Iterator[Any]:
    """Give what shows the board: a live table on a terminal, a line now and then elsewhere."""
    due = [0.0]
    interactive = console.is_terminal

    def is_due() -> bool:
        if time.monotonic() < due[0]:
            return False
        due[0] = time.monotonic() + (TABLE_EVERY_S if interactive else LINE_EVERY_S)
        return True

    if not interactive:

        def show_line(board: Board, rates: Rates, replay: Replay) -> None:
            if is_due():
                rates.read()
                console.print("  ".join(_headline(board, rates, replay)), highlight=False, soft_wrap=True)

        yield show_line
        return
    with Live(console=console, auto_refresh=False) as live:

        def show_table(board: Board, rates: Rates, replay: Replay) -> None:
            if is_due():
                rates.read()
                live.update(view(board, rates, replay, console.size.height), refresh=True)

        yield show_table


def view(board: Board, rates: Rates, replay: Replay, height: int) -> Group:
    """Return headline and table for a terminal of `height` lines, 80 columns or wider."""
    return Group(Text("\n".join(_headline(board, rates, replay))), _table(board, rows=max(1, height - BESIDE_ROWS)))


def _headline(board: Board, rates: Rates, replay: Replay) -> tuple[str, str]:
    """Return two lines for a terminal of 80 columns."""
    messages, windows = rates.per_second
    return (
        f"{replay.done_ms / 1000:5.1f} s  {messages:,.0f} messages/s  {windows:,.1f} windows/s",
        f"{board.labels} labels, {_share(board)} right  latency p50 {_ms(rates.p50_ms)}, p99 {_ms(rates.p99_ms)}",
    )


def _table(board: Board, rows: int) -> Table:
    table = Table(caption="synthetic: the truth is known; labels may be wrong")
    for column in ("device", "true", "labelled", "confidence"):
        table.add_column(column, min_width=12, no_wrap=True)
    for device_id in sorted(board.latest)[:rows]:
        label = board.latest[device_id]
        truth, activity = label["truth"], label["activity"]
        style = "dim" if truth is None else "green" if truth == activity else "red"
        bar = "█" * round(10 * label["confidence"])
        confidence = f"{bar:<10} {label['confidence']:.2f}"
        table.add_row(device_id, truth or "changing", Text(activity, style=style), confidence)
    if len(board.latest) > rows:
        table.add_row(f"and {len(board.latest) - rows} more", "", "", "")
    return table


def _share(board: Board) -> str:
    return "–" if math.isnan(board.agreement) else f"{board.agreement:.0%}"


def _ms(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0f} ms"
