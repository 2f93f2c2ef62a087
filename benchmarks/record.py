"""A benchmark's results as a file for benchmarks/README.md: the command, the day, the machine, and a row a result."""

import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

Row = Mapping[str, str | int | float]


def machine(packages: Sequence[str]) -> str:
    """Return the machine's name, and the versions of the packages measured."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


@dataclass
class Record:
    """Rows of results, each written at once, for a run may be interrupted. Without a path they are not written."""

    path: Path | None
    machine: str
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a row."""
        self.rows.append(row)
        if self.path is not None:
            found = {
                "command": f"python -m benchmarks.{Path(sys.argv[0]).stem} {' '.join(sys.argv[1:])}",
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "machine": self.machine,
                "rows": self.rows,
            }
            self.path.write_text(json.dumps(found, indent=1) + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
