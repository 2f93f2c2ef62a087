"""The rooms know only their subjects: who may import whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "ingest": {"windowing", "inference", "service", "training", "torch"},
    "windowing": {"ingest", "inference", "service", "training", "torch", "kafka", "time", "datetime"},
    "inference": {"ingest", "windowing", "service", "training", "kafka", "time"},
    "training": {"ingest", "service", "kafka"},
}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_that_is_not_its_subject(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    seen = {(str(path.relative_to(ROOT)), name) for path in files for name in imported(path)}
    assert {(path, name) for path, name in seen if name in FORBIDDEN[room]} == set()
