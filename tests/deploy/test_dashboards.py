"""The dashboards that are committed: made by their generator, good by Grafana's schema, and complete."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from deploy.dashboards.__main__ import write
from tests.deploy.boards import FOLDER, boards, files, panels, queries
from tests.deploy.tools import ROOT, tool

PROVISIONING = ROOT / "deploy/grafana/provisioning"
ALL_PANELS = [
    pytest.param(panel, id=f"{board['uid']}: {panel['title']}") for board in boards() for panel in panels(board)
]
STAGE_ROWS = ("Decode", "Window", "Queue", "Inference", "Publish")
NAMED = (
    *("Records read", "Readings", "Lag", "End to end", "Errors", "Dead letters by reason", "Activities over time"),
    *("Confidence", "Active devices", "Batch sizes", "Stages", "GPU memory"),
)
OVERVIEW, STAGES = "stridecast-overview", "stridecast-stages"
WITHOUT_LIMITS = {
    f"{OVERVIEW}: Activities over time": "no activity is worse than another",
    f"{OVERVIEW}: Lag": "what many are depends on how fast they are read; how long that takes has limits",
    f"{STAGES}: Lag by partition": "what many are depends on how fast they are read; how long that takes has limits",
    f"{STAGES}: Memory": "what much is depends on the machine",
    f"{STAGES}: Readings that no window holds": "superseded are as many as devices measure fast; lateness has limits",
    f"{OVERVIEW}: Batch sizes": "they grow with the load, as they should; how full the queue is has limits",
    f"{STAGES}: Readings a record": "as the producers choose: each form is well",
    f"{STAGES}: Queue: share of time": "waits overlap, so their sum grows with the load; one wait has limits",
    f"{STAGES}: Publish: share of time": "waits overlap, so their sum grows with the load; one wait has limits",
    f"{STAGES}: Batches by why they left": "full batches are a device well used; how full the queue is has limits",
    f"{STAGES}: What serves": "a name",
    f"{STAGES}: Transactions": "one panel of good and bad outcomes; the bad ones have limits among the errors",
    f"{STAGES}: Replayed": "it tells of restarts long ago; how long a recovery takes has limits",
    **{
        f"{STAGES}: {title}": "a heat map's colours say how often; how long or how full has limits beside it"
        for title in (*(f"{stage}: spread" for stage in STAGE_ROWS), "Batch sizes")
    },
}
"""Panels in whose values nothing is ill, and why."""


def test_what_is_committed_is_what_the_generator_makes(tmp_path: Path) -> None:
    write(tmp_path)
    assert [file.name for file in files()] == sorted(file.name for file in tmp_path.iterdir())
    for file in files():
        assert file.read_text() == (tmp_path / file.name).read_text(), "run `make dashboards`"


def test_the_generator_runs_as_a_command(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "deploy.dashboards", tmp_path], cwd=ROOT, check=True)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in files()}


def test_grafanas_schema_knows_all_that_is_in_them() -> None:
    subprocess.run([tool("check-grafana"), *files()], check=True)


@pytest.mark.parametrize(
    ("good", "broken", "message"),
    [
        ('"graphTooltip": 1', '"graphTooltip": "crosshair"', "graphTooltip: json: cannot unmarshal string"),
        ('"colorMode": "value"', '"colourMode": "value"', "options.Options: unexpected field 'colourMode'"),
        ('"legendFormat": "{{namespace}}"', '"legend": ""', "targets[0].Dataquery: unexpected field 'legend'"),
    ],
)
def test_grafanas_schema_finds_what_is_wrong(tmp_path: Path, good: str, broken: str, message: str) -> None:
    """In the dashboard, in a panel's options and in a query."""
    text = (FOLDER / "stridecast-overview.json").read_text()
    assert good in text
    (tmp_path / "broken.json").write_text(text.replace(good, broken, 1))
    checked = subprocess.run([tool("check-grafana"), tmp_path / "broken.json"], capture_output=True, text=True)
    assert checked.returncode == 1
    assert message in checked.stderr


def test_the_overview_shows_all_that_an_operator_asks_for() -> None:
    titles = {panel["title"] for panel in panels(boards()[0])}
    assert set(NAMED) <= titles


