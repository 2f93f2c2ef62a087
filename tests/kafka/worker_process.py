"""A worker as its users run it: a process, its HTTP port, and its end."""

import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.broker.ports import free_port

READY_WITHIN_S = 60
STOPPED_WITHIN_S = 30


class WorkerProcess:
    """`stridecast worker` with flags of its own; `kind` is `activity`, `text` or `all`, or another program's."""

    def __init__(self, log: Path, *flags: str, kind: str = "activity", program: str = "service") -> None:
        self.port = free_port()
        self.log = log
        command = [sys.executable, "-m", program, "worker", kind, "--http.port", str(self.port), *flags]
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=clean_environment())

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while self.get("/readyz")[0] != 200:
            assert self.process.poll() is None, f"the worker ended with {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < deadline, f"not ready in {READY_WITHIN_S} s:\n{self.said()}"
            time.sleep(0.05)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0, ""

    def metric(self, series: str, **labels: str) -> float:
        """Sum the series of a name whose labels include these."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == series:
                found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                if labels.items() <= found.items():
                    total += float(match[3])
        return total

    def wait_for(self, series: str, at_least: float = -math.inf, *, at_most: float = math.inf, **labels: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not at_least <= (value := self.metric(series, **labels)) <= at_most:
            assert time.monotonic() < deadline, f"{series} is {value}, not {at_least} to {at_most}:\n{self.said()}"
            time.sleep(0.02)

    def wait_to_say(self, words: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while words not in self.said():
            assert self.process.poll() is None, f"the worker ended with {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < deadline, f"it has not said {words!r}:\n{self.said()}"
            time.sleep(0.05)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Keep it from running, without its knowing; its group waits for it for a session's timeout."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOPPED_WITHIN_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        return self.log.read_text()


@contextmanager
def running_worker(log: Path, *flags: str, kind: str = "activity", program: str = "service") -> Iterator[WorkerProcess]:
    worker = WorkerProcess(log, *flags, kind=kind, program=program)
    try:
        worker.wait_until_ready()
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.kill()


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("STRIDECAST_")}
