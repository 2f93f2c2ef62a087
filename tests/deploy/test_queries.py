"""Every query of dashboards, alerts and scalers, on a real Prometheus that scrapes a worker of each kind under load."""

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from tests.deploy.boards import Query, boards, queries
from tests.deploy.conftest import FLAGS, NAMESPACE
from tests.deploy.tools import ROOT, tool
from tests.deploy.watched import Prometheus, Series

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
SIGNALS = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
TOLD = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
# What the operator's page says to be about activities alone.
STARRED = set(re.findall(r"^\| `(stridecast_\w+)[^|]*` \* \|", TOLD, flags=re.MULTILINE))
KINDS = set(FLAGS)
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
        prometheus.numbers(series, partial(is_of, KINDS))
        values = prometheus.get(f"/api/v1/label/{label}/values", **{"match[]": series})
        assert values
        found[variable["name"]] = variable["allValue"]
        assert all(re.fullmatch(variable["allValue"], value) for value in values)
    return found


def insert(expression: str, chosen: dict[str, str]) -> str:
    for name, value in chosen.items():
        expression = expression.replace(f"${name}", value)
    return expression


def metrics_in(expression: str) -> set[str]:
    """The workers' metrics that an expression is about, through recorded signals, too."""
    signals = [name for name in SIGNALS if name in expression]
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"(?<!:)\bstridecast_\w+", expression)}
    return names.union(*(metrics_in(SIGNALS[name]) for name in signals))


def kinds_of(expression: str) -> set[str]:
    """The kinds of worker that an expression is about."""
    if one := re.search(r'worker="(\w+)"', expression):
        return {one[1]}
    return {"activity"} if metrics_in(expression) & STARRED else KINDS


def is_of(kinds: set[str], found: Series, *, above_zero: bool = False) -> bool:
    """Tell whether each of these kinds, and no other, has a series (and one above 0), or all have one together."""
    found_kinds = {
        labels.get("worker") or labels.get("job", "").removeprefix("stridecast-")
        for labels, values in found
        if not above_zero or max(values) > 0
    }
    return found_kinds in (kinds, {""})


def test_the_operators_page_stars_what_is_of_activities_alone() -> None:
    assert {"stridecast_windows_total", "stridecast_active_devices"} < STARRED
    assert metrics_in("namespace_job_worker:stridecast_windows_labelled:rate10m") == {"stridecast_windows_total"}


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_panel_shows_numbers_of_each_worker_under_load(
    prometheus: Prometheus, chosen: dict[str, str], query: Query
) -> None:
    expression, kinds = insert(query.expression, chosen), kinds_of(query.expression)

    def is_of_all(found: Series) -> bool:
        """Of both installations, too, where the legend has them: one may have been scraped once less."""
        namespaces = {labels.get("namespace") for labels, _ in found}
        apart = "namespace" in query.legend_labels
        return is_of(kinds, found, above_zero=query.ill_when_none) and (not apart or namespaces == {NAMESPACE, None})

    answered = prometheus.numbers(expression, is_of_all, over_time=query.over_time)
    for labels, values in answered:
        assert query.legend_labels <= labels.keys() | {"namespace"}
        assert min(values) >= 0
        assert max(values) <= 1 or query.unit != "percentunit"
    if "instance" in query.legend_labels:
        assert len({labels["instance"] for labels, _ in answered}) == len(kinds)
    # What nobody can tell apart by the legend would be drawn as several lines of one name.
    assert len({tuple(labels.get(name) for name in query.legend_labels | {"le"}) for labels, _ in answered}) == len(
        answered
    )


