"""A device that hangs, and a process that ends nevertheless."""

import subprocess
import sys
import textwrap
import threading

import pytest

from inference.bundle import Bundle
from inference.core import Core
from inference.lanes import CoreFailedError
from service.serving import device_watch
from service.serving.device_watch import HangDetector, Watchdog, watched
from tests.inference.bundles import constant_bundle
from tests.inference.fakes import PATIENCE_S, Clock, FakeDevice, Receiver, end, numbered
from tests.test_rooms import ROOT


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return constant_bundle(tmp_path_factory.mktemp("bundles") / "pairs")


def busy_core(pairs: Bundle) -> tuple[Core, FakeDevice]:
    """A core whose device holds a batch until the test lets it finish."""
    device = FakeDevice()
    core = Core(device, max_batch=4, clock=Clock(), deliver=Receiver())
    lane = core.open(pairs)
    core.start()
    device.hold()
    lane.submit(numbered(1), None)
    device.wait_until_busy()
    return core, device


# -- when a call hangs


def test_one_call_seen_for_the_whole_deadline_hangs() -> None:
    detector = HangDetector(1.0)
    assert detector.tick_s == 0.25
    assert [detector.hangs(7) for _ in range(6)] == [False, False, False, False, True, True]


def test_calls_that_come_back_do_not_hang_however_many_there_are() -> None:
    detector = HangDetector(1.0)
    assert not any(detector.hangs(call) for call in [1, 1, 1, 1, 2, 2, 2, None, 3, 3, 3, 3, 4])


def test_an_idle_device_does_not_hang() -> None:
    detector = HangDetector(1.0)
    assert not any(detector.hangs(None) for _ in range(100))


def test_a_short_deadline_is_looked_at_more_often() -> None:
    detector = HangDetector(0.1)
    assert detector.tick_s == pytest.approx(0.025)
    assert [detector.hangs(1) for _ in range(5)] == [False, False, False, False, True]


# -- what then happens


def test_a_device_that_hangs_fails_the_core_with_what_to_do(pairs: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    core, device = busy_core(pairs)
    watchdog = Watchdog(core, 0.05)
    watchdog.start()
    with pytest.raises(
        CoreFailedError, match=r"fake has not answered a batch within 0\.05 s \(inference\.deadline_s\)"
    ):
        core._lanes[0].drain(PATIENCE_S)
    watchdog.close()
    watchdog.join(PATIENCE_S)

    assert not watchdog.is_alive()
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    end(core, device)


def test_workers_that_do_not_end_after_it_are_not_waited_for_any_longer(
    pairs: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, statuses = threading.Event(), list[int]()

    def end_now(status: int) -> None:
        statuses.append(status)
        ended.set()

    monkeypatch.setattr(device_watch, "LAST_RESORT_S", 0.05)
    monkeypatch.setattr(device_watch, "end_now", end_now)
    core, device = busy_core(pairs)
    watchdog = Watchdog(core, 0.05)
    watchdog.start()

    assert ended.wait(PATIENCE_S)
    assert statuses == [1]
    watchdog.close()
    end(core, device)


def test_a_core_that_ended_cleanly_leaves_the_end_to_python(pairs: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atexit.register", lambda *_: pytest.fail("nothing is wrong"))
    device = FakeDevice()
    core = Core(device, clock=Clock(), deliver=Receiver())
    core.start()
    with watched(core, 30):
        core.close()


HANGS_AT_ITS_END = """
    import atexit, ctypes, sys, time

    def never_return():
        ctypes.CDLL(None).pause()

    atexit.register(never_return)  # as a driver may, whose device still runs

    from pathlib import Path
    from inference.bundle import load_bundle
    from inference.core import Core
    from service.serving.device_watch import watched
    from tests.inference.fakes import FakeDevice, numbered

    device = FakeDevice()
    core = Core(device, clock=time.monotonic, deliver=print)
    lane = core.open(load_bundle(Path(sys.argv[1])))
    core.start()
    with watched(core, 0.2):
        try:
            device.answer = lambda frames: never_return()
            lane.submit(numbered(1), None)
            lane.drain(20)
        finally:
            core.close()
"""


def test_a_process_ends_with_status_1_though_a_thread_is_stuck_in_native_code(pairs: Bundle) -> None:
    """It is `pause` that the core's thread is stuck in, and again whatever would clean up at the interpreter's end."""
    command = [sys.executable, "-c", textwrap.dedent(HANGS_AT_ITS_END), str(pairs.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "CoreFailedError: inference failed: the device fake has not answered a batch within 0.2 s" in done.stderr
    assert done.stdout == ""
