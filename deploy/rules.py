"""Makes the PrometheusRule of the Prometheus Operator out of alerts.yaml, comments and all: `make rules`."""

from pathlib import Path
from textwrap import indent

DEPLOY = Path(__file__).parent
ALERTS = DEPLOY / "prometheus/alerts.yaml"
RULE = DEPLOY / "kubernetes/components/prometheus-operator/rules.yaml"
HEAD = """\
# Made out of deploy/prometheus/alerts.yaml by `make rules`: change that.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: stridecast
  namespace: stridecast
spec:
"""


def rule(alerts: str) -> str:
    """Return the text of a PrometheusRule with the groups of a file of rules."""
    return HEAD + indent(alerts, "  ")


if __name__ == "__main__":
    RULE.write_text(rule(ALERTS.read_text(encoding="utf-8")), encoding="utf-8")