@pytest.mark.parametrize(("record", "expression"), SIGNALS.items(), ids=list(SIGNALS))
def test_a_recorded_signal_is_a_number_of_each_worker_under_load(
    prometheus: Prometheus, record: str, expression: str
) -> None:
    for query in (expression, record):
        prometheus.numbers(query, partial(is_of, kinds_of(expression)))


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_what_an_alert_compares_is_a_number_of_each_worker_under_load(
    prometheus: Prometheus, rule: dict[str, str]
) -> None:
    """A healthy worker's alerts answer nothing, so each signal is asked for without its threshold."""
    for line in rule["expr"].splitlines():
        match = re.fullmatch(r"(?:(?:and|or) (?:on \([\w, ]+\) )?)?(.+) (?:>|==) [\d.]+(?: \* [\d.]+)?", line)
        assert match, f"not a signal beside a threshold: {line}"
        assert prometheus.numbers(match[1], partial(is_of, kinds_of(match[1])))


def scaler_queries() -> Iterator[Any]:
    """The queries of the ScaledObjects, and those that kustomizations put in their place."""
    for file in sorted((ROOT / "deploy/kubernetes").rglob("*.yaml")):
        name = f"{file.parent.name}-{file.stem}"
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if document["kind"] == "ScaledObject":
                yield from (
                    pytest.param(trigger["metadata"]["query"], id=name) for trigger in document["spec"]["triggers"]
                )
            for patch in document.get("patches", []):
                changes = yaml.safe_load(patch.get("patch", "[]"))
                yield from (
                    pytest.param(change["value"], id=f"{name}-{patch['target']['name']}")
                    for change in (changes if isinstance(changes, list) else [])
                    if change["path"].endswith("/metadata/query")
                )


@pytest.mark.parametrize("query", list(scaler_queries()))
def test_what_a_scaler_asks_for_is_one_number(prometheus: Prometheus, query: str) -> None:
    """KEDA takes the only element of the answer, and gives up on more than one."""
    ((_, (waiting,)),) = prometheus.numbers(query)
    assert waiting >= 0


def test_prometheus_evaluates_all_rules(prometheus: Prometheus) -> None:
    groups = prometheus.get("/api/v1/rules")["groups"]
    assert sum(len(group["rules"]) for group in groups) == len(RULES)
    prometheus.numbers(RULES[0]["record"])
    assert {
        rule["name"]: rule.get("lastError") for group in groups for rule in group["rules"] if rule.get("lastError")
    } == {}


@pytest.fixture(scope="module")
def pages(prometheus: Prometheus) -> dict[str, bytes]:
    """What each kind of worker shows of its own on /metrics."""
    found = {}
    for target in prometheus.get("/api/v1/targets")["activeTargets"]:
        with urllib.request.urlopen(target["scrapeUrl"], timeout=10) as response:
            kind = target["labels"]["job"].removeprefix("stridecast-")
            found[kind] = b"".join(line for line in response if b"stridecast_" in line)
    return found


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_prometheus_own_check_finds_nothing_wrong_with_a_workers_page(pages: dict[str, bytes], kind: str) -> None:
    checked = subprocess.run([tool("promtool"), "check", "metrics"], input=pages[kind], capture_output=True)
    assert (checked.stderr, checked.returncode) == (b"", 0)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_operators_page_tells_what_each_metric_means_and_whose_it_is(pages: dict[str, bytes], kind: str) -> None:
    families = re.findall(r"^# TYPE (\w+) ", pages[kind].decode(), flags=re.MULTILINE)
    assert len(families) > 30
    assert [name for name in families if not re.search(rf"`{name}(_total)?[`{{]", TOLD)] == []
    assert set(families) & STARRED == (STARRED if kind == "activity" else set())


def test_the_operators_page_tells_of_no_metric_that_is_gone(pages: dict[str, bytes]) -> None:
    (table,) = re.findall(r"^\| metric \| meaning \|\n(.*?)\n\n", TOLD, flags=re.MULTILINE | re.DOTALL)
    families = {name for page in pages.values() for name in re.findall(r"# TYPE (\w+) ", page.decode())}
    told = re.findall(r"`(stridecast_\w+)[`{]", re.sub(r"\|[^|\n]*\|\n", "|\n", table + "\n"))
    assert len(told) > 30
    assert [name for name in told if name not in families] == []
