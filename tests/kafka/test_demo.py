"""`stridecast demo` as a person would run it, without a terminal."""

import re
import subprocess
import sys

from service.broker import Broker
from tests.kafka.worker_process import clean_environment


def processes_naming(text: str) -> set[str]:
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return {line for line in listing.splitlines() if text in line and "ps -eo" not in line}


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
