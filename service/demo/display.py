"""The display of the scores: a live table on a terminal, a line now and then elsewhere."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.demo.label_scores import LabelScores
from service.demo.rates import Rates
from service.replay.run import Replay

TABLE_EVERY_S = 0.5
LINE_EVERY_S = 5.0
OTHER_ROWS = 9
"""Lines of the live view besides the devices: headline, the table's frame, the omission, caption, cursor."""


@contextmanager
def displayed(console: Console) -> Iterator[Any]:
    """Yield a function that shows the scores: a live table on a terminal, a line now and then elsewhere."""
    due = [0.0]
    interactive = console.is_terminal

    def is_due() -> bool:
        if time.monotonic() < due[0]:
            return False
        due[0] = time.monotonic() + (TABLE_EVERY_S if interactive else LINE_EVERY_S)
        return True

    if not interactive:

        def show_line(scores: LabelScores, rates: Rates, replay: Replay) -> None:
            if is_due():
                rates.read()
                console.print("  ".join(_headline(scores, rates, replay)), highlight=False, soft_wrap=True)

        yield show_line
        return
    with Live(console=console, auto_refresh=False) as live:

        def show_table(scores: LabelScores, rates: Rates, replay: Replay) -> None:
            if is_due():
                rates.read()
                live.update(view(scores, rates, replay, console.size.height), refresh=True)

        yield show_table


def view(scores: LabelScores, rates: Rates, replay: Replay, height: int) -> Group:
    """Return the headline and the table for a terminal of `height` lines and at least 80 columns."""
    return Group(Text("\n".join(_headline(scores, rates, replay))), _table(scores, rows=max(1, height - OTHER_ROWS)))


def _headline(scores: LabelScores, rates: Rates, replay: Replay) -> tuple[str, str]:
    """Return two lines of at most 80 columns."""
    messages, windows = rates.per_second
    return (
        f"{replay.done_ms / 1000:5.1f} s  {messages:,.0f} messages/s  {windows:,.1f} windows/s",
        f"{scores.labels} labels, {share(scores)} right  latency p50 {_ms(rates.p50_ms)}, p99 {_ms(rates.p99_ms)}",
    )


def _table(scores: LabelScores, rows: int) -> Table:
    table = Table(caption="synthetic: the truth is known; labels may be wrong")
    for column in ("device", "true", "labelled", "confidence"):
        table.add_column(column, min_width=12, no_wrap=True)
    for device_id in sorted(scores.latest)[:rows]:
        label = scores.latest[device_id]
        truth, activity = label["truth"], label["activity"]
        style = "dim" if truth is None else "green" if truth == activity else "red"
        bar = "█" * round(10 * label["confidence"])
        confidence = f"{bar:<10} {label['confidence']:.2f}"
        table.add_row(device_id, truth or "changing", Text(activity, style=style), confidence)
    if len(scores.latest) > rows:
        table.add_row(f"and {len(scores.latest) - rows} more", "", "", "")
    return table


def share(scores: LabelScores) -> str:
    """Return the percentage of scored labels that are right."""
    return "–" if math.isnan(scores.agreement) else f"{scores.agreement:.0%}"


def _ms(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0f} ms"
