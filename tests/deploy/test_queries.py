"""Every query of the dashboards and the alerts, on a real Prometheus that scrapes a real worker under load."""

import re
import subprocess
import urllib.request

import pytest
import yaml

from tests.deploy.boards import Query, boards, queries
from tests.deploy.tools import ROOT, tool
from tests.deploy.watched import Prometheus

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
# At a scrape a second, Grafana's $__rate_interval is four; a busy machine's scrapes may come late.
RATE_INTERVAL = "15s"


@pytest.fixture(scope="module")
def chosen(prometheus: Prometheus) -> dict[str, str]:
    """What Grafana puts in the place of the variables when all is chosen, each found by the variable's own query."""
    found = {"__rate_interval": RATE_INTERVAL}
    for variable in boards()[0]["templating"]["list"]:
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        assert match, variable["query"]
        series, label = insert(match[1], found), match[2]
        prometheus.numbers(series)
        values = prometheus.get(f"/api/v1/label/{label}/values", **{"match[]": series})
        assert values
        found[variable["name"]] = f"({'|'.join(re.escape(value) for value in values)})".replace("\\", "\\\\")
    return found


def insert(expression: str, chosen: dict[str, str]) -> str:
    for name, value in chosen.items():
        expression = expression.replace(f"${name}", value)
    return expression


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_panel_shows_numbers_under_load(prometheus: Prometheus, chosen: dict[str, str], query: Query) -> None:
    answered = prometheus.numbers(insert(query.expression, chosen), above_zero=query.ill_when_none)
    for labels, value in answered:
        assert query.legend_labels <= labels.keys()
        assert value >= 0
        assert value <= 1 or query.unit != "percentunit"
    # What nobody can tell apart by the legend would be drawn as several lines of one name.
    assert len({tuple(labels.get(name) for name in query.legend_labels | {"le"}) for labels, _ in answered}) == len(
        answered
    )


@pytest.mark.parametrize("rule", [rule for rule in RULES if "record" in rule], ids=lambda rule: rule["record"])
def test_a_recorded_signal_is_a_number_under_load(prometheus: Prometheus, rule: dict[str, str]) -> None:
    assert prometheus.numbers(rule["expr"])
    assert prometheus.numbers(rule["record"])


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_what_an_alert_compares_is_a_number_under_load(prometheus: Prometheus, rule: dict[str, str]) -> None:
    """A healthy worker's alerts answer nothing, so each signal is asked for without its threshold."""
    for line in rule["expr"].splitlines():
        match = re.fullmatch(r"(?:and |or (?:on \(\w+\) )?)?(.+) (?:>|==) [\d.]+(?: \* [\d.]+)?", line)
        assert match, f"not a signal beside a threshold: {line}"
        assert prometheus.numbers(match[1])


def test_prometheus_evaluates_all_rules(prometheus: Prometheus) -> None:
    groups = prometheus.get("/api/v1/rules")["groups"]
    assert sum(len(group["rules"]) for group in groups) == len(RULES)
    prometheus.numbers(RULES[0]["record"])
    assert {
        rule["name"]: rule.get("lastError") for group in groups for rule in group["rules"] if rule.get("lastError")
    } == {}


@pytest.fixture(scope="module")
def page(prometheus: Prometheus) -> bytes:
    """What the worker shows of its own on /metrics."""
    (target,) = prometheus.get("/api/v1/targets")["activeTargets"]
    with urllib.request.urlopen(target["scrapeUrl"], timeout=10) as response:
        return b"".join(line for line in response if b"stridecast_" in line)


def test_prometheus_own_check_finds_nothing_wrong_with_the_workers_page(page: bytes) -> None:
    checked = subprocess.run([tool("promtool"), "check", "metrics"], input=page, capture_output=True)
    assert (checked.stderr, checked.returncode) == (b"", 0)


def test_the_operators_page_tells_what_each_metric_means(page: bytes) -> None:
    told = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    families = re.findall(r"^# TYPE (\w+) ", page.decode(), flags=re.MULTILINE)
    assert len(families) > 30
    assert [name for name in families if not re.search(rf"`{name}(_total)?[`{{]", told)] == []
