"""PromQL for the series of `service.monitoring.metrics`, of the workers and instances that the variables choose.

What is summed is summed by namespace, too, so that installations don't mix. Where no series has one, that changes
nothing.
"""

# Series of the process itself have no worker, and other programs have them as well.
PROCESS = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"'
CHOSEN = f'{PROCESS}, worker=~"$worker"'
PER_SCRAPE = "$__rate_interval"
# What of the labels within the objective's second alerts.yaml asks for.
OBJECTIVE_S = 1.0


def series(name: str, **labels: str) -> str:
    """Return the selector of `stridecast_<name>` among what is chosen, with labels of these very values."""
    matchers = [CHOSEN, *(f'{label}="{value}"' for label, value in labels.items())]
    return f"stridecast_{name}{{{', '.join(matchers)}}}"


def total(name: str, by: str = "worker") -> str:
    """Return the sum of a gauge, by some labels."""
    return f"sum by (namespace, {by}) ({series(name)})"


def since(name: str, by: str) -> str:
    """Return how many seconds before its scrape a gauge's moment was, of several the longest, by some labels."""
    # Not before now: that would have the scrape's age in it. A scrape is dated when it was due: what was answered later
    # may lie after that.
    return f"clamp_min(max by (namespace, {by}) (timestamp({series(name)}) - {series(name)}), 0)"


def rate(name: str, by: str = "worker", **labels: str) -> str:
    """Return how much a counter grows a second, by some labels."""
    return f"sum by (namespace, {by}) (rate({series(name, **labels)}[{PER_SCRAPE}]))"


def greatest(name: str, by: str) -> str:
    """Return the greatest value of a gauge, by some labels."""
    return f"max by (namespace, {by}) ({series(name)})"


def buckets(histogram: str, **labels: str) -> str:
    """Return how much each bucket of a histogram grows a second, of all that is chosen."""
    return f"sum by (le) (rate({series(f'{histogram}_bucket', **labels)}[{PER_SCRAPE}]))"


def mean(histogram: str, by: str = "worker", **labels: str) -> str:
    """Return the mean of what a histogram has observed between scrapes."""
    return f"{rate(f'{histogram}_sum', by, **labels)} / {rate(f'{histogram}_count', by, **labels)}"


def quantile(share: float, histogram: str, by: str = "worker", **labels: str) -> str:
    """Return the quantile of what a histogram has observed between scrapes."""
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', f'{by}, le', **labels)})"


def quantile_ever(share: float, histogram: str) -> str:
    """Return the quantile of all that a worker's histogram has observed; for what is rare."""
    return f"histogram_quantile({share:g}, {total(f'{histogram}_bucket', 'worker, le')})"


LEAST_SHARE = 0.001
"""For its logarithm a share must not be 0."""


def stability(found: str, expected: str, by: str) -> str:
    """Return the population stability index of the shares found and those expected, by the labels `by`.

    That is the sum of (p - q) ln(p / q): 0 where nothing differs; above 0.25, by the usual rule, much does.
    """
    p = f"clamp_min({found}, {LEAST_SHARE})"
    return f"sum by (namespace, {by}) (({p} - {expected}) * ln({p} / {expected}))"


def shares(counter: str, of: str, by: str) -> str:
    """Return the share that each value of the label `of` has in a counter's growth of the last hour."""
    grown = f"increase({series(counter)}[1h])"
    return (
        f"sum by (namespace, {by}, {of}) ({grown}) / ignoring ({of}) group_left () sum by (namespace, {by}) ({grown})"
    )
