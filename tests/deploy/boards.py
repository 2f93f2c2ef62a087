"""What is in the dashboards that are committed."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.tools import ROOT

FOLDER = ROOT / "deploy/grafana/dashboards"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of one panel."""

    board: str
    panel: str
    expression: str
    legend: str
    unit: str
    over_time: bool
    ill_when_none: bool

    @property
    def legend_labels(self) -> set[str]:
        return set(re.findall(r"\{\{(\w+)\}\}", self.legend))

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}: {self.legend or 'value'}"


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))


def boards() -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in files()]


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """All panels but the rows' headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries() -> list[Query]:
    return [
        Query(
            board["uid"],
            panel["title"],
            target["expr"],
            target["legendFormat"],
            defaults["unit"],
            # As its panel asks it: for each moment of what is shown, or for now.
            target.get("range", False),
            # Of shares that should be high, 0 is ill as well, but a busy machine's truth.
            defaults["thresholds"]["steps"][0]["color"] == "red" and defaults["unit"] != "percentunit",
        )
        for board in boards()
        for panel in panels(board)
        for defaults in [panel["fieldConfig"]["defaults"]]
        for target in panel["targets"]
    ]
