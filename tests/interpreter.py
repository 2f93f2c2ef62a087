"""A Python of its own, for what has to be set before anything is imported."""

import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python(*arguments: str, full_disk: bool = False, **environment: str) -> str:
    """Return what a Python started for it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_let_no_file_grow if full_disk else None,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _let_no_file_grow() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
