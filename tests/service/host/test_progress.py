"""Of work that takes long, a terminal shows a bar, and a file gets a line now and then."""

import io

import pytest
from rich.console import Console

from service.host.progress import Reached, progress_shown

MOMENTS = [0.0, 4.9, 5.0, 9.9, 10.1]


@pytest.mark.parametrize(
    ("total", "lines"),
    [(20, ["25%: 5 sent", "50%: 10 sent"]), (None, ["5 sent", "10 sent"]), (0, ["5 sent", "10 sent"])],
)
def test_elsewhere_a_line_is_written_every_five_seconds(total: float | None, lines: list[str]) -> None:
    written = io.StringIO()
    with progress_shown(Console(file=written), "connecting") as show:
        for seconds in MOMENTS:
            show(Reached(int(seconds), total, seconds, f"{seconds:.0f} sent"))
    assert written.getvalue().splitlines() == lines


def test_on_a_terminal_a_bar_says_what_begins_and_then_how_far_it_is() -> None:
    written = io.StringIO()
    with progress_shown(Console(file=written, width=100, force_terminal=True), "connecting") as show:
        show(Reached(5, 20, 1.0, "5 sent"))
    assert "connecting" in written.getvalue()
    assert "5 sent" in written.getvalue()
    assert "━" in written.getvalue()
