"""The board as it is shown: a live table on a terminal, a line now and then elsewhere."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.demo.board import Board
from service.demo.rates import Rates
from service.replay.run import Replay

TABLE_EVERY_S = 0.5
LINE_EVERY_S = 5.0
BESIDE_ROWS = 9
"""Lines of the live view that are no device's: headline, the table's frame, what is left out, caption, cursor."""


@contextmanager
def displayed(console: Console) -> Iterator[Any]:
    """Give what shows the board: a live table on a terminal, a line now and then elsewhere."""
    due = [0.0]
    interactive = console.is_terminal

    def is_due() -> bool:
        if time.monotonic() < due[0]:
            return False
        due[0] = time.monotonic() + (TABLE_EVERY_S if interactive else LINE_EVERY_S)
        return True

    if not interactive:

        def show_line(board: Board, rates: Rates, replay: Replay) -> None:
            if is_due():
                rates.read()
                console.print("  ".join(_headline(board, rates, replay)), highlight=False, soft_wrap=True)

        yield show_line
        return
    with Live(console=console, auto_refresh=False) as live:

        def show_table(board: Board, rates: Rates, replay: Replay) -> None:
            if is_due():
                rates.read()
                live.update(view(board, rates, replay, console.size.height), refresh=True)

        yield show_table


def view(board: Board, rates: Rates, replay: Replay, height: int) -> Group:
    """Return headline and table for a terminal of `height` lines, 80 columns or wider."""
    return Group(Text("\n".join(_headline(board, rates, replay))), _table(board, rows=max(1, height - BESIDE_ROWS)))


def _headline(board: Board, rates: Rates, replay: Replay) -> tuple[str, str]:
    """Return two lines for a terminal of 80 columns."""
    messages, windows = rates.per_second
    return (
        f"{replay.done_ms / 1000:5.1f} s  {messages:,.0f} messages/s  {windows:,.1f} windows/s",
        f"{board.labels} labels, {share(board)} right  latency p50 {_ms(rates.p50_ms)}, p99 {_ms(rates.p99_ms)}",
    )


def _table(board: Board, rows: int) -> Table:
    table = Table(caption="synthetic: the truth is known; labels may be wrong")
    for column in ("device", "true", "labelled", "confidence"):
        table.add_column(column, min_width=12, no_wrap=True)
    for device_id in sorted(board.latest)[:rows]:
        label = board.latest[device_id]
        truth, activity = label["truth"], label["activity"]
        style = "dim" if truth is None else "green" if truth == activity else "red"
        bar = "█" * round(10 * label["confidence"])
        confidence = f"{bar:<10} {label['confidence']:.2f}"
        table.add_row(device_id, truth or "changing", Text(activity, style=style), confidence)
    if len(board.latest) > rows:
        table.add_row(f"and {len(board.latest) - rows} more", "", "", "")
    return table


def share(board: Board) -> str:
    """Return how many judged labels are right, of a hundred."""
    return "–" if math.isnan(board.agreement) else f"{board.agreement:.0%}"


def _ms(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0f} ms"
