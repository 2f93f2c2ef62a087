"""The check of the image says whether it took place; what it checks, `make image-check` tells."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.tools import ROOT


@pytest.mark.parametrize(("required", "status"), [("0", 0), ("1", 1)])
def test_a_check_that_cannot_take_place_fails_where_it_has_to(required: str, status: int, tmp_path: Path) -> None:
    """It once was content on a machine without podman, whatever CI asked for."""
    bash, dirname = shutil.which("bash"), shutil.which("dirname")
    assert bash is not None
    assert dirname is not None
    (tmp_path / "dirname").symlink_to(dirname)
    done = subprocess.run(
        [bash, ROOT / "tests/deploy/image_check.sh"],
        env={"PATH": str(tmp_path), "REQUIRE_IMAGE": required},
        capture_output=True,
        text=True,
    )
    assert "NOTHING WAS CHECKED: no podman here" in done.stdout
    assert done.returncode == status
