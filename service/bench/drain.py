"""A worker beside its broker: the cost of labelling a backlog, for each form of message.

Each backlog is written while the worker is stopped (SIGSTOP); then it continues. So the cost is the worker's alone, and
it reads as fast as it can. A small backlog first warms the worker up. A drain has ended when all records have been
taken and no label has come for a second; its end is the moment of the last label.

    BenchError    the worker does not label what it should
"""

import os
import signal
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import kafka
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from ingest.producer.bulk import BulkProducer
from ingest.producer.producer import close_producer, open_producer
from ingest.record_batches.bodies import pack
from service.bench.figures import Drained, Whole
from service.bench.parts import CHUNK_MS, DEVICES, SENT_AFTER_MS, Tell, outgoing_of
from service.broker.node import Broker
from service.child_worker import ChildWorker, running_worker
from service.configuration.settings import Settings
from service.host.processes import child_of, cpu_seconds, resident_bytes
from service.kafka_admin.topic_specs import PARTITIONS, specs
from service.kafka_admin.topics import ensure_topics
from service.replay.messages import Form, packer, partition_of
from service.replay.synthesiser import SyntheticFleet

MOST_SAMPLES = 1_000_000
WARM_UP_DEVICES = 50
BLOCK_MS = 5000.0
LEAST_BLOCKS = 2
"""The first windows close after four seconds of a stream."""
SESSION_S = 60.0
IDLE_TIMEOUT_S = 3600.0
POLL_S = 0.02
QUIET_S = 1.0
DRAINED_WITHIN_S = 120.0
SENT_WITHIN_S = 30.0


class BenchError(Exception):
    """The worker does not label what it should."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a backlog: it ends at this many samples, or after this many seconds of writing."""

    samples: float
    seconds: float


def measure_whole(settings: Settings, size: Size, tell: Tell) -> Whole:
    """Start a broker and a worker with these settings, drain a backlog of each form, and clean up.

    Raises BenchError, ChildWorkerError, BrokerError, ArtifactError, TopicError or IngestError.
    """
    with tempfile.TemporaryDirectory(prefix="stridecast-bench-") as name:
        folder = Path(name)
        tell("starting Apache Kafka")
        with Broker(folder / "kafka", port=0) as broker:
            servers = broker.bootstrap_servers
            ensure_topics(servers, specs([settings.activity], PARTITIONS))
            tell("starting a worker")
            # No grace period: the worker is killed at the end.
            with (
                running_worker(
                    _bench_settings(settings), servers, folder / "log", threading.Event(), grace_s=0
                ) as worker,
                _bench(settings, broker, worker) as bench,
            ):
                tell("warming the worker")
                bench.drain(SyntheticFleet(WARM_UP_DEVICES, seed=0), Form.SAMPLE, Size(0, 0))
                forms = {}
                for seed, form in enumerate(Form, start=1):
                    tell(f"draining {form} messages")
                    forms[form] = bench.drain(SyntheticFleet(DEVICES, seed), form, size)
                return Whole(forms=forms, worker_bytes=resident_bytes(bench.pid))


def _bench_settings(settings: Settings) -> Settings:
    """Return settings for a worker that may be stopped for a while, and that doesn't close windows of idle devices."""
    kafka = settings.kafka.model_copy(update={"session_timeout_s": max(settings.kafka.session_timeout_s, SESSION_S)})
    activity = settings.activity.model_copy(
        update={"idle_timeout_s": max(settings.activity.idle_timeout_s, IDLE_TIMEOUT_S)}
    )
    return settings.model_copy(update={"kafka": kafka, "activity": activity})


@contextmanager
def _bench(settings: Settings, broker: Broker, worker: ChildWorker) -> Iterator["_Bench"]:
    servers = broker.bootstrap_servers
    pid = child_of(worker.process.pid)
    if pid is None:
        worker.check()
        raise BenchError("the worker's process can't be found")
    producer = open_producer(bootstrap_servers=servers, client_id="stridecast-bench")
    labels = kafka.KafkaConsumer(
        bootstrap_servers=servers, group_id=None, enable_auto_commit=False, metrics_enabled=False
    )
    try:
        yield _Bench(settings, broker, worker, pid, producer, labels)
    except KafkaError as error:
        raise BenchError(f"Kafka did not do what the bench asked for: {error}") from error
    finally:
        labels.close(autocommit=False)
        close_producer(producer, 0)


