"""Markdown of reports: tables, headings and commands that no name from a data file can break.

Labels, data sets, people and files are named by others: their names may hold what Markdown takes for its own.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

# An underscore between two letters or digits emphasises nothing; beside another underscore it may.
_SPECIAL = re.compile(r"[\\`*\[\]<>#|~$&]|(?<![^\W_])_|_(?![^\W_])")


def plain(text: str) -> str:
    """A name as text that is shown as it is, in a line, a heading or a cell of a table."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def code(text: str) -> str:
    """A command as code, whatever backticks it holds."""
    text = " ".join(text.splitlines())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def table(columns: Sequence[str], rows: Iterable[Iterable[str]], left: Collection[int] = (0,)) -> Iterator[str]:
    """The lines of a table of plain text; columns are aligned to the right, but for those that `left` names."""
    yield _row(columns)
    yield f"|{''.join('---|' if number in left else '---:|' for number in range(len(columns)))}"
    yield from map(_row, rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(plain, cells))} |"
