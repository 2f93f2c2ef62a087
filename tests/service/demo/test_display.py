"""What the demo shows on a terminal."""

import io

from rich.console import Console

from service.demo.display import view
from service.demo.label_scores import LabelScores
from service.demo.rates import Rates
from service.replay.run import Replay
from service.replay.synthesiser import SyntheticFleet


def _shown(devices: int, height: int) -> list[str]:
    """The lines that a terminal of 80 columns shows when each device has got a label."""
    replay = Replay(SyntheticFleet(devices), bootstrap_servers="127.0.0.1:1", topic="readings")
    scores = LabelScores(replay)
    for device_id in replay.fleet.device_ids:
        label = {"device_id": device_id, "activity": "Downstairs", "confidence": 0.5}
        scores.take({**label, "window_start": 0, "window_end": 4000})
    screen = io.StringIO()
    Console(file=screen, width=80, height=height).print(view(scores, Rates("http://127.0.0.1:1/m"), replay, height))
    return screen.getvalue().splitlines()


def test_the_view_fits_a_terminal_and_says_what_it_leaves_out() -> None:
    lines = _shown(devices=1000, height=24)
    assert len(lines) == 23
    assert [line for line in lines if "synthetic-0-00015" in line]
    assert [line for line in lines if "and 985 more" in line]
    assert lines[-1].strip() == "synthetic: the truth is known; labels may be wrong"


def test_the_view_of_few_devices_shows_all_of_them() -> None:
    lines = _shown(devices=3, height=24)
    assert len([line for line in lines if "synthetic-0-0000" in line]) == 3
    assert "more" not in "".join(lines)


def test_a_terminal_of_a_few_lines_still_gets_a_device() -> None:
    assert [line for line in _shown(devices=5, height=4) if "synthetic-0-00001" in line]


def test_bars_of_confidence_begin_in_the_same_column() -> None:
    (row,) = (line for line in _shown(devices=1, height=24) if "synthetic-0-00001" in line)
    assert "│ █████      0.50 │" in row
