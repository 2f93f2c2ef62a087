"""Several workers in one process: how they run and end together."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from inference.core import Core
from inference.devices import Device, DeviceMemoryError
from inference.lanes import Trouble
from inference.models import Model
from ingest.record_batches.bodies import pack
from service import run as running
from service.configuration.settings import InferenceSettings, TextSettings
from service.kind import Kind
from service.monitoring.metrics import Families, WorkerMetrics
from service.run import open_core, report_trouble, run_together
from service.serving import engines
from tests.inference.bundles import constant_bundle
from tests.inference.fakes import FakeDevice


@dataclass
class FakeWorker:
    """Runs until it is stopped, or fails at once."""

    name: str
    error: Exception | None = None
    finished: bool = False
    threads: set[str] = field(default_factory=set)

    @property
    def kind(self) -> Kind:
        return Kind(self.name, TextSettings(), lambda *_: pytest.fail("it is never made ready"), lambda *_: pack([]))

    def run(self, stop: threading.Event) -> None:
        self.threads.add(threading.current_thread().name)
        if self.error is not None:
            raise self.error
        assert stop.wait(20)
        self.finished = True


def run(*workers: FakeWorker, stop: threading.Event) -> None:
    run_together(workers, stop)  # type: ignore[arg-type]


def test_each_worker_runs_in_a_thread_of_its_own_until_all_are_told_to_stop() -> None:
    stop = threading.Event()
    first, second = FakeWorker("activity"), FakeWorker("text")
    threading.Timer(0.05, stop.set).start()
    run(first, second, stop=stop)
    assert (first.finished, second.finished) == (True, True)
    assert (first.threads, second.threads) == ({"activity-worker"}, {"text-worker"})


def test_a_worker_that_fails_stops_the_others_and_its_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    healthy = FakeWorker("activity")
    with pytest.raises(LookupError, match="no topic"):
        run(healthy, FakeWorker("text", LookupError("no topic")), stop=threading.Event())
    assert healthy.finished
    assert caplog.messages == ["the text worker has failed, which stops the others: no topic"]


def test_an_error_after_the_stop_is_logged_as_well() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(LookupError):
        run(FakeWorker("activity"), FakeWorker("text", LookupError("too late")), stop=stop)


# -- the device's troubles


def test_troubles_are_counted_logged_and_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry, engine = CollectorRegistry(), Any
    metrics = WorkerMetrics(Families(registry), "text", topics=[], reasons=[], labels=[])
    model = Model(constant_bundle(tmp_path / "bundle"), "float32", engine, "cpu", 64)  # type: ignore[arg-type]

    def counted(outcome: str) -> float | None:
        labels = {"worker": "text", "outcome": outcome}
        return registry.get_sample_value("stridecast_inference_failures_total", labels)

    assert (counted("smaller"), counted("fallback")) == (0, 0)
    report_trouble(metrics, Trouble("smaller", DeviceMemoryError("no memory"), model, 32))
    report_trouble(metrics, Trouble("fallback", RuntimeError("it is lost"), model, 64))

    assert (counted("smaller"), counted("fallback")) == (1, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert caplog.messages == [
        "batches of at most 32 frames from now on: no memory",
        "constant@1 is served on the fallback cpu from now on, until a restart, for the device failed: it is lost",
    ]
    shown = {"worker": "text", "name": "constant", "version": "1", "device": "cpu", "precision": "float32"}
    assert registry.get_sample_value("stridecast_model_info", shown) == 1


@pytest.mark.parametrize(
    ("device", "fallback", "chosen"),
    [("cuda", "cpu", "cpu"), ("cuda", "none", None), ("cpu", "cpu", None), ("cpu", "none", None)],
)
def test_the_cpu_is_a_fallback_where_it_is_asked_for_and_is_not_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, fallback: Any, chosen: str | None
) -> None:
    given: list[Device | None] = []

    def make(device: Device, *, fallback: Device | None, **settings: Any) -> Core:
        given.append(fallback)
        return Core(device, fallback=fallback, **settings)

    for module in (engines, running):  # the device, and its fallback
        monkeypatch.setattr(module, "choose_device", lambda name, *_, **__: FakeDevice(name=name))
    monkeypatch.setattr(running, "Core", make)
    with open_core(InferenceSettings(device=device, fallback=fallback)):
        pass
    assert [each.name if each else None for each in given] == [chosen]
