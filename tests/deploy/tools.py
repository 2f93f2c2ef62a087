"""Programs that these tests run, and where they come from."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".build/bin"
GET_THEM = {
    "prometheus": "`make deploy-tools` builds it where Go is installed, or put Prometheus 3 on PATH",
    "promtool": "`make deploy-tools` builds it where Go is installed, or put Prometheus 3's on PATH",
    "check-grafana": "`make deploy-tools` builds it where Go is installed",
    "compose-spec": "`make deploy-tools` builds it where Go is installed",
    "kustomize": "`make deploy-tools` builds it where Go is installed, or put kustomize 5 on PATH",
}


def tool(name: str) -> Path:
    """Return a program's path; skips, saying how to get it, where there is none, and fails where there has to be."""
    if (BUILT / name).is_file():
        return BUILT / name
    if found := shutil.which(name):
        return Path(found)
    missing = f"no {name} to test with: {GET_THEM[name]}"
    if os.environ.get("REQUIRE_DEPLOY_TOOLS") == "1":
        pytest.fail(missing)
    pytest.skip(missing)