def test_each_stage_has_a_row_to_drill_into() -> None:
    rows = {panel["title"].lower() for panel in boards()[1]["panels"] if panel["type"] == "row"}
    assert {stage.lower() for stage in STAGE_ROWS} <= rows


@pytest.mark.parametrize("panel", ALL_PANELS)
def test_a_panel_says_what_it_shows_in_which_unit_and_when_it_is_ill(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert len(panel["description"]) > 10
    assert defaults["unit"]
    limits = [step["value"] for step in defaults["thresholds"]["steps"][1:]]
    assert limits == sorted(limits)


def test_every_panel_has_limits_but_those_in_which_nothing_is_ill() -> None:
    without = {
        f"{board['uid']}: {panel['title']}"
        for board in boards()
        for panel in panels(board)
        if len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) < 2
    }
    assert without == WITHOUT_LIMITS.keys()


@pytest.mark.parametrize("panel", ALL_PANELS)
def test_a_panel_leads_to_another_dashboard_with_the_same_view(panel: dict[str, Any]) -> None:
    (link,) = panel["links"]
    match = re.match(r"/d/([a-z-]+)\?", link["url"])
    assert match
    assert match[1] in {board["uid"] for board in boards()}
    names = {variable["name"] for variable in boards()[0]["templating"]["list"]}
    assert names == {"datasource", "namespace", "job", "worker", "instance"}
    assert all(f"${{{name}:queryparam}}" in link["url"] for name in names)
    assert "${__url_time_range}" in link["url"]


def test_every_query_is_of_the_chosen_installations_and_instances() -> None:
    """But for the number of alerts, which says itself that it is of all workers."""
    assert all('namespace=~"$namespace"' in query.expression for query in queries())
    others = [query for query in queries() if 'instance=~"$instance"' not in query.expression]
    assert [query.panel for query in others] == ["Alerts"]


def test_no_panel_mixes_installations_but_heat_maps() -> None:
    """They have room for one histogram alone."""
    mixed = {query.panel for query in queries() if "{{namespace}}" not in query.legend}
    assert mixed == {*(f"{stage}: spread" for stage in STAGE_ROWS), "Batch sizes"}


@pytest.mark.parametrize("board", [pytest.param(board, id=board["uid"]) for board in boards()])
def test_panels_lie_side_by_side(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


# -- provisioning: Grafana publishes no schema of it; the keys are those of its documentation, "Provision Grafana"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PrometheusOptions(Strict):
    httpMethod: Literal["GET", "POST"]  # noqa: N815
    timeInterval: str = Field(pattern=r"^\d+s$")  # noqa: N815
    prometheusType: Literal["Prometheus", "Cortex", "Mimir", "Thanos"]  # noqa: N815


class DataSource(Strict):
    name: str
    uid: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,40}$")
    type: Literal["prometheus"]
    access: Literal["proxy", "direct"]
    url: str = Field(pattern=r"^http://[a-z-]+:\d+$")
    isDefault: bool  # noqa: N815
    editable: bool
    jsonData: PrometheusOptions  # noqa: N815


class DataSources(Strict):
    apiVersion: Literal[1]  # noqa: N815
    datasources: list[DataSource]


class ProviderOptions(Strict):
    path: str = Field(pattern="^/")


class Provider(Strict):
    name: str
    type: Literal["file"]
    allowUiUpdates: bool  # noqa: N815
    disableDeletion: bool  # noqa: N815
    options: ProviderOptions


class Providers(Strict):
    apiVersion: Literal[1]  # noqa: N815
    providers: list[Provider]


def test_grafana_is_provisioned_with_a_data_source_that_knows_how_often_is_scraped() -> None:
    text = (PROVISIONING / "datasources/prometheus.yaml").read_text()
    (source,) = DataSources.model_validate(yaml.safe_load(text)).datasources
    settings = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
    assert source.jsonData.timeInterval == settings["global"]["scrape_interval"]


def test_grafana_is_provisioned_with_the_dashboards() -> None:
    text = (PROVISIONING / "dashboards/stridecast.yaml").read_text()
    assert len(Providers.model_validate(yaml.safe_load(text)).providers) == 1
