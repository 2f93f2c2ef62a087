"""Apache Kafka as its container starts it: the image's own program, from the same jars, turns variables to settings."""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from service.broker.artifacts import ensure_jars
from service.broker.java import find_java

DEADLINE_S = 60


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def on_this_machine(environment: Mapping[str, str], folder: Path) -> tuple[dict[str, str], int]:
    """Put a container's addresses and data here, on free ports; return the variables, and the port for clients."""
    inside, outside, controller = free_ports(3)
    advertised = f"PLAINTEXT://127.0.0.1:{inside},HOST://127.0.0.1:{outside}"
    here = {
        "KAFKA_LISTENERS": f"{advertised},CONTROLLER://127.0.0.1:{controller}",
        "KAFKA_ADVERTISED_LISTENERS": advertised,
        "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@127.0.0.1:{controller}",
        "KAFKA_LOG_DIRS": str(folder / "data"),
    }
    assert here.keys() <= environment.keys()
    return {**environment, **here}, inside


def set_up(environment: Mapping[str, str], folder: Path) -> Path:
    """Run what the image runs first: write the settings, and format the data's folder. Return the settings' file."""
    for name in ("default", "mounted", "final", "data"):
        (folder / name).mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (folder / "default" / name).touch()
    folders = [
        word for name in ("default", "mounted", "final") for word in (f"--{name}-configs-dir", str(folder / name))
    ]
    done = subprocess.run(
        [*_java(), "kafka.docker.KafkaDockerWrapper", "setup", *folders],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return folder / "final/server.properties"


@contextmanager
def running(settings: Path, log: Path) -> Iterator[None]:
    """Run Kafka with the settings of a file."""
    with log.open("wb") as output:
        process = subprocess.Popen([*_java(), "kafka.Kafka", str(settings)], stdout=output, stderr=output)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _java() -> list[str]:
    return [str(find_java()), "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", os.pathsep.join(map(str, ensure_jars()))]
