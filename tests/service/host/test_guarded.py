"""Processes under a guard, and a guard that does not do its work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.host import guarded
from service.host.guarded import start_guarded, stop_guarded

WAITING = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]


def started(output: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """Start a process that waits; return its id, and its guard."""
    with output.open("wb") as file:
        guard = start_guarded(WAITING, 5, stdout=file)
    while not output.read_text().endswith("\n"):
        time.sleep(0.01)
    return int(output.read_text()), guard


def test_what_is_guarded_ends_when_its_guard_is_told_to(tmp_path: Path) -> None:
    child, guard = started(tmp_path / "output")
    stop_guarded(guard, 5)
    assert guard.poll() == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(),
    reason="whether a process has ended is read in /proc, which this system (macOS, say) lacks",
)
def test_a_guard_that_stands_still_is_killed_with_what_it_guards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's guard was waited for, and what went wrong then hid what had gone wrong before."""
    monkeypatch.setattr(guarded, "MARGIN_S", 0.1)
    child, guard = started(tmp_path / "output")
    os.kill(guard.pid, signal.SIGSTOP)
    stop_guarded(guard, 0.1)
    assert guard.poll() == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while not _has_ended(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _has_ended(child)


def _has_ended(process: int) -> bool:
    """Whether a process is gone, or waits for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
