"""The guard, run as the broker runs it: by path, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.host import guard

SLEEPER = ["sh", "-c", "echo $$; exec sleep 300"]
STUBBORN_SLEEPER = ["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"]


def _guarded(command: list[str], grace_s: float = 20.0) -> list[str]:
    return [sys.executable, "-I", "-S", guard.__file__, str(grace_s), *command]


@contextmanager
def _running(command: list[str], grace_s: float = 20.0) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a guarded command that prints its pid; yield the guard and that pid."""
    with subprocess.Popen(_guarded(command, grace_s), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guard:
        assert guard.stdout is not None
        yield guard, int(guard.stdout.readline())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_command_ends_when_standard_input_closes() -> None:
    with _running(SLEEPER) as (guard, pid):
        assert guard.stdin is not None
        guard.stdin.close()
        assert guard.wait(20) == 128 + signal.SIGTERM
        assert not _is_alive(pid)


def test_a_command_that_will_not_end_is_killed_after_the_grace() -> None:
    with _running(STUBBORN_SLEEPER, grace_s=0.2) as (guard, pid):
        assert guard.stdin is not None
        guard.stdin.close()
        assert guard.wait(20) == 128 + signal.SIGKILL
        assert not _is_alive(pid)


def test_a_signal_to_the_guard_ends_the_command_too() -> None:
    with _running(SLEEPER) as (guard, pid):
        guard.send_signal(signal.SIGTERM)
        assert guard.wait(20) == 128 + signal.SIGTERM
        assert not _is_alive(pid)


def test_the_status_of_the_command_is_the_guards() -> None:
    with _running(["sh", "-c", "echo $$; exit 7"]) as (guard, _):
        assert guard.wait(20) == 7


def test_the_command_ends_when_the_guards_parent_is_killed() -> None:
    parent_code = f"import subprocess; subprocess.Popen({_guarded(SLEEPER)!r}, stdin=subprocess.PIPE).wait()"
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        # The pipe closes for us when the last of the guard and its command has gone.
        assert parent.stdout.read() == b""
    deadline = time.monotonic() + 20
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(pid)