class _Bench:
    """A broker, a worker, and clients that observe them."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        worker: ChildWorker,
        pid: int,
        producer: BulkProducer,
        labels: kafka.KafkaConsumer,
    ) -> None:
        self.pid = pid
        self._input = settings.activity.input_topic
        self._outputs = [TopicPartition(settings.activity.output_topic, number) for number in range(PARTITIONS)]
        self._broker = broker
        self._worker = worker
        self._producer = producer
        self._labels = labels

    def drain(self, fleet: SyntheticFleet, form: Form, size: Size) -> Drained:
        """Write a backlog while the worker is stopped, continue it, and wait until all is labelled."""
        taken, labels = self._series("stridecast_records_total"), self._series("stridecast_predictions_total")
        os.kill(self.pid, signal.SIGSTOP)
        try:
            messages, samples = self._write(fleet, form, size)
            began, spent = time.monotonic(), cpu_seconds(self.pid)
        finally:
            os.kill(self.pid, signal.SIGCONT)
        ended, cpu = self._wait_until_drained(taken + messages)
        return Drained(
            samples=samples,
            messages=messages,
            labels=int(self._series("stridecast_predictions_total") - labels),
            seconds=ended - began,
            cpu_seconds=max(cpu - spent, 0.01),  # the resolution of the clock
        )

    def _write(self, fleet: SyntheticFleet, form: Form, size: Size) -> tuple[int, int]:
        """Send a fleet's stream, block by block, with recent timestamps; return its messages and samples."""
        keys = [device_id.encode() for device_id in fleet.device_ids]
        places = [partition_of(key, PARTITIONS) for key in keys]
        blocks = int(MOST_SAMPLES / len(keys) / (BLOCK_MS / 50))
        now_ms = int(1000 * time.time())
        pack_block = packer(fleet, form, now_ms - SENT_AFTER_MS - int(blocks * BLOCK_MS), CHUNK_MS)
        sent = samples = 0
        until = time.monotonic() + size.seconds
        for number in range(blocks):
            if number >= LEAST_BLOCKS and (samples >= size.samples or time.monotonic() >= until):
                break
            start_ms, stop_ms = number * BLOCK_MS, (number + 1) * BLOCK_MS
            messages = pack_block(fleet.readings(start_ms, stop_ms), stop_ms, last=False)
            pieces: list[list[int]] = [[] for _ in range(PARTITIONS)]
            for row, device in enumerate(messages.device.tolist()):
                pieces[places[device]].append(row)
            outgoing = outgoing_of(messages, keys, form)
            sendings = [
                self._producer.send_bodies(
                    TopicPartition(self._input, partition), pack(outgoing[row] for row in rows), now_ms
                )
                for partition, rows in enumerate(pieces)
            ]
            for sending in sendings:
                sending.get(SENT_WITHIN_S)
            sent += len(outgoing)
            samples += int(messages.readings.sum())
        return sent, samples

    def _wait_until_drained(self, taken: float) -> tuple[float, float]:
        """Wait until this many records have been taken and no more labels come.

        Return the time of the last label, and the worker's CPU time then.
        """
        deadline = time.monotonic() + DRAINED_WITHIN_S
        count, ended, cpu = self._count(), time.monotonic(), cpu_seconds(self.pid)
        while time.monotonic() < deadline:
            time.sleep(POLL_S)
            self._worker.check()
            self._broker.check()
            now = self._count()
            if now != count:
                count, ended, cpu = now, time.monotonic(), cpu_seconds(self.pid)
            elif time.monotonic() - ended >= QUIET_S and self._has_taken(taken):
                return ended, cpu
        raise BenchError(
            f"the worker has not labelled its backlog in {DRAINED_WITHIN_S:g} s; its log ends with: "
            f"{self._worker.last_words()}"
        )

    def _has_taken(self, records: float) -> bool:
        return self._series("stridecast_records_total") >= records and not self._series("stridecast_queue_frames")

    def _count(self) -> int:
        """Return the number of records in the topic of labels."""
        return sum(self._labels.end_offsets(self._outputs).values())

    def _series(self, name: str) -> float:
        """Return the sum of one of the worker's metrics over its labels."""
        try:
            with urllib.request.urlopen(f"{self._worker.url}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError as error:
            self._worker.check()
            raise BenchError(f"the worker does not answer: {error}") from error
        # Not with the client library's parser: it tries int() on each value, and CPython (3.11, 3.12) loses a Ctrl-C
        # that arrives while the failure's message is built.
        series = (line for line in text.split("\n") if line.startswith((f"{name} ", f"{name}{{")))
        return sum(float(line.rpartition(" ")[2]) for line in series)
