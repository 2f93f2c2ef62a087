"""The page on one's own network: its code is run as it stands there."""

import json
import re
from pathlib import Path

import pytest

from inference.architectures import ARCHITECTURES, Architecture
from inference.bundle import load_bundle
from service.cli import main
from tests.test_rooms import ROOT
from tests.training.files import write_csv

PAGE = ROOT / "docs/own-network.md"


def test_the_pages_network_learns_from_its_script_and_labels_a_file_as_a_worker_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network, entry, script = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    name, file, classes = re.fullmatch(r' +"([\w-]+)": _of\("(\w+)", "(\w+)"\),\n', entry).groups()  # type: ignore[union-attr]
    (tmp_path / f"{file}.py").write_text(network)
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(ARCHITECTURES, dict)
    monkeypatch.setitem(ARCHITECTURES, name, Architecture(f"{file}:{classes}Arguments", f"{file}:{classes}"))
    monkeypatch.chdir(tmp_path)
    ours = write_csv(tmp_path / "ours.csv", ["walking", "Cycling", "LYING DOWN"], people=[str(n) for n in range(1, 9)])
    exec(compile(script.replace("epochs=30", "epochs=100"), "train_residual.py", "exec"), {})

    bundle = load_bundle(tmp_path / "runs/residual")
    assert bundle.manifest.metrics["validation.accuracy"] > 0.5
    (test,) = json.loads((tmp_path / "runs/residual-report/metrics.json").read_text())["test"]
    assert test["accuracy"] > 0.5  # of three activities
    assert main(["evaluate", "--bundle", "runs/residual", "--data", str(ours)]) == 0
    assert "residual@1 has learned from people of ours.csv" in capsys.readouterr().out

    rows = [row.split(",") for row in ours.read_text().splitlines()]
    walk = [",".join(row[3:]) for row in rows if row[:2] in (["person", "activity"], ["1", "walking"])]
    (tmp_path / "walk.csv").write_text("\n".join(walk) + "\n")
    assert main(["classify", "--file", "walk.csv", "--bundle", "runs/residual", "--format", "json"]) == 0
    labels = [json.loads(line)["activity"] for line in capsys.readouterr().out.splitlines()]
    assert len(labels) >= 5
    assert set(labels) <= set(bundle.manifest.labels)
