"""The soak itself, for it is ended before it is done more often than not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.broker import FragileBroker
from tests.kafka.worker_process import clean_environment
from tests.test_rooms import ROOT

WITHIN_S = 120.0


def test_a_soak_that_is_told_to_end_leaves_no_process_behind(
    make_broker: Callable[..., FragileBroker], tmp_path: Path
) -> None:
    """Its workers went on for ever, and so did their attempts to reach a broker."""
    make_broker().stop()  # skips the test where there is no Kafka
    command = [sys.executable, "-m", "tests.chaos.soak", "--seconds", "60"]
    environment = {**clean_environment(), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as soak:
        try:
            _wait_until(lambda: any(_said(log) for log in tmp_path.glob("soak-*/activity-*.log")))
            assert any("--activity.bundle" in command for command in _commands_about(tmp_path))
            soak.send_signal(signal.SIGTERM)
            said, _ = soak.communicate(timeout=WITHIN_S)
        finally:
            soak.kill()
    assert soak.returncode == 1
    assert "ended before it was done" in said
    assert _commands_about(tmp_path) == []


def _said(log: Path) -> bool:
    return "worker started" in log.read_text()


def _wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _commands_about(folder: Path) -> list[str]:
    """Return the command lines of all processes that name a folder."""
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != os.getpid():
            try:
                commands.append((process / "cmdline").read_text(errors="replace").replace("\0", " "))
            except OSError:
                continue  # it has ended
    return [command for command in commands if str(folder) in command]
