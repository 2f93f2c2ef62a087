"""The parts of kafka-python that aren't public are all named in one place, and what is said of its version."""

import ast
import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import kafka
import pytest

from ingest.client.errors import IngestError
from ingest.client.kafka_python import (
    ADMIN,
    CLASSES,
    CONSUMER,
    MANAGER,
    PRODUCER,
    TESTED,
    refuse_lacking,
    tell_version,
)
from tests.test_rooms import ROOT

NAMED = {name for part in (*ADMIN, *CONSUMER, *MANAGER, *PRODUCER) for name in part.split(".")}
NAMED |= {part for _, parts in CLASSES for part in parts}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and not name.endswith("_")


def own_names(tree: ast.AST) -> Iterator[str]:
    """The names that a module gives to its own functions and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            if node.value.id == "self":
                yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def foreign_names(path: Path) -> set[str]:
    """The private attributes that a module uses and doesn't have itself."""
    tree = ast.parse(path.read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)}
    return used - set(own_names(tree))


# The only other places that take a client apart.
ELSEWHERE = [ROOT / "service/pipeline/rights.py", ROOT / "service/kafka_admin/topics.py"]


@pytest.mark.parametrize("path", [*sorted((ROOT / "ingest").rglob("*.py")), *ELSEWHERE], ids=lambda path: path.stem)
def test_each_private_name_of_kafka_python_that_is_used_is_checked_for(path: Path) -> None:
    assert foreign_names(path) <= NAMED


def test_what_the_check_looks_at_is_there() -> None:
    """Otherwise it would pass whatever is used."""
    assert {"_fetcher", "_coordinator"} <= foreign_names(ROOT / "ingest/consumer/consumer.py")


class Lender:
    def __init__(self) -> None:
        self.given = "an attribute of instances alone"
        self.inner = "text"

    def lend(self) -> str:
        return self.given


def test_what_an_object_and_a_class_lack_is_named() -> None:
    refuse_lacking([(Lender, "lend"), (Lender, "given"), (Lender(), "given"), (Lender(), "inner.upper")])
    with pytest.raises(IngestError, match=r"\(Lender\.borrow, Lender\.inner\.shout\): install the version in constr"):
        refuse_lacking([(Lender, "borrow"), (Lender, "lend"), (Lender(), "inner.shout"), (Lender(), "inner.upper")])


def test_the_version_that_is_pinned_is_the_newest_that_was_tested() -> None:
    assert version("kafka-python") == TESTED[-1]
    assert f"kafka-python=={TESTED[-1]} " in (ROOT / "constraints.txt").read_text()


def test_the_version_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ingest"):
        tell_version()
    assert caplog.messages == [f"reading by kafka-python {kafka.__version__}"]


def test_a_version_that_was_not_tested_is_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "__version__", "3.9.9")
    tell_version()
    [(_, level, told)] = caplog.record_tuples
    assert level == logging.WARNING
    assert "3.9.9" in told
