"""Names that others chose, in reports' tables: no more cells, lines or formatting than there should be."""

import re
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from training.wording.markdown import code, plain, table


def shown(lines: Iterable[str]) -> list[list[str]]:
    """What a reader sees of a table, row by row; fails where a cell is more than one plain text."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse("\n".join(lines))
    assert (tokens[0].type, tokens[-1].type) == ("table_open", "table_close")
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            parts = token.children or []
            assert [part.type for part in parts] == ["text"] * bool(token.content)
            rows[-1].append("".join(part.content for part in parts))
    return rows


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("difronzo_pocket", "difronzo_pocket"),
        ("WISDM v1.1 (reconstructed)", "WISDM v1.1 (reconstructed)"),
        ("up|down", r"up\|down"),
        ("__init__ a__b c_d", r"\_\_init\_\_ a\_\_b c_d"),
        ("_walking_ *fast*", r"\_walking\_ \*fast\*"),
        ("[bus](x) <b> `c` $x$ ~y~ &amp; #1", r"\[bus\](x) \<b\> \`c\` \$x\$ \~y\~ \&amp; \#1"),
        ("back\\slash", r"back\\slash"),
        ("two\nlines\x0b\x85and\u2028more", "two lines and more"),
    ],
)
def test_a_name_is_shown_as_it_is(name: str, escaped: str) -> None:
    assert plain(name) == escaped


# Of what Markdown takes for its own there is more than of all other characters together; it shows no NUL as it is.
NAMES = st.text(st.sampled_from("\\`*_[]()<>#|~$&!-+:;= ab1é\n") | st.characters(exclude_categories=["Cs"])).map(
    lambda name: name.replace("\0", "0")
)


@given(st.lists(NAMES, min_size=1, max_size=4))
@example(["__init__", "a*b*", "[a](b)", "&amp;"])
@example(["a|b", "a\\|b", "a\\", "``|``"])
@example(["<b>", "<http://a>", "![a](b)", "~~a~~"])
def test_a_table_has_a_line_for_each_row_and_a_cell_for_each_column(names: list[str]) -> None:
    lines = list(table(names, [names, names]))
    assert len(lines) == 4
    assert not any(re.search(r"[\r\n]", line) for line in lines)
    assert shown(lines) == [[" ".join(name.split()) for name in names]] * 3


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
