"""What every worker process does around its loop: bundle, device, core, HTTP port, signals."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    disable_created_metrics,
)

from inference.bundle import find_bundle, load_bundle
from inference.core import Core
from inference.devices import choose_device
from ingest.rejections import Reason
from service import http
from service.metrics import Families, WorkerMetrics
from service.settings import Settings
from service.worker import Kind, Worker

log = logging.getLogger(__name__)

# Measured: on a CPU the rate is flat from 8 on, and a larger batch only takes longer.
MAX_BATCH = {"cpu": 64, "cuda": 1024}
# Python's default of 5 ms lets a busy thread hold up the hand-over of a batch by that much, several times a label.
SWITCH_INTERVAL_S = 0.0005

# Makes a kind of worker; its metrics exist by then.
MakeKind = Callable[[WorkerMetrics], Kind]


def run_worker(name: str, settings: Settings, *, bundle: str, topics: list[str], make_kind: MakeKind) -> None:
    """Run one worker until SIGTERM or SIGINT, and finish within the grace period.

    Until it works, either signal ends it at once: SIGTERM with SystemExit(0), SIGINT with KeyboardInterrupt.
    Raises BundleError, HttpError, DeviceError, CoreError, IngestError or WorkerError.
    """
    folder = find_bundle(bundle)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series beside each counter and histogram that nobody asks for
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    health = http.Health()
    server = http.serve(settings.http.host, settings.http.port, registry, health)
    log.info("listening on http://%s:%d", *server.server_address[:2])
    try:
        with _exit_on_sigterm(), open_core(settings, folder) as core:
            metrics = WorkerMetrics(
                Families(registry), name, topics=topics, reasons=list(Reason), labels=core.model.bundle.manifest.labels
            )
            metrics.set_model(core)
            worker = Worker(make_kind(metrics), settings, core, metrics)
            health.live = lambda: worker.live
            health.ready = lambda: worker.live and worker.joined
            with stop_on_signals() as stop:
                worker.run(stop)
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def open_core(settings: Settings, bundle: Path) -> Iterator[Core]:
    """Load the bundle of a folder onto the device of the settings, checked and warm; close the core in the end."""
    inference = settings.inference
    device = choose_device(inference.device, inference.precision, threads=inference.threads)
    core = Core(
        load_bundle(bundle),
        device,
        max_batch=inference.max_batch or MAX_BATCH[device.name],
        capacity=inference.queue_frames,
        clock=time.monotonic,
        deliver=lambda result: result.ticket.publish(result),
    )
    log.info("%s passed its golden check on %s at %s", core.model.bundle.title, device.name, core.model.precision)
    core.start()
    try:
        yield core
    finally:
        core.close()


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise, as Python lets SIGINT: kafka-python waits up to ten seconds for a broker."""

    def exit_cleanly(*_: object) -> NoReturn:
        raise SystemExit(0)

    previous = signal.signal(signal.SIGTERM, exit_cleanly)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM or SIGINT sets."""
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
