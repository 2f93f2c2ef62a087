"""Warnings of training and evaluation: shown before the work, and kept in its report."""

from collections.abc import Iterator, Sequence

from rich.console import Console

from training.wording.markdown import plain


def show_warnings(warnings: Sequence[str], console: Console | None) -> None:
    """Print each warning on a line of its own."""
    if console is not None:
        for line in warnings:
            console.print(line, soft_wrap=True, markup=False)


def warnings_section(warnings: Sequence[str]) -> Iterator[str]:
    """Yield a report's section of warnings as Markdown; nothing without warnings."""
    if warnings:
        yield "\n".join(["## Warnings\n", *(f"- {plain(line)}" for line in warnings)]) + "\n"
