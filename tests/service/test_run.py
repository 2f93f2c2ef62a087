"""Several workers in one process: how they run and end together."""

import threading
from dataclasses import dataclass, field

import pytest

from service.kind import Kind
from service.run import run_together
from service.settings import TextSettings


@dataclass
class FakeWorker:
    """Runs until it is stopped, or fails at once."""

    name: str
    error: Exception | None = None
    finished: bool = False
    threads: set[str] = field(default_factory=set)

    @property
    def kind(self) -> Kind:
        return Kind(self.name, TextSettings(), lambda *_: pytest.fail("it is never made ready"), lambda *_: [])

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


def test_a_worker_that_fails_stops_the_others_and_its_error_is_told(caplog: pytest.LogCaptureFixture) -> None:
    healthy = FakeWorker("activity")
    with pytest.raises(LookupError, match="no topic"):
        run(healthy, FakeWorker("text", LookupError("no topic")), stop=threading.Event())
    assert healthy.finished
    assert caplog.messages == ["the text worker has failed, which stops the others: no topic"]


def test_an_error_after_the_stop_is_told_as_well() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(LookupError):
        run(FakeWorker("activity"), FakeWorker("text", LookupError("too late")), stop=stop)
