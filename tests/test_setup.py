"""What `make setup` installs on which system, by the Makefile's own recipe with programs that pretend."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_rooms import ROOT

# Keeps what it is told to install.
INSTALLER = """#!/bin/sh
echo "$@" >> installed
for word; do case $word in *.txt) cp "$word" wanted;; esac; done
"""

SILENT = "#!/bin/sh\nexit 0\n"


def python_of(system: str, machine: str, version: tuple[int, int]) -> str:
    """Return a program that runs what is behind its -c as that Python would, as far as set-up asks."""
    return f"""#!/bin/sh
exec {sys.executable} -c 'import platform, sys
sys.platform, platform.machine, sys.version_info = "{system}", lambda: "{machine}", {version}
exec(sys.argv[1])' "$2"
"""


def made(
    folder: Path, target: str, *variables: str, python: str = SILENT, **answers: str
) -> subprocess.CompletedProcess[str]:
    """Run make in a copy, where each program of `answers` prints its text, or without arguments the first word."""
    for name in ("Makefile", "constraints.txt", "pyproject.toml", "requirements-uv.txt"):
        shutil.copy(ROOT / name, folder)
    programs = folder / "programs"
    programs.mkdir()
    (folder / ".venv").mkdir()
    texts = {
        name: f"#!/bin/sh\ncase $# in 0) echo {text.partition(' ')[0]};; *) echo {text};; esac\n"
        for name, text in answers.items()
    }
    for name, text in {"uv": INSTALLER, "python": python, **texts}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return subprocess.run(
        ["make", target, "UV=programs/uv", "BIN=programs", "PYTHON=programs/python", *variables],
        cwd=folder,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def packages(folder: Path) -> set[str]:
    return {line.split("==")[0] for line in (folder / "wanted").read_text().splitlines() if "==" in line}


@pytest.mark.parametrize(
    ("system", "libc", "has_openvino", "size"),
    [
        ("Linux x86_64", "glibc 2.28", True, "3.1 GB"),
        ("Linux aarch64", "glibc 2.34", False, "3.1 GB"),
        ("Linux aarch64", "glibc 2.35", True, "3.1 GB"),
        ("Linux aarch64", "glibc 3.0", True, "3.1 GB"),
        ("Darwin arm64", "", True, "0.4 GB"),
    ],
)
def test_arm_with_an_old_libc_goes_without_openvino(
    tmp_path: Path, system: str, libc: str, has_openvino: bool, size: str
) -> None:
    """On Amazon Linux 2023, a usual system of Graviton, nothing could be installed: OpenVINO has no package for it."""
    done = made(tmp_path, ".venv/.complete", uname=system, getconf=libc)

    assert done.returncode == 0, done.stderr
    assert ("openvino" in packages(tmp_path)) is has_openvino
    assert ("Leaving out OpenVINO" in done.stdout) is not has_openvino
    assert {"torch", "nvidia-cudnn-cu13", "numba"} <= packages(tmp_path)
    assert f"Downloading about {size}" in done.stdout


def test_an_index_of_cpu_wheels_leaves_out_cuda_and_gives_pytorch_alone(tmp_path: Path) -> None:
    done = made(tmp_path, ".venv/.complete", "TORCH_INDEX=https://wheels.example", uname="Linux x86_64")

    assert done.returncode == 0, done.stderr
    assert packages(tmp_path) & {"torch", "triton", "nvidia-cudnn-cu13", "cuda-toolkit"} == set()
    assert {"openvino", "numba"} <= packages(tmp_path)
    assert "--no-deps --index-url https://wheels.example torch==" in (tmp_path / "installed").read_text()


@pytest.mark.parametrize(
    ("version", "has_packages"), [((3, 10), False), ((3, 11), True), ((3, 14), True), ((3, 15), False)]
)
def test_a_python_without_packages_is_refused_before_anything_is_downloaded(
    tmp_path: Path, version: tuple[int, int], has_packages: bool
) -> None:
    """With Python 3.15, set-up ended in a page about the ABI tags of OpenVINO's wheels."""
    python = python_of("linux", "x86_64", version)

    for target, variables in (("installer", ["UV=installer"]), (".venv/.complete", [])):
        folder = tmp_path / target.lstrip(".").replace("/", "-")
        folder.mkdir()
        done = made(folder, target, *variables, python=python, uname="Linux x86_64", getconf="glibc 2.36")
        assert ("are for Python 3.11 to 3.14" in done.stdout) is not has_packages
        if not has_packages:
            assert done.returncode != 0
            assert "has no pip" not in done.stdout  # which is what comes next, of this Python
            assert not (folder / "installed").exists()


def test_an_intel_python_on_a_mac_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    """On Apple silicon, too, one may have come along from an older Mac; PyTorch has no packages for it."""
    done = made(tmp_path, "installer", "UV=installer", python=python_of("darwin", "x86_64", (3, 13)))

    assert done.returncode != 0
    assert "has no pip" not in done.stdout  # which is what comes next
    assert "make PYTHON=/opt/homebrew/bin/python3" in done.stdout
    assert "make up" in done.stdout
