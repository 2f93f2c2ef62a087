"""Figures as JSON has them."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.reports.report_json import write_json


def test_figures_are_kept_where_no_picture_can_be_drawn() -> None:
    """Folds could not be read without matplotlib, which they don't draw with."""
    modules = "training.protocols.folds, training.protocols.cross_validation"
    program = f"import sys; sys.modules['matplotlib'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


def test_what_is_not_finite_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"loss": float("nan")})
