"""Progress of long work: a bar on a terminal, otherwise a line now and then."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Reached:
    """Progress after `seconds`: how much of `total` is `done`; without a total, the work has no end."""

    done: float
    total: float | None
    seconds: float
    text: str


@contextmanager
def progress_shown(console: Console, begins_with: str) -> Iterator[Callable[[Reached], None]]:
    """Yield the function that shows progress; until its first call, a bar says what the work starts with."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    above_the_bar = sys.stderr.isatty()  # else what is written there goes where it is sent, as it is
    with Progress(*columns, console=console, transient=True, redirect_stderr=above_the_bar) as progress:
        task = progress.add_task(begins_with, total=None)

        def show(now: Reached) -> None:
            progress.update(task, completed=now.done, total=now.total, description=now.text)

        yield show


def _lines(console: Console) -> Callable[[Reached], None]:
    shown = 0.0

    def show(now: Reached) -> None:
        nonlocal shown
        if now.seconds - shown >= LINE_EVERY_S:
            shown = now.seconds
            share = f"{now.done / now.total:.0%}: " if now.total else ""
            console.print(f"{share}{now.text}", highlight=False)

    return show
