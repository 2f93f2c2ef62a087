"""Processes under `guard.py`, which ends them when this process dies, however it dies."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from service.host import guard

MARGIN_S = 5.0


def start_guarded(command: Sequence[str], grace_s: float, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command under a guard; a signal from a terminal, such as Ctrl-C, doesn't reach either.

    Arguments:
        command: the program and its arguments.
        grace_s: seconds that it may take to end after SIGTERM, which the guard sends it.
        options: as for `subprocess.Popen`.

    """
    guarded = [sys.executable, "-I", "-S", guard.__file__, f"{grace_s:g}", *command]
    return subprocess.Popen(guarded, stdin=subprocess.PIPE, start_new_session=True, **options)


def stop_guarded(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Have the guard end its process; kill both if that takes much longer than the grace."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(grace_s + MARGIN_S)
    except subprocess.TimeoutExpired:
        # The guard leads a session of its own, in which there is nothing but it and what it guards.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
