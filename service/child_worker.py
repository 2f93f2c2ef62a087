"""A worker in a child process, under a guard that ends it when this process dies, however it dies.

ChildWorkerError    the worker ended, or did not get ready; the text says what its log says last
"""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.broker.ports import free_port
from service.configuration.settings import ENVIRONMENT_PREFIX, NESTED, KafkaSettings, Settings
from service.configuration.settings_environment import environment
from service.host.guarded import start_guarded, stop_guarded

READY_WITHIN_S = 90.0
GRACE_S = 25.0
OF_ITS_OWN = ("kafka.bootstrap_", "kafka.security_", "kafka.ssl_", "kafka.sasl_", "http.")
"""Prefixes of settings that it doesn't inherit, because it has a broker and a port of its own."""


class ChildWorkerError(Exception):
    """The worker ended, or did not get ready."""


@dataclass(frozen=True, slots=True)
class ChildWorker:
    """The worker's process (its guard), the address of its HTTP port, and its log."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def check(self) -> None:
        """Raise ChildWorkerError if the worker has ended."""
        status = self.process.poll()
        if status is None:
            return
        # The guard exits with 128 + n for signal n.
        how = signal.Signals(status - 128).name if status > 128 else f"status {status}"
        raise ChildWorkerError(f"the worker ended ({how}); its log ends with: {self.last_words()}")

    def last_words(self) -> str:
        """Return the last line of the log above the level info, else the last line."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        telling = [line for line in lines if not re.match(r'\S+ \S+ INFO |\{.*"level": "info"', line)]
        return (telling or lines or ["it said nothing"])[-1][:300]


@contextmanager
def running_worker(
    settings: Settings, bootstrap_servers: str, log: Path, stop: threading.Event, *, grace_s: float = GRACE_S
) -> Iterator[ChildWorker]:
    """Start an activity worker and yield it when it is ready. Its broker must need no credentials (`service.broker`).

    In the end it is told to stop, and killed after `grace_s` seconds. Raises ChildWorkerError.
    """
    port = free_port()
    flags = ["--kafka.bootstrap-servers", bootstrap_servers, "--http.host", "127.0.0.1", "--http.port", str(port)]
    command = [sys.executable, "-m", "service", "worker", "activity", *flags]
    with log.open("wb") as output:
        # Ctrl-C is for this process, which ends the worker when it is done.
        process = start_guarded(command, grace_s, stdout=output, stderr=output, env=child_environment(settings))
    worker = ChildWorker(process, f"http://127.0.0.1:{port}", log)
    try:
        _wait_until_ready(worker, stop)
        yield worker
    finally:
        stop_guarded(process, grace_s)


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a worker with its own broker: these settings without those of the user's Kafka."""
    users = f"{ENVIRONMENT_PREFIX}KAFKA{NESTED}"
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(users)}
    kept = {name: value for name, value in settings.kafka if not name.startswith(("security_", "ssl_", "sasl_"))}
    return {**inherited, **environment(settings.model_copy(update={"kafka": KafkaSettings(**kept)}))}


def _wait_until_ready(worker: ChildWorker, stop: threading.Event) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        worker.check()
        try:
            with urllib.request.urlopen(f"{worker.url}/readyz", timeout=2):
                return
        except (OSError, http.client.HTTPException):
            if stop.wait(0.1):
                raise ChildWorkerError("stopped before the worker was ready") from None
    raise ChildWorkerError(f"the worker did not get ready in {READY_WITHIN_S:g} s: {worker.last_words()}")
