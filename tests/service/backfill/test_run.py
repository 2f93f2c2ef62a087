import io
import logging
import sys

import pytest
from rich.console import Console

from service.backfill.run import _display
from service.host.progress import Reached


class Errors(io.StringIO):
    """What stands for the standard error: a terminal, or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("bar", "errors_on_a_terminal", "level"),
    [(True, True, logging.WARNING), (True, False, logging.INFO), (False, True, logging.INFO)],
)
def test_a_terminal_with_a_bar_gets_warnings_alone_and_whatever_else_takes_the_log_all_of_it(
    bar: bool, errors_on_a_terminal: bool, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    monkeypatch.setattr(sys, "stderr", Errors(errors_on_a_terminal))
    shown = io.StringIO()
    try:
        with _display(Console(file=shown, width=100, force_terminal=bar), "text") as show:
            assert logging.getLogger().level == level
            show(Reached(5, 20, 60.0, "5 of 20 records"))
        assert logging.getLogger().level == logging.INFO
    finally:
        logging.getLogger().handlers[:], level_before = before
        logging.getLogger().setLevel(level_before)
    assert "5 of 20 records" in shown.getvalue()
    assert ("━" in shown.getvalue()) == bar
