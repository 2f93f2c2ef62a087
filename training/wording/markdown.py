"""Markdown for reports: tables, headings and commands that no name from a data file can break.

Labels, data sets, people and files are named by users, and their names may hold Markdown's special characters.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

# An underscore between two letters or digits emphasises nothing; beside another underscore it may.
_SPECIAL = re.compile(r"[\\`*\[\]<>#|~$&]|(?<![^\W_])_|_(?![^\W_])")


def plain(text: str) -> str:
    """Escape a name, so that a line, a heading or a cell shows it as it is."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def code(text: str) -> str:
    """Format a command as code, whatever backticks it holds."""
    text = " ".join(text.splitlines())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def table(columns: Sequence[str], rows: Iterable[Iterable[str]], left: Collection[int] = (0,)) -> Iterator[str]:
    """Yield the lines of a table; columns are right-aligned, except those that `left` lists."""
    yield _row(columns)
    yield f"|{''.join('---|' if number in left else '---:|' for number in range(len(columns)))}"
    yield from map(_row, rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(plain, cells))} |"
