from pathlib import Path

import pytest

from service.demo.rates import Rates


def test_latencies_are_those_of_the_last_seconds_and_not_of_the_cold_start(tmp_path: Path) -> None:
    page = tmp_path / "metrics"

    def serve(fast: int, slow: int) -> None:
        name = "stridecast_end_to_end_latency_seconds"
        counts = {"0.02": fast, "5.0": fast + slow, "+Inf": fast + slow}
        lines = [f'{name}_bucket{{le="{bound}"}} {count}' for bound, count in counts.items()]
        page.write_text("\n".join([f"# TYPE {name} histogram", *lines, f"{name}_sum 1", f"{name}_count 1", ""]))

    rates = Rates(page.as_uri())
    serve(fast=0, slow=50)
    rates.read()
    serve(fast=100, slow=50)
    rates.read()
    assert rates.p99_ms == pytest.approx(19.8)
