from pathlib import Path

import pytest

from service.cli import main
from service.replay.sending import ReplayError
from service.replay.texts import TextReplay
from service.without_kafka.files import ClassifyError


def replayed(path: Path, rate: float = 10.0, *, repeat: bool = False, seconds: float | None = None) -> TextReplay:
    return TextReplay(path, bootstrap_servers="nobody:1", topic="texts", rate=rate, repeat=repeat, seconds=seconds)


@pytest.fixture
def three_lines(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.txt"
    path.write_text("a gripping film\n\nit opens in June\ndull\n")
    return path


@pytest.mark.parametrize(
    ("rate", "repeat", "seconds", "length_ms"),
    [
        (10.0, False, None, 300),
        (10.0, False, 0.15, 200),
        (10.0, False, 60, 300),
        (10.0, True, 60, 60_000),
        (10.0, True, None, None),
        (3.0, True, 1, 1000),
        (0.0, False, None, 3),
    ],
)
def test_a_replay_lasts_as_long_as_its_texts_or_as_it_may(
    three_lines: Path, rate: float, repeat: bool, seconds: float | None, length_ms: float | None
) -> None:
    length = replayed(three_lines, rate, repeat=repeat, seconds=seconds).length_ms
    assert length == (length_ms if length_ms is None else pytest.approx(length_ms))


def test_as_fast_as_possible_without_an_end_is_refused(three_lines: Path) -> None:
    with pytest.raises(ReplayError, match="give a --rate"):
        replayed(three_lines, 0.0, repeat=True)


def test_a_line_that_the_worker_would_refuse_is_named(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"id": "a", "text": "good"}\n{"id": "b"}\n')
    with pytest.raises(ClassifyError, match=r"reviews.jsonl, line 2: "):
        replayed(path)


def test_a_csv_is_refused_for_its_header_and_quotes_would_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text('text,label\n"broken, and late",complaint\n')
    with pytest.raises(ClassifyError, match=r"tickets\.csv is a CSV: texts go into a \.txt, one a line, or a \.jsonl"):
        replayed(path)


def test_a_text_may_be_as_long_as_the_worker_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The replay refused what is longer than the default, whatever text.max_bytes said."""
    path = tmp_path / "pages.txt"
    path.write_text("x" * 70_000)
    sent = []
    monkeypatch.setattr("service.commands.replay.replay", lambda sending, stop: sent.append(sending.length_ms))
    assert main(["replay", "--texts", str(path), "--text.max-bytes", "70000"]) == 0
    assert sent == [100]
    assert main(["replay", "--texts", str(path)]) == 1
    assert "65536 is the limit" in capsys.readouterr().err


def test_a_replay_of_endless_seconds_is_refused(three_lines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ended with a traceback: OverflowError."""
    assert main(["replay", "--texts", str(three_lines), "--seconds", "inf"]) == 2
    assert "seconds = 'inf'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--texts", "reviews.txt", "--devices", "3"], "--devices is for readings, and --texts sends texts"),
        (["--rate", "3"], "--rate goes with --texts"),
        (["--repeat"], "--repeat is for a file: synthetic people never end"),
        (["--source", "wisdm.txt", "--seed", "1"], "--seed is of synthetic people, and --source is a file"),
        (["--chunk-seconds", "1"], "--chunk-seconds is for --form chunk or binary: a sample is one reading"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *flags]) == 2
    assert capsys.readouterr().err == f"stridecast replay: {says}\n"
