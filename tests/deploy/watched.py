"""A worker under load, and a Prometheus that scrapes it with the deployment's own rules."""

import json
import math
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tools import ROOT, tool
from tests.kafka.outside_client import producer
from tests.kafka.worker_process import clean_environment, free_port

SETTINGS = ROOT / "deploy/prometheus/prometheus.yaml"
ANSWERS_WITHIN_S = 60
MESS_EACH_S = 0.5
LATE_BY_MS = 60_000

Vector = list[tuple[dict[str, str], float]]
"""Labels and value of each series."""


class Prometheus:
    """Prometheus' API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode({name.rstrip("_"): value for name, value in parameters.items()})
        with urllib.request.urlopen(f"{self._url}{path}?{query}", timeout=10) as response:
            return json.load(response)["data"]

    def vector(self, expression: str) -> Vector:
        """What a query answers now."""
        found = self.get("/api/v1/query", query=expression)
        assert found["resultType"] == "vector", f"{expression} is a {found['resultType']}"
        return [(series["metric"], float(series["value"][1])) for series in found["result"]]

    def numbers(self, expression: str, *, above_zero: bool = False) -> Vector:
        """What a query answers as soon as it is all numbers (and not all 0); fails where no such answer comes."""
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            found = self.vector(expression)
            good = bool(found) and all(math.isfinite(value) for _, value in found)
            if good and (not above_zero or any(value > 0 for _, value in found)):
                return found
            assert time.monotonic() < deadline, f"{expression}\nanswers {found}"
            time.sleep(0.5)

    def wait_until_up(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            try:
                with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5):
                    return
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)


def settings_for(worker_port: int) -> dict[str, Any]:
    """The deployment's settings, but each second, and with the activity workers at an address of their own."""
    settings: dict[str, Any] = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    settings["global"] = dict.fromkeys(settings["global"], "1s")
    settings["rule_files"] = [str(SETTINGS.parent / name) for name in settings["rule_files"]]
    (activity,) = [job for job in settings["scrape_configs"] if job["job_name"] == "stridecast-activity"]
    del activity["dns_sd_configs"]
    activity["static_configs"] = [{"targets": [f"127.0.0.1:{worker_port}"]}]
    settings["scrape_configs"] = [activity]
    return settings


@contextmanager
def running_prometheus(folder: Path, worker_port: int) -> Iterator[Prometheus]:
    program, port, log = tool("prometheus"), free_port(), folder / "prometheus.log"
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings_for(worker_port)))
    command = [str(program), f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=output, stderr=output, env=clean_environment()
        )
    try:
        prometheus = Prometheus(port)
        prometheus.wait_until_up(process, log)
        yield prometheus
    finally:
        process.kill()
        process.wait()


@contextmanager
def load(bootstrap_servers: str, topic: str, log: Path) -> Iterator[None]:
    """Send synthetic people, and beside them what can't be read, and readings that come a minute late."""
    command = [sys.executable, "-m", "service", "replay", "--kafka.bootstrap-servers", bootstrap_servers]
    with log.open("wb") as output:
        people = subprocess.Popen(
            [*command, "--activity.input-topic", topic, "--devices", "20"],
            stdout=output,
            stderr=output,
            env=clean_environment(),
        )
    stop = threading.Event()
    mess = threading.Thread(target=_make_a_mess, args=(bootstrap_servers, topic, stop))
    mess.start()
    try:
        yield
    finally:
        stop.set()
        mess.join(30)
        people.kill()
        people.wait()


def _make_a_mess(bootstrap_servers: str, topic: str, stop: threading.Event) -> None:
    client = producer(bootstrap_servers)
    while not stop.wait(MESS_EACH_S):
        now_ms = time.time_ns() // 1_000_000
        for timestamp in (now_ms, now_ms - LATE_BY_MS):
            reading = {"device_id": "late", "timestamp": timestamp, "x": 0.0, "y": 9.8, "z": 0.0}
            client.produce(topic, key=b"late", value=json.dumps(reading).encode())
        client.produce(topic, key=b"broken", value=b"{")
        client.poll(0)
    client.flush(10)
