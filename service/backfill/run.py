"""Runs a worker over a stretch of its topic, shows progress, and ends when all is labelled."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka.admin import KafkaAdminClient
from prometheus_client import CollectorRegistry
from rich.console import Console

from inference.bundle import find_bundle, load_bundle
from service.backfill.other_workers import OtherWorkers
from service.backfill.stretch import Stretch, begin, group_of, what_there_is
from service.backfill.watch import Watch
from service.configuration.security import access_to
from service.configuration.settings import WorkerSettings
from service.host.interruption import exit_on_sigterm, stop_on_signals
from service.host.processes import share_arenas
from service.host.progress import Reached, progress_shown
from service.kafka_admin.topic_specs import specs
from service.kafka_admin.topics import admin_client, count_partitions, ensure_topics
from service.kind import Kind, WorkerError
from service.monitoring import logs
from service.monitoring.metrics import Families
from service.run import (
    SWITCH_INTERVAL_S,
    frozen_memory,
    open_core,
    open_worker,
    run_together,
)

log = logging.getLogger(__name__)


def backfill(settings: WorkerSettings, kind: Kind, stretch: Stretch, console: Console) -> int:
    """Label a stretch of the kind's input; return 0, or 1 if stopped before its end.

    Another call with the same settings goes on from there. Raises TopicError, and what `run_workers` raises.
    """
    servers, topics = access_to(settings.kafka), kind.settings
    folder = find_bundle(topics.bundle)
    group = group_of(settings.kafka.group_id, topics, load_bundle(folder).digest, stretch)
    others = OtherWorkers(settings.kafka.group_id, topics.output_topic)
    partitions = count_partitions(servers, topics.input_topic)
    if partitions is None:
        raise WorkerError(f"Kafka at {servers} has no topic {topics.input_topic}: there is nothing to label")
    _, output, _ = states = ensure_topics(servers, specs([topics], partitions))
    for state in states:
        if state.created:
            console.print(str(state))
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"group_id": group})})
    registry, started = CollectorRegistry(), time.monotonic()
    with exit_on_sigterm(status=1) as told, admin_client(servers) as admin:
        ends = begin(admin, group, kind, stretch, partitions, output.partitions or partitions, others)
        if not ends:
            console.print(f"nothing to label: {what_there_is(admin, topics.input_topic, partitions)}")
            return 0
        with _display(console, settings.log_format) as show:
            watch = Watch(admin, group, ends, others, show, told)
            _run(settings, kind, folder, registry, watch, told)
        console.print(_summary(registry, kind.name, time.monotonic() - started))
        if watch.error is not None:
            raise watch.error
        if not watch.complete:
            console.print("stopped before the end; the same command goes on from here")
            return 1
        _forget(admin, group)
    return 0


def _run(
    settings: WorkerSettings,
    kind: Kind,
    folder: Path,
    registry: CollectorRegistry,
    watch: Watch,
    stop: threading.Event,
) -> None:
    """Run until all is done, a signal comes, or something prevents it."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    share_arenas()
    with open_core(settings.inference) as core:
        worker, _ = open_worker(kind, settings, folder, core, Families(registry), bounded=True)
        with stop_on_signals(stop), frozen_memory():
            watch.start()
            try:
                run_together([worker], stop)
            finally:
                stop.set()
                watch.join()


def _forget(admin: KafkaAdminClient, group: str) -> None:
    """Delete the group, which is no longer needed; it stays if it has other members, or the right is missing."""
    answer = admin.delete_groups([group])[group]
    if answer != "OK":
        log.info("group %s stays: %s", group, answer)


@contextmanager
def _display(console: Console, log_format: str) -> Iterator[Callable[[Reached], None]]:
    """Yield the function that shows progress; a terminal with a bar shows only warnings of the log, above it."""
    with progress_shown(console, "loading the model") as show:
        logs.set_up(log_format)
        if console.is_terminal and sys.stderr.isatty():  # else all of the log goes where it is sent
            logging.getLogger().setLevel(logging.WARNING)
        yield show
    logs.set_up(log_format)


def _summary(registry: CollectorRegistry, kind: str, seconds: float) -> str:
    def count(name: str, **labels: str) -> int:
        samples = (sample for family in registry.restricted_registry([name]).collect() for sample in family.samples)
        chosen = (sample for sample in samples if labels.items() <= sample.labels.items())
        return int(sum(sample.value for sample in chosen if sample.name == name and sample.labels["worker"] == kind))

    records, labels = count("stridecast_records_total"), count("stridecast_predictions_total")
    parts = [f"{records:,} records, {labels:,} labels in {seconds:,.0f} s"]
    for what, several in (("duplicate", "were there already"), ("incomplete", "windows were incomplete")):
        if number := count("stridecast_windows_total", outcome=what):
            parts.append(f"{number:,} {several}")
    if rejected := count("stridecast_records_rejected_total"):
        what = "1 record" if rejected == 1 else f"{rejected:,} records"
        parts.append(f"{what} could not be read: `stridecast dead-letters` tells why")
    return "; ".join(parts)
