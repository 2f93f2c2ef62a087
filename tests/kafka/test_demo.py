"""`stridecast demo` as a person would run it, without a terminal."""

import os
import re
import signal
import subprocess
import sys

from service.broker.node import Broker
from tests.kafka.worker_process import clean_environment


def processes_naming(text: str) -> set[str]:
    listing = subprocess.run(["ps", "-ewwo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return {line for line in listing.splitlines() if text in line and "ps -ewwo" not in line}


def test_the_demo_labels_synthetic_devices_ends_by_itself_and_leaves_nothing_running(broker: Broker) -> None:
    before = processes_naming("stridecast-demo-")
    ended = subprocess.run(
        [sys.executable, "-m", "service", "demo", "--seconds", "9", "--devices", "10"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=clean_environment(),
    )
    assert ended.returncode == 0, ended.stderr
    labels = re.search(r"(\d+) labels arrived; (\d+)% of the (\d+) with a steady truth were right", ended.stdout)
    assert labels
    assert int(labels[1]) >= 10
    assert "messages/s" in ended.stdout
    assert processes_naming("stridecast-demo-") == before


def test_a_demo_too_short_for_a_label_says_so_and_fails(broker: Broker) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "service", "demo", "--seconds", "0.5", "--devices", "1"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=clean_environment(),
    )
    assert ended.returncode == 1
    assert "no label arrived" in ended.stderr


def test_a_worker_killed_in_mid_demo_is_told_in_one_sentence(broker: Broker) -> None:
    before = processes_naming("stridecast-demo-")
    with subprocess.Popen(
        [sys.executable, "-m", "service", "demo", "--devices", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean_environment(), "PYTHONUNBUFFERED": "1"},
    ) as demo:
        assert demo.stdout is not None
        port = next(match[1] for line in demo.stdout if (match := re.search(r"live view is at .*:(\d+)/", line)))
        workers = processes_naming(f"--http.port {port}")
        # Beside the worker there is its guard, with the same words in its command.
        (worker,) = (line for line in workers if "guard.py" not in line)
        os.kill(int(worker.split()[0]), signal.SIGKILL)
        _, complaint = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert re.fullmatch(r"stridecast demo: the worker ended \(SIGKILL\); its log ends with: .*\n", complaint)
    assert processes_naming("stridecast-demo-") == before
