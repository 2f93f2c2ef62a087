"""Names that others chose, in reports' tables: no more cells, lines or formatting than there should be."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.markdown import code, plain, table


def shown(cell: str) -> str:
    """What a reader sees of escaped text."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell)


def cells(line: str) -> list[str]:
    """A row's cells as GitHub splits them: a bar ends one unless a backslash is before it."""
    return [cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]]


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("difronzo_pocket", "difronzo_pocket"),
        ("WISDM v1.1 (reconstructed)", "WISDM v1.1 (reconstructed)"),
        ("up|down", r"up\|down"),
        ("_walking_ *fast*", r"\_walking\_ \*fast\*"),
        ("[bus](x) <b> `c` $x$ ~y~ &amp; #1", r"\[bus\](x) \<b\> \`c\` \$x\$ \~y\~ \&amp; \#1"),
        ("back\\slash", r"back\\slash"),
        ("two\nlines\x0b\x85and\u2028more", "two lines and more"),
    ],
)
def test_a_name_is_shown_as_it_is(name: str, escaped: str) -> None:
    assert plain(name) == escaped


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_a_table_has_a_line_for_each_row_and_a_cell_for_each_column(names: list[str]) -> None:
    lines = list(table(names, [names, names]))
    assert len(lines) == 4
    assert not any(re.search(r"[\r\n]", line) for line in lines)
    for line in (lines[0], lines[2], lines[3]):
        assert [shown(cell) for cell in cells(line)] == [" ".join(name.split()) for name in names]


def test_columns_are_aligned_to_the_right_but_for_those_that_are_named() -> None:
    assert list(table(("a", "b", "c"), [("x|y", "1", "z")], left=(0, 2))) == [
        "| a | b | c |",
        "|---|---:|---|",
        r"| x\|y | 1 | z |",
    ]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("train --data a.csv", "`train --data a.csv`"),
        ("train 'a`b.csv'", "``train 'a`b.csv'``"),
        ("a``", "``` a`` ```"),
        ("a\nb", "`a b`"),
    ],
)
def test_a_command_is_code_whatever_is_in_it(command: str, expected: str) -> None:
    assert code(command) == expected
