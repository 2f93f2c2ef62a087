"""Workers under load, and a Prometheus that scrapes them with the deployment's own rules."""

import json
import math
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from service.broker.ports import free_port
from tests.deploy.tools import ROOT, tool
from tests.kafka.outside_client import producer
from tests.kafka.worker_process import clean_environment

SETTINGS = ROOT / "deploy/prometheus/prometheus.yaml"
TEXTS = ROOT / "deploy/replay/texts.txt"
ANSWERS_WITHIN_S = 120
LOOKED_AT_S = 30
"""What a panel of lines is asked to show; each second of it is scraped."""
MESS_EACH_S = 0.5
LATE_BY_MS = 60_000

Series = list[tuple[dict[str, str], list[float]]]
"""Labels and values of each series: one of now, or those over time."""


class Prometheus:
    """Prometheus' API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode({name.rstrip("_"): value for name, value in parameters.items()})
        with urllib.request.urlopen(f"{self._url}{path}?{query}", timeout=10) as response:
            return json.load(response)["data"]

    def now(self, expression: str) -> Series:
        """What a query answers now, as a panel of numbers and the rules ask it."""
        return self._series("vector", "/api/v1/query", query=expression)

    def lately(self, expression: str) -> Series:
        """What a query answers for each of the last seconds, as a panel of lines asks it."""
        end = time.time()
        start = end - LOOKED_AT_S
        return self._series(
            "matrix", "/api/v1/query_range", query=expression, start=f"{start:.3f}", end=f"{end:.3f}", step="1"
        )

    def _series(self, kind: str, path: str, **parameters: str) -> Series:
        found = self.get(path, **parameters)
        assert found["resultType"] == kind, f"{parameters['query']} is a {found['resultType']}"
        points = [(series["metric"], series.get("values") or [series["value"]]) for series in found["result"]]
        return [(labels, [float(value) for _, value in values]) for labels, values in points]

    def numbers(self, expression: str, good: Callable[[Series], bool] = bool, *, over_time: bool = False) -> Series:
        """What a query answers as soon as each series is a number, and all is good; fails where no such answer comes.

        Over time, most points of each series have to be numbers; the others are left out.
        """
        ask, least = (self.lately, LOOKED_AT_S // 2 + 1) if over_time else (self.now, 1)
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            answered = ask(expression)
            found = [(labels, [value for value in values if math.isfinite(value)]) for labels, values in answered]
            if found and all(len(values) >= least for _, values in found) and good(found):
                return found
            assert time.monotonic() < deadline, f"{expression}\nanswers {answered}"
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


def settings_for(ports: Mapping[str, int], labels: Mapping[str, str]) -> dict[str, Any]:
    """The deployment's settings, but each second, and with each kind's worker at a port of this machine.

    ``labels`` are what a cluster's Prometheus adds to all that it scrapes. Each worker is scraped without them, too, as
    if it were of a second installation, outside a cluster.
    """
    settings: dict[str, Any] = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    settings["global"] = dict.fromkeys(settings["global"], "1s")
    settings["rule_files"] = [str(SETTINGS.parent / name) for name in settings["rule_files"]]
    jobs = {job["job_name"]: job for job in settings["scrape_configs"]}
    assert jobs.keys() == {f"stridecast-{kind}" for kind in ports}
    for kind, port in ports.items():
        job = jobs[f"stridecast-{kind}"]
        del job["dns_sd_configs"]
        targets = [f"127.0.0.1:{port}"]
        job["static_configs"] = [{"targets": targets, "labels": dict(labels)}, {"targets": targets}]
    return settings


@contextmanager
def running_prometheus(folder: Path, settings: Mapping[str, Any]) -> Iterator[Prometheus]:
    program, port, log = tool("prometheus"), free_port(), folder / "prometheus.log"
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
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
def load(bootstrap_servers: str, folder: Path) -> Iterator[None]:
    """Send synthetic people and texts, and beside them what can't be read, and readings that come a minute late."""
    sent = {"people": ["--devices", "20"], "texts": ["--texts", str(TEXTS), "--repeat"]}
    command = [sys.executable, "-m", "service", "replay", "--kafka.bootstrap-servers", bootstrap_servers]
    senders = []
    for name, flags in sent.items():
        with (folder / f"{name}.log").open("wb") as output:
            senders.append(subprocess.Popen([*command, *flags], stdout=output, stderr=output, env=clean_environment()))
    stop = threading.Event()
    mess = threading.Thread(target=_make_a_mess, args=(bootstrap_servers, stop))
    mess.start()
    try:
        yield
    finally:
        stop.set()
        mess.join(30)
        for sender in senders:
            sender.kill()
            sender.wait()


def _make_a_mess(bootstrap_servers: str, stop: threading.Event) -> None:
    client = producer(bootstrap_servers)
    while not stop.wait(MESS_EACH_S):
        now_ms = time.time_ns() // 1_000_000
        for timestamp in (now_ms, now_ms - LATE_BY_MS):
            reading = {"device_id": "late", "timestamp": timestamp, "x": 0.0, "y": 9.8, "z": 0.0}
            client.produce("accelerometer", key=b"late", value=json.dumps(reading).encode())
        for topic in ("accelerometer", "texts"):
            client.produce(topic, key=b"broken", value=b"{")
        client.poll(0)
    client.flush(10)
