"""Progress of a fit, on a terminal."""

import rich.progress
from rich.console import Console


def epochs_progress(console: Console) -> rich.progress.Progress:
    """Return a progress bar with the epochs and the time of each fit."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TextColumn("epoch {task.completed:.1f} of {task.total:.0f}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
        disable=console.quiet or not console.is_terminal,  # elsewhere a bar leaves an empty line
        transient=True,
    )
