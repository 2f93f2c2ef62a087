"""Whom a bundle has learned from is told by name, so that the others can be named with --people."""

from pathlib import Path

import pytest

from service.cli import main
from tests.training.files import write_csv

PEOPLE = ("df_a", "df_b", "df_c", "df d")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learned")
    write_csv(folder / "ours.csv", ["walking", "Cycling"], PEOPLE)
    write_csv(folder / "more.csv", ["walking", "Cycling"], ["x", "y"])
    for name, data in (("ours", ["ours.csv"]), ("both", ["ours.csv", "more.csv"])):
        words = ["--data", *(str(folder / each) for each in data), "--labels", "Walking", "Cycling", "--epochs", "1"]
        assert main(["train", "activity", *words, "--output", str(folder / name)]) == 0
    return folder


def evaluated(folder: Path, *words: str, data: str = "ours.csv") -> int:
    return main(["evaluate", "--data", str(folder / data), *words])


def test_evaluate_names_whom_a_bundle_has_learned_from_and_whom_to_score(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said to name others with --people, but not who they were."""
    assert evaluated(folder, "--bundle", str(folder / "ours")) == 0
    shown = capsys.readouterr().out
    assert "ours@1 has learned from people of ours.csv: df d, df_c trained; df_a validated; df_b tested.\n" in shown
    assert "To score only those who neither trained nor validated: --people df_b\n" in shown
    assert "other files" not in shown
    assert evaluated(folder, "--bundle", str(folder / "ours"), "--people", "df_a") == 0
    assert "has learned from" not in capsys.readouterr().out


def test_whom_either_of_two_compared_bundles_has_learned_from_is_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the first one's people were thought of, and the other one's head start was taken for skill."""
    bundles = ("--bundle", str(folder / "ours"), "--against", str(folder / "both"))
    assert evaluated(folder, *bundles, data="more.csv") == 0
    shown = capsys.readouterr().out
    assert "both@1 has learned from people of more.csv: " in shown
    assert "both@1 has learned from other files, too: who is also in them may have had another part." in shown
    assert "ours@1 has learned" not in shown
    assert "Everybody in the data trained or validated: a score" in shown


def test_a_public_sets_people_have_their_part_whatever_else_was_learned_from(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "difronzo_pocket.csv", ["walking", "Cycling"], ["df_a", "df_b", "df_d"])
    words = ["--data", str(data), str(folder / "more.csv"), "--labels", "Walking", "Cycling", "--epochs", "1"]
    assert main(["train", "activity", *words, "--output", str(tmp_path / "own")]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--data", str(data), "--bundle", str(tmp_path / "own")]) == 0
    shown = capsys.readouterr().out
    assert "people of difronzo_pocket.csv: df_a trained; df_b validated; df_d tested.\nTo score only" in shown


def test_training_tells_at_its_end_who_tests(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(folder / "ours.csv"), "--labels", "Walking", "Cycling", "--epochs", "1"]
    assert main(["train", "activity", *words, "--output", str(tmp_path / "own")]) == 0
    *_, people_line, last = capsys.readouterr().out.splitlines()
    assert people_line == "Test people of ours.csv, who neither trained nor validated: df_b"
    assert last.startswith("Bundle own@1 in ")
