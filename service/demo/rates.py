"""A worker's throughput and latency, from its metrics."""

import collections
import http.client
import math
import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


class Rates:
    """Messages and windows a second, and their latency, over the last ten seconds, from the worker's metrics."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen: collections.deque[tuple[float, float, float]] = collections.deque(maxlen=20)
        self._latencies: collections.deque[list[tuple[float, float]]] = collections.deque(maxlen=20)
        self.p50_ms = math.nan
        self.p99_ms = math.nan

    def read(self) -> None:
        """Scrape the worker. If it does not answer, keep the last values: others check whether it runs."""
        try:
            with urllib.request.urlopen(self._url, timeout=5) as answer:
                text = answer.read().decode()
        except (OSError, http.client.HTTPException):
            return
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        messages, windows = (
            sum(sample.value for sample in samples if sample.name == name)
            for name in ("stridecast_records_total", "stridecast_windows_total")
        )
        buckets = [
            (float(sample.labels["le"]), sample.value)
            for sample in samples
            if sample.name == "stridecast_end_to_end_latency_seconds_bucket"
        ]
        self._seen.append((time.monotonic(), messages, windows))
        self._latencies.append(buckets)
        before = dict(self._latencies[0])
        lately = [(bound, count - before.get(bound, 0.0)) for bound, count in buckets]
        self.p50_ms, self.p99_ms = (1000 * quantile(lately, share) for share in (0.5, 0.99))

    @property
    def per_second(self) -> tuple[float, float]:
        """Messages and windows a second."""
        if len(self._seen) < 2:
            return 0.0, 0.0
        (then, *old), (now, *new) = self._seen[0], self._seen[-1]
        messages, windows = ((after - before) / (now - then) for before, after in zip(old, new, strict=True))
        return messages, windows


def quantile(buckets: list[tuple[float, float]], share: float) -> float:
    """Estimate a quantile from cumulative (upper bound, count), as Prometheus' histogram_quantile does."""
    total = buckets[-1][1] if buckets else 0.0
    low = below = 0.0
    for bound, count in buckets:
        if total and count >= share * total:
            return (
                low if math.isinf(bound) else low + (bound - low) * (share * total - below) / max(count - below, 1e-9)
            )
        low, below = bound, count
    return math.nan
