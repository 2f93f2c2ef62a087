"""Grafana's dashboards as code: `python -m deploy.dashboards` writes them to `deploy/grafana/dashboards`."""

import warnings

# The classic model, which every Grafana since version 10 reads; the builder's makers would rather have its successor.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Prefer using dashboardv2", category=DeprecationWarning)
    from grafana_foundation_sdk.builders import dashboard, heatmap  # noqa: F401
