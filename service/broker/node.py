"""One Kafka node: starting it, waiting until clients can connect, stopping it.

with Broker(data_dir) as broker:
    print(broker.bootstrap_servers)
"""

import os
import re
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from service.broker.artifacts import ensure_jars
from service.broker.data_folder import cluster_id_of, format_folder, last_log_line, locked
from service.broker.errors import BrokerDied, BrokerStopped, PortInUse
from service.broker.java import find_java, java_environment
from service.broker.ports import accepts_connections, free_port, refuse_taken_port
from service.broker.properties import HOST, server_properties
from service.host.guarded import start_guarded, stop_guarded
from service.kafka_admin.topics import TopicError, admin_client, describe_cluster

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 20.0
PORT_ATTEMPTS = 3
"""Another program may take a free port before Kafka binds it; then another port is tried."""


class _PortLost(Exception):
    """Another program took a port between our check and Kafka's bind."""


class Broker:
    """One Apache Kafka node and its data folder. A context manager: entered when clients can connect.

    Arguments:
        data_dir: folder for its data, created if missing; the same folder keeps its topics from start to start.
        port: port to listen on at 127.0.0.1; 0 takes a free one, and the same again if started again.
        heap: the JVM's largest heap, as in `-Xmx`, e.g. "512m".
        java: the `java` to run on; None finds one (see `find_java`).
        cache: folder of the cached jars; None is `artifacts.default_cache()`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        heap: str = "512m",
        java: Path | None = None,
        cache: Path | None = None,
    ) -> None:
        if not re.fullmatch(r"[1-9]\d*[kKmMgG]", heap):
            raise ValueError(f"heap must be a number with k, m or g, such as 512m, not {heap!r}")
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be 0 to 65535, not {port}")
        self.data_dir = data_dir.absolute()
        self.port = port
        self._heap = heap
        self._java = java
        self._cache = cache
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, `127.0.0.1:port`."""
        return f"{HOST}:{self.port}"

    @property
    def log_file(self) -> Path:
        """The log file of this start's Kafka."""
        return self.data_dir / "broker.log"

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, timeout_s: float = START_TIMEOUT_S, stop: threading.Event | None = None) -> Self:
        """Fetch missing jars, format a new data folder, start Kafka; return when clients can connect.

        Raises BrokerError, BrokerStopped once `stop` is set, or ArtifactError; then nothing is left running.
        """
        if self._process is not None:
            raise RuntimeError("the broker is running already")
        java = self._java or find_java()
        jars = ensure_jars(self._cache)
        java_command = [str(java), "-cp", os.pathsep.join(map(str, jars))]
        with locked(self.data_dir) as lock:
            cluster_id = cluster_id_of(self.data_dir)
            for _ in range(PORT_ATTEMPTS):
                port = self.port or free_port()
                refuse_taken_port(port)
                with suppress(_PortLost):
                    self._start_on(port, java_command, cluster_id, lock, timeout_s, stop or threading.Event())
                    self.port = port
                    return self
        raise PortInUse(f"no port stayed free until Kafka came to bind it, in {PORT_ATTEMPTS} attempts: try again")

    def stop(self) -> None:
        """Stop Kafka, and kill it if that takes too long. Does nothing if it does not run."""
        if self._process is None:
            return
        process, self._process = self._process, None
        stop_guarded(process, STOP_GRACE_S)

    def wait(self) -> NoReturn:
        """Wait until Kafka ends by itself, which it never should.

        Raises BrokerDied when it does.
        """
        if self._process is None:
            raise RuntimeError("the broker is not running")
        self._process.wait()
        self.check()
        raise AssertionError("a process that was waited for has ended")

    def check(self) -> None:
        """Raise BrokerDied if Kafka was started and has ended by itself."""
        status = None if self._process is None else self._process.poll()
        if status is not None:
            raise BrokerDied(f"Kafka ended by itself with status {status}: {last_log_line(self.log_file)}")

    def _start_on(
        self,
        port: int,
        java_command: list[str],
        cluster_id: str,
        lock: int,
        timeout_s: float,
        stop: threading.Event,
    ) -> None:
        properties = self._write_properties(port)
        format_folder(java_command, properties, cluster_id, self.data_dir)
        with suppress(FileNotFoundError):
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        command = [*java_command, *self._jvm_flags(), "kafka.Kafka", str(properties)]
        with self.log_file.open("wb") as log:
            # Ctrl-C in a terminal doesn't reach it: the broker must outlive its clients.
            self._process = start_guarded(
                command,
                STOP_GRACE_S,
                cwd=self.data_dir,
                env=java_environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                # The guard holds the lock from here on, for exactly as long as Kafka can be running.
                pass_fds=[lock],
            )
        try:
            self._await_clients(port, cluster_id, timeout_s, stop)
        except BaseException:
            self.stop()
            raise

    def _write_properties(self, port: int) -> Path:
        path = self.data_dir / "server.properties"
        settings = server_properties(port, free_port())
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return path

    def _jvm_flags(self) -> list[str]:
        log = "-Dorg.slf4j.simpleLogger."
        return [
            f"-Xmx{self._heap}",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",  # keeps the JVM from writing to /tmp
            f"{log}showDateTime=true",
            f"{log}dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
            # Else each start logs two thousand lines of default settings, which hide the rest.
            f"{log}log.org.apache.kafka.common.config=warn",
        ]

    def _await_clients(self, port: int, cluster_id: str, timeout_s: float, stop: threading.Event) -> None:
        """Return when our Kafka answers a client on the port."""
        assert self._process is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                words = last_log_line(self.log_file)
                if "Address already in use" in words:
                    raise _PortLost
                raise BrokerDied(f"Kafka ended while it started: {words}")
            if accepts_connections(port) and _answers(port, cluster_id):
                return
            if stop.wait(0.05):
                raise BrokerStopped("stopped while Kafka started")
        raise BrokerDied(f"Kafka did not answer within {timeout_s:g} s: {last_log_line(self.log_file)}")


def _answers(port: int, cluster_id: str) -> bool:
    """Return whether a client gets the cluster's metadata, with a broker in it."""
    try:
        with admin_client(f"{HOST}:{port}", timeout_s=5) as admin:
            cluster = describe_cluster(admin)
    except TopicError:
        return False
    if cluster["cluster_id"] != cluster_id:
        raise _PortLost
    return any(not broker.get("is_fenced") for broker in cluster["brokers"])
