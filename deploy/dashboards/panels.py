"""The kinds of panel that the dashboards are made of, and what all of them have: unit, limits, description, link."""

import itertools
from collections.abc import Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

WIDTH = 24
GRAPHS_A_ROW = 3
SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
CHOICES = ("datasource", "namespace", "job", "worker", "instance")
SAME_VIEW = "&".join(["${__url_time_range}", *(f"${{{name}:queryparam}}" for name in CHOICES)])

Limits = Sequence[tuple[float | None, str]]
"""Colours, each from a value on; the first from the least."""
NO_LIMITS: Limits = [(None, "green")]
NONE_IS_WELL: Limits = [(None, "green"), (1e-9, "red")]
NONE_IS_ILL: Limits = [(None, "red"), (1e-9, "green")]

Queries = Sequence[tuple[str, str]]
"""Expressions, each with the legend of its series, before which the namespace is put."""

Panel = TypeVar("Panel", timeseries.Panel, stat.Panel, heatmap.Panel)


def at_most(warn: float, bad: float) -> Limits:
    """Return limits for what should stay below `warn`."""
    return [(None, "green"), (warn, "yellow"), (bad, "red")]


def at_least(bad: float, warn: float) -> Limits:
    """Return limits for what should stay above `warn`."""
    return [(None, "red"), (bad, "yellow"), (warn, "green")]


class Board:
    """A dashboard that grows panel by panel, in rows of which each fills the width."""

    def __init__(self, uid: str, title: str, description: str, beside: tuple[str, str]) -> None:
        """`beside` are uid and title of the dashboard that the panels lead to."""
        self._leads_to = _link(*beside)
        self._ids = itertools.count(1)
        self.builder = (
            dashboards.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags(["stridecast"])
            .time("now-1h", "now")
            .refresh("30s")
            .timezone("browser")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .link(_link(*beside))
        )
        for variable in _variables():
            self.builder.with_variable(variable)

    def row(self, title: str) -> None:
        """Begin a row."""
        self.builder.with_row(dashboards.Row(title).id(next(self._ids)))

    def lines(
        self,
        title: str,
        description: str,
        unit: str,
        queries: Queries,
        limits: Limits = NO_LIMITS,
        *,
        columns: int = GRAPHS_A_ROW,
        stacking: common.StackingMode = common.StackingMode.NONE,
    ) -> None:
        """Add lines over time, as one of so many panels beside each other."""
        style = common.GraphThresholdsStyleMode.DASHED if len(limits) > 1 else common.GraphThresholdsStyleMode.OFF
        panel = (
            timeseries.Panel()
            .fill_opacity(10 if stacking == common.StackingMode.NONE else 60)
            .stacking(common_builders.StackingConfig().mode(stacking))
            .thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(style))
            .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
            .legend(
                common_builders.VizLegendOptions()
                .display_mode(common.LegendDisplayMode.LIST)
                .placement(common.LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .min(0)
        )
        for number, (expression, legend) in enumerate(queries):
            panel.with_target(_query(number, expression, _named(legend)).range())
        self._add(panel, title, description, unit, limits, columns, 8)

    def numbers(
        self,
        title: str,
        description: str,
        unit: str,
        queries: Queries,
        limits: Limits = NO_LIMITS,
        *,
        columns: int = 6,
        names: bool = False,
    ) -> None:
        """Add the newest value of each series, as one of so many panels beside each other; or only its name."""
        panel = stat.Panel().reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        panel.graph_mode(common.BigValueGraphMode.NONE)
        if names:
            panel.text_mode(common.BigValueTextMode.NAME)
        for number, (expression, legend) in enumerate(queries):
            panel.with_target(_query(number, expression, _named(legend)).instant())
        self._add(panel, title, description, unit, limits, columns, 4)

    def heat(self, title: str, description: str, unit: str, expression: str) -> None:
        """Add the buckets of a histogram over time; the expression is summed by `le`."""
        panel = heatmap.Panel().calculate(False).y_axis(heatmap.YAxisConfig().unit(unit)).show_legend()
        panel.with_target(_query(0, expression, "{{le}}").range().format(PromQueryFormat.HEATMAP))
        self._add(panel, title, description, unit, NO_LIMITS, GRAPHS_A_ROW, 8)

    def _add(
        self, panel: Panel, title: str, description: str, unit: str, limits: Limits, columns: int, height: int
    ) -> None:
        steps = [models.Threshold(value, colour) for value, colour in limits]
        thresholds = dashboards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
        panel.title(title).description(description).unit(unit).thresholds(thresholds)
        panel.datasource(SOURCE).links([self._leads_to]).span(WIDTH // columns).height(height)
        self.builder.with_panel(panel.id(next(self._ids)))


def _named(legend: str) -> str:
    return f"{{{{namespace}}}} {legend}".rstrip()


def _query(number: int, expression: str, legend: str) -> prometheus.Dataquery:
    letter = chr(ord("A") + number)
    return prometheus.Dataquery().datasource(SOURCE).ref_id(letter).expr(expression).legend_format(legend)


def _link(uid: str, title: str) -> dashboards.DashboardLink:
    return dashboards.DashboardLink(title).type(models.DashboardLinkType.LINK).url(f"/d/{uid}?{SAME_VIEW}")


def _variables() -> list[dashboards.DatasourceVariable | dashboards.QueryVariable]:
    source = dashboards.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    namespace = _choice("namespace", "Namespace", "label_values(stridecast_ready, namespace)")
    of = 'namespace=~"$namespace"'
    job = _choice("job", "Job", f"label_values(stridecast_ready{{{of}}}, job)", everything="stridecast-.+")
    of += ', job=~"$job"'
    worker = _choice("worker", "Worker", f"label_values(stridecast_ready{{{of}}}, worker)")
    of += ', worker=~"$worker"'
    instance = _choice("instance", "Instance", f"label_values(stridecast_ready{{{of}}}, instance)")
    return [source, namespace, job, worker, instance]


def _choice(name: str, label: str, query: str, everything: str = ".*") -> dashboards.QueryVariable:
    """Return a variable of which all may be chosen: also what has come since, and what has no such label."""
    chosen = models.VariableOption(selected=True, text="All", value="$__all")
    return (
        dashboards.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(chosen)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
