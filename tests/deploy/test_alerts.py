"""The alerts: when they fire, by Prometheus' own rule tests, and that each leads to what to do."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.boards import boards, panels
from tests.deploy.tools import ROOT, tool

FOLDER = ROOT / "deploy/prometheus"
OPERATIONS = ROOT / "docs/operations.md"
OTHER_EMPHASIS = {"The Site Reliability Workbook"}
ALERTS = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
]


def headings(document: Path) -> dict[str, str]:
    """The text under each heading, by the heading's anchor."""
    found = re.split(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-"): text
        for title, text in zip(found[::2], found[1::2], strict=True)
    }


def test_prometheus_takes_its_settings_and_the_rules() -> None:
    subprocess.run(
        [tool("promtool"), "check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yaml"], check=True
    )


def test_alerts_fire_when_they_should_and_only_then() -> None:
    subprocess.run([tool("promtool"), "test", "rules", FOLDER / "alerts_test.yaml"], check=True)


def test_each_alert_has_a_test_of_firing_and_one_of_not_firing() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    tested = {(case["alertname"], bool(case.get("exp_alerts"))) for test in tests for case in test["alert_rule_test"]}
    assert tested == {(alert["alert"], fires) for alert in ALERTS for fires in (True, False)}


def test_the_operators_page_has_no_alert_that_is_gone_and_names_no_panel_that_is() -> None:
    (chapter,) = re.findall(r"^## Alerts\n(.*?)^## ", OPERATIONS.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^### (.+)$", chapter, flags=re.MULTILINE)
    led_to = {alert["annotations"]["runbook_url"].partition("#")[2] for alert in ALERTS}
    assert {title.lower().replace(" ", "-") for title in titles} == led_to
    emphasised = re.findall(r"(?<!\*)\*([A-Z][^*]*)\*(?!\*)", chapter)
    shown = {panel["title"] for board in boards() for panel in panels(board)}
    assert {" ".join(name.split()) for name in emphasised} <= shown.union(titles, OTHER_EMPHASIS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_leads_to_what_to_look_at_and_what_to_do(alert: dict[str, dict[str, str]]) -> None:
    document, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    text = headings(ROOT / document)[anchor]
    assert "**Look at**" in text
    assert "**Do**" in text
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
