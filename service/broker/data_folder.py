"""The data folder of a broker: its lock, its format, its cluster id.

It holds `broker.json` (the Kafka version that formatted it, and its cluster id), `kafka/` (the logs),
`server.properties` (written at each start), `broker.log` and `broker.log.1` (of this start and the last), `format.log`,
and `lock` (held while a broker runs).
"""

import base64
import fcntl
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.broker.artifacts import KAFKA_VERSION
from service.broker.errors import BrokerDied, BrokerStopped, DataDirInUse, DataDirUnusable
from service.broker.java import java_environment
from service.host.user_folders import data_folder

FORMAT_TIMEOUT_S = 60.0


def default_data_dir() -> Path:
    """Return `$XDG_DATA_HOME/stridecast/kafka`, with `~/.local/share` if the variable is not set.

    Raises DataDirUnusable for a user without a home.
    """
    data = data_folder()
    if data is None:
        raise DataDirUnusable("this user has no home folder for topics: name a folder by --data-dir or XDG_DATA_HOME")
    return data / "kafka"


@contextmanager
def locked(data_dir: Path) -> Iterator[int]:
    """Create the folder if needed, lock it, and yield the lock's descriptor; the lock lasts while any copy is open."""
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


def cluster_id_of(data_dir: Path) -> str:
    """Return the folder's cluster id; in an empty folder, create and store one.

    Raises DataDirUnusable for a folder that is not empty and not ours, or was formatted by another Kafka.
    """
    note = data_dir / "broker.json"
    if not note.exists():
        if foreign := sorted({path.name for path in data_dir.iterdir()} - {"lock"}):
            raise DataDirUnusable(
                f"{data_dir} is no broker's data folder and not empty ({foreign[0]}): choose another folder"
            )
        # Kafka's own form of an id; one that begins with a dash would be taken for an option.
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


def format_folder(java_command: list[str], properties: Path, cluster_id: str, data_dir: Path) -> None:
    """Format the data folder unless it is formatted; finish an interrupted format."""
    if (data_dir / "kafka" / "meta.properties").exists():
        return
    # With less compilation and the serial collector, the tool takes 1 s instead of 1.5 s.
    flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
    tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster_id, "-c", str(properties)]
    log = data_dir / "format.log"
    try:
        with log.open("wb") as output:
            subprocess.run(
                [*java_command, *flags, *tool],
                cwd=data_dir,
                env=java_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=FORMAT_TIMEOUT_S,
                check=True,
            )
    except subprocess.SubprocessError as error:
        # A signal to our process group ends the tool too: by the signal, or with Java's exit status for it.
        if isinstance(error, subprocess.CalledProcessError) and (error.returncode < 0 or error.returncode > 128):
            raise BrokerStopped(f"stopped while Kafka's data folder {data_dir} was formatted") from None
        raise BrokerDied(f"Kafka could not format the data folder {data_dir}: {last_log_line(log)}") from None


def last_log_line(log: Path) -> str:
    """Return the log line that best explains why its writer ended: the last exception, else error, else line."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - (1 << 16)))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    for telling in (r"(Caused by: )?([a-z]\w*\.)+\w+(Exception|Error)\b", r".*\b(ERROR|FATAL)\b", ""):
        for line in reversed(lines):
            if re.match(telling, line):
                return f"{line[:300]} (see {log})"
    return f"it said nothing (see {log})"
