"""The demo: broker, topics, worker and synthetic devices on this machine, and a live table of the labels.

Nothing is left when it ends: the broker's data is in a temporary folder, and guard processes end broker and worker when
this process dies, for whatever reason.

    DemoError    a part of the demo failed, or no label arrived; the text says which
"""

import collections
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kafka
from kafka.errors import KafkaError
from kafka.structs import TopicPartition
from rich.console import Console

from service.broker.errors import BrokerError
from service.broker.fetching import fetch_kafka
from service.broker.node import Broker
from service.child_worker import ChildWorker, ChildWorkerError, running_worker
from service.configuration.settings import Settings
from service.demo.display import displayed, share
from service.demo.label_scores import LabelScores
from service.demo.rates import Rates
from service.kafka_admin.topic_specs import specs
from service.kafka_admin.topics import TopicError, ensure_topics
from service.replay.run import Replay
from service.replay.sending import ReplayError
from service.replay.synthesiser import SyntheticFleet

PARTITIONS = 4
SENDER_GRACE_S = 3.0
SIGNAL_WITHIN_S = 0.5
"""How long after a part has ended a signal may arrive that was sent to the whole process group."""


class DemoError(Exception):
    """The demo can't continue, or no label arrived."""


def run_demo(settings: Settings, *, devices: int, seconds: float | None, seed: int, stop: threading.Event) -> None:
    """Run until `seconds` have passed since the first reading was sent, or `stop` is set.

    Raises DemoError if a part fails or no label arrived, and the errors of the broker, the topics and the worker.
    """
    console = Console()
    console.print("Stridecast demo: Apache Kafka, the activity worker and synthetic devices, all on this machine.")
    fetch_kafka()
    try:
        scores = _run_parts(settings, devices, seconds, seed, stop, console)
    except (BrokerError, TopicError, ReplayError, ChildWorkerError, DemoError):
        # A signal that stops the demo may stop its parts too, a moment earlier.
        if not stop.wait(SIGNAL_WITHIN_S):
            raise
        console.print("stopped")
        return
    console.print(
        f"{scores.labels} labels arrived; {share(scores)} of the {scores.scored} with a steady truth were right."
    )
    if not scores.labels and not stop.is_set():
        raise DemoError("no label arrived")
    console.print('Next, your own readings: "Use your own Kafka" in README.md.')


def _run_parts(
    settings: Settings, devices: int, seconds: float | None, seed: int, stop: threading.Event, console: Console
) -> LabelScores:
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
) -> LabelScores:
    """Send the devices' readings and show the labels as they arrive.

    Raises DemoError, ChildWorkerError or BrokerDied as soon as a part has ended.
    """
    servers = broker.bootstrap_servers
    replay = Replay(fleet, bootstrap_servers=servers, topic=settings.activity.input_topic, seconds=seconds)
    scores, rates, failures = LabelScores(replay), Rates(f"{worker.url}/metrics"), collections.deque[Exception]()
    ending = threading.Event()
    sender = threading.Thread(target=_send, args=(replay, ending, failures), name="replay", daemon=True)
    try:
        with _reading_labels(servers, settings.activity.output_topic) as consumer:
            sender.start()
            with displayed(console) as show:
                while sender.is_alive():
                    _take_labels(consumer, scores)
                    worker.check()
                    broker.check()
                    show(scores, rates, replay)
                    if stop.is_set():
                        ending.set()
            _take_labels(consumer, scores, timeout_ms=1500)
    except KafkaError as error:
        raise DemoError(f"the labels could not be read: {error}") from error
    finally:
        ending.set()
        if sender.ident is not None:
            sender.join(SENDER_GRACE_S)  # before the broker ends: what it has sent is still acknowledged
    if failures:
        raise DemoError(f"the replay failed: {failures[0]}") from failures[0]
    return scores


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


def _take_labels(consumer: kafka.KafkaConsumer, scores: LabelScores, timeout_ms: int = 100) -> None:
    for records in consumer.poll(timeout_ms=timeout_ms).values():
        for record in records:
            scores.take(json.loads(record.value))
