"""Runs a worker process: bundles, device, core, HTTP port and signals around its workers."""

import functools
import gc
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    disable_created_metrics,
)

from inference.bundle import SHIPPED, find_bundle, load_bundle
from inference.core import Core
from inference.device_choice import choose_device
from inference.devices import Device, gpu_memory, winograd
from inference.lanes import Trouble
from ingest.rejections import Reason
from service.configuration.security import access_to
from service.configuration.settings import HttpSettings, InferenceSettings, ServiceSettings, WorkerSettings
from service.host.interruption import exit_on_sigterm, stop_on_signals
from service.host.processes import share_arenas
from service.kind import Kind
from service.monitoring import http, logs
from service.monitoring.metrics import Families, WorkerMetrics
from service.pipeline.worker import Worker
from service.serving import engines
from service.serving.device_watch import watched
from service.serving.hot_swap import HotSwap

log = logging.getLogger(__name__)

# With Python's default of 5 ms, a busy thread can delay passing on a batch by so much, several times for a label.
SWITCH_INTERVAL_S = 0.0005
WATCH_S = 0.5


def run_workers(settings: ServiceSettings, kinds: Sequence[Kind]) -> None:
    """Run a worker of each kind until SIGTERM or SIGINT, and finish within the grace period.

    All share one core, device, HTTP port and registry; each has its own thread, its own consumer in the same group,
    and its own series. One that fails stops the others cleanly.
    Until they work, either signal ends the process at once: SIGTERM with SystemExit(0), SIGINT with KeyboardInterrupt.
    Raises BundleError, HttpError, DeviceError, CoreError, IngestError or WorkerError.
    """
    logs.set_up(settings.log_format)
    access_to(settings.kafka)  # reports a missing secret before a model is loaded
    folders = [find_bundle(kind.settings.bundle) for kind in kinds]
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    share_arenas()
    health, registry = http.Health(), _registry()
    with _listening(settings.http, registry, health), exit_on_sigterm() as told, open_core(settings.inference) as core:
        families = Families(registry)
        with ExitStack() as opened:
            workers, swaps = [], []
            for kind, folder in zip(kinds, folders, strict=True):
                worker, swap = open_worker(kind, settings, folder, core, families)
                opened.callback(worker.abandon)
                workers.append(worker)
                swaps += [swap] if folder.parent != SHIPPED else []  # shipped bundles change only with the program
            opened.pop_all()
        with stop_on_signals(told) as stop, _swapping(swaps), frozen_memory():
            health.live = lambda: all(worker.live for worker in workers) and all(swap.is_alive() for swap in swaps)
            health.ready = lambda: all(worker.live and worker.joined for worker in workers)
            run_together(workers, stop)


def open_worker(
    kind: Kind, settings: WorkerSettings, folder: Path, core: Core, families: Families, *, bounded: bool = False
) -> tuple[Worker, HotSwap]:
    """Load a bundle of the kind onto the core, checked and warm, and connect the worker that serves it.

    A ``bounded`` worker reads up to the ends in its group's commits. Also returns the watcher of the bundle's folder,
    which has not been started.
    """
    bundle = load_bundle(folder)
    metrics = WorkerMetrics(
        families,
        kind.name,
        topics=[kind.settings.input_topic],
        reasons=list(Reason),
        labels=bundle.manifest.labels,
    )
    open_stream = kind.prepare(bundle, metrics)  # refuses a bundle of another kind before the core takes it
    keeper = None if kind.open_keeper is None else kind.open_keeper(metrics)
    lane = core.open(bundle, functools.partial(report_trouble, metrics))
    engines.tell(lane.model)
    metrics.read_at_scrape("gpu_memory_reserved_bytes", "Held by the process; 0 on a CPU.", gpu_memory.reserved)
    metrics.read_at_scrape("gpu_memory_total_bytes", "What the GPU has; 0 on a CPU.", gpu_memory.total)
    metrics.model_loaded(lane.model)
    return Worker(kind, settings, open_stream, lane, metrics, keeper, bounded=bounded), HotSwap(folder, lane, metrics)


def report_trouble(metrics: WorkerMetrics, trouble: Trouble) -> None:
    """Log and count a failure of the device; mostly called on the core's thread."""
    metrics.inference_failures[trouble.outcome].inc()
    if trouble.outcome == "smaller":
        log.warning("batches of at most %d frames from now on: %s", trouble.max_batch, trouble.error)
        return
    metrics.model_serves(trouble.model)
    log.error(
        "%s is served on the fallback %s from now on, until a restart, for the device failed: %s",
        trouble.model.bundle.title,
        trouble.model.device,
        trouble.error,
    )


def run_together(workers: Sequence[Worker], stop: threading.Event) -> None:
    """Run each worker in a thread of its own until ``stop`` is set; the first that fails sets it for the others.

    Raises the error of the first that failed, when all have ended.
    """
    failures: list[BaseException] = []

    def run(worker: Worker) -> None:
        try:
            worker.run(stop)
        except BaseException as error:
            if not stop.is_set() and len(workers) > 1:
                log.error("the %s worker has failed, which stops the others: %s", worker.kind.name, error)
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=run, args=(worker,), name=f"{worker.kind.name}-worker") for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # an endless wait would block signal handlers
            thread.join(WATCH_S)
    if failures:
        raise failures[0]


@contextmanager
def open_core(settings: InferenceSettings) -> Iterator[Core]:
    """Start a core on the device of the settings, watched; close it at the end."""
    device = engines.device_of(settings)
    falls_back = settings.fallback == "cpu" and device.name != "cpu"
    core = Core(
        device,
        max_batch=engines.max_batch_of(settings, device),
        capacity=settings.queue_frames,
        clock=time.monotonic,
        deliver=lambda result: result.ticket.publish(result),
        fallback=_fallback(settings) if falls_back else None,
    )
    core.start()
    with watched(core, settings.deadline_s):
        try:
            yield core
        finally:
            core.close()


def _fallback(settings: InferenceSettings) -> Device:
    """Return the fallback device, prepared in advance: compiling it when needed would delay every worker."""
    winograd.warm_up()
    return choose_device("cpu", threads=settings.threads)


@contextmanager
def frozen_memory() -> Iterator[None]:
    """Exclude the objects that exist now from garbage collection: they stay, and scanning them takes time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()  # else libraries that check for leaks, as some of PyTorch's do, report leaks


@contextmanager
def _swapping(swaps: Sequence[HotSwap]) -> Iterator[None]:
    for swap in swaps:
        swap.start()
    try:
        yield
    finally:
        for swap in swaps:
            swap.close()


def _registry() -> CollectorRegistry:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series beside each counter and histogram that nobody asks for
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return registry


@contextmanager
def _listening(settings: HttpSettings, registry: CollectorRegistry, health: http.Health) -> Iterator[None]:
    server = http.serve(settings.host, settings.port, registry, health)
    host, port = server.server_address[:2]
    log.info("listening on http://%s:%d", http.shown(str(host)), port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
