"""`stridecast bench` with a real broker and worker, as short as it can be, and interrupted."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from inference.bundle import Bundle
from service.broker.node import Broker
from tests.inference.bundles import constant_bundle
from tests.kafka.test_demo import processes_naming
from tests.kafka.worker_process import clean_environment


def command(bundle: Bundle) -> list[str]:
    flags = ["--seconds", "1", "--json", "--activity.bundle", str(bundle.folder)]
    return [sys.executable, "-m", "service", "bench", *flags]


def test_a_worker_beside_its_broker_is_measured_in_all_forms(broker: Broker, tmp_path: Path) -> None:
    """`broker` is there for its skipping, and has Kafka fetched."""
    before = processes_naming("stridecast-bench-")
    ended = subprocess.run(
        command(constant_bundle(tmp_path / "bundle", shape=(80, 3))),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=clean_environment(),
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["skipped"] == ""
    for form in ("sample", "chunk", "binary"):
        drained = found["whole"]["forms"][form]
        assert drained["samples"] >= 500 * 20 * 6
        assert drained["labels"] >= 500
        assert "kafka" in found["carried"][form]["cost_us"]
    assert found["whole"]["forms"]["sample"]["messages"] == found["whole"]["forms"]["sample"]["samples"]
    assert found["whole"]["worker_bytes"] > 50_000_000
    assert processes_naming("stridecast-bench-") == before


def test_ctrl_c_ends_it_and_leaves_neither_processes_nor_files(broker: Broker, tmp_path: Path) -> None:
    """Interrupted while a worker runs, and perhaps stands still: everything ends, and so does what it started."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    bench = subprocess.Popen(
        command(constant_bundle(tmp_path / "bundle", shape=(80, 3))),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean_environment(), "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert bench.stderr is not None
        assert any("draining sample messages" in line for line in bench.stderr)
        assert processes_naming(str(temporary))
        bench.send_signal(signal.SIGINT)
        bench.communicate(timeout=60)
    finally:
        bench.kill()
        bench.wait()
    assert bench.returncode == 130
    assert list(temporary.iterdir()) == []
    assert processes_naming(str(temporary)) == set()
