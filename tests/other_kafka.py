"""Other versions of Apache Kafka than the one that ships, for `make test-broker KAFKA=3.9.1`.

`kafka/versions` lists the jars of each version that has been tested, as `service/broker` lists those of its own. To add
one: `python -m tests.other_kafka 3.8.1`, which resolves its dependencies and writes the list.
"""

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.broker import artifacts, data_folder, node
from service.broker.java import java_environment
from service.broker.ports import accepts_connections, free_port
from service.broker.properties import HOST
from service.host.guarded import start_guarded, stop_guarded
from service.kafka_admin.topics import TopicError, admin_client, count_brokers

LISTS = Path(__file__).parent / "kafka" / "versions"
WITHOUT_ZOOKEEPER = (3, 3)
"""The first version whose KRaft is meant for production; before, it lacks ACLs, and at first transactions."""
GRACE_S = 5.0

# What only KRaft has, and what it calls otherwise.
_ONLY_KRAFT = ("process.roles", "node.id", "controller.", "broker.session.", "broker.heartbeat.")
_AUTHORIZERS = {
    "org.apache.kafka.metadata.authorizer.StandardAuthorizer": "kafka.security.authorizer.AclAuthorizer",
}


def number_of(version: str) -> tuple[int, ...]:
    """Return a version's number in a form that can be compared."""
    return tuple(map(int, version.split(".")))


def list_of(version: str) -> Path:
    """Return the path of a version's list of jars."""
    return LISTS / f"kafka-{version}.lock"


def is_before(*number: int) -> bool:
    """Return whether the brokers of these tests are of a version before this one."""
    return number_of(artifacts.KAFKA_VERSION) < number


def with_zookeeper() -> bool:
    """Return whether they keep their metadata in ZooKeeper."""
    return is_before(*WITHOUT_ZOOKEEPER)


def use_kafka(version: str) -> None:
    """Have every broker that this process starts be of another version: the program has no setting for that."""
    if version == artifacts.KAFKA_VERSION:
        return
    if not list_of(version).exists():
        raise SystemExit(f"no list of the jars of Kafka {version}: run python -m tests.other_kafka {version}")
    here = pytest.MonkeyPatch()
    for module in (artifacts, data_folder):
        here.setattr(module, "KAFKA_VERSION", version)  # names the cache, and is noted in data folders
    here.setattr(node, "ensure_jars", functools.partial(artifacts.ensure_jars, lock=list_of(version)))
    if with_zookeeper():
        here.setattr(node, "format_folder", _prepare_zookeeper)
        here.setattr(node, "_answers", _answers)


def _prepare_zookeeper(java_command: Sequence[str], properties: Path, cluster_id: str, _: Path) -> None:
    """Rewrite a broker's settings for ZooKeeper, in which each cluster has a place of its own."""
    settings = dict(line.split("=", 1) for line in properties.read_text().splitlines())
    settings = {name: value for name, value in settings.items() if not name.startswith(_ONLY_KRAFT)}
    for name in ("listeners", "listener.security.protocol.map"):
        parts = settings.get(name, "").split(",")
        settings[name] = ",".join(part for part in parts if not part.startswith("CONTROLLER:"))
    settings = {name: _AUTHORIZERS.get(value, value) for name, value in settings.items() if value}
    settings |= {
        "broker.id": "1",
        "zookeeper.connect": f"{HOST}:{_zookeeper(tuple(java_command))}/{cluster_id}",
        # One that was killed can't come back before.
        "zookeeper.session.timeout.ms": "2000",
    }
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def _answers(port: int, _cluster_id: str) -> bool:
    """Return whether a client gets the cluster's metadata, of whatever id: with ZooKeeper, Kafka makes one up."""
    try:
        with admin_client(f"{HOST}:{port}", timeout_s=5) as admin:
            return count_brokers(admin)[1] > 0
    except TopicError:
        return False


@functools.cache
def _zookeeper(java_command: Sequence[str]) -> int:
    """Start a ZooKeeper that ends with this process; return its port."""
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="zookeeper-"))
    settings = {"clientPort": port, "clientPortAddress": HOST, "dataDir": folder, "tickTime": 500}
    settings |= {"admin.enableServer": "false"}
    config = folder / "zoo.cfg"
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    with (folder / "zookeeper.log").open("wb") as log:
        zookeeper = start_guarded(
            [*java_command, "-Xmx128m", "org.apache.zookeeper.server.ZooKeeperServerMain", str(config)],
            GRACE_S,
            env=java_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(stop_guarded, zookeeper, GRACE_S)  # before that
    deadline = time.monotonic() + node.START_TIMEOUT_S
    while not accepts_connections(port):
        assert time.monotonic() < deadline, data_folder.last_log_line(folder / "zookeeper.log")
        time.sleep(0.1)
    assert zookeeper.poll() is None, data_folder.last_log_line(folder / "zookeeper.log")  # the port is another's
    return port


if __name__ == "__main__":
    artifacts.write_lock(sys.argv[1], list_of(sys.argv[1]))
