import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from inference.bundle import load_bundle
from tests.training.files import write_wisdm
from training.bundles import Replaced, next_version
from training.data.datasets import read_files
from training.data.files import DataError
from training.data.recordings import ACTIVITIES
from training.evaluation.comparison import (
    Comparison,
    _differences,
    compare_bundles,
    comparison_section,
    comparison_table,
)
from training.fitting.fit_settings import FitError
from training.plan import TrainingRequest
from training.train_activity import train_activity

SITTING, WALKING = ACTIVITIES.index("Sitting"), ACTIVITIES.index("Walking")


def differences(
    old: np.ndarray, new: np.ndarray, cluster: np.ndarray, activity: np.ndarray
) -> dict[str, tuple[float, float, str]]:
    found = _differences(ACTIVITIES, activity, old, new, cluster, np.random.default_rng(1))
    return {each.label: (each.old, each.new, each.verdict) for each in found}


def test_a_difference_that_all_people_show_is_one() -> None:
    rng = np.random.default_rng(0)
    activity, person = np.repeat([SITTING, WALKING], 500), np.tile(np.arange(20), 50)
    old = rng.random(1000) < 0.7
    new = old | ((activity == WALKING) & (rng.random(1000) < 0.9))
    found = differences(old, new, person, activity)
    assert found["Walking"][2] == "better"
    assert found["Sitting"][0] == found["Sitting"][1]
    assert found["Sitting"][2] == "no telling"
    assert found["all"][2] == "better"
    assert set(found) == {"all", "Sitting", "Walking"}


def test_what_one_person_of_many_gains_is_no_proof_however_many_windows() -> None:
    """2,000 windows that got better are all of one walk: as independent witnesses they would leave no doubt."""
    activity, person = np.full(20_000, WALKING), np.repeat(np.arange(10), 2_000)
    old = np.tile([True, False], 10_000)
    new = old | (person == 3)
    assert differences(old, new, person, activity)["all"][2] == "no telling"


def test_a_class_that_few_show_is_not_judged() -> None:
    activity, person = np.full(200, WALKING), np.repeat(np.arange(20), 10)
    activity[:10] = SITTING
    old, new = np.ones(200, bool), np.ones(200, bool)
    old[:5] = False
    found = differences(old, new, person, activity)
    assert found["Sitting"] == (0.5, 1.0, "too few")


def test_a_comparison_fits_into_a_terminal_of_80_characters() -> None:
    """Its intervals were broken into two lines each."""
    activity, person = np.tile(np.arange(len(ACTIVITIES)), 3000), np.arange(3000 * len(ACTIVITIES)) % 50
    rng = np.random.default_rng(0)
    old, new = (rng.random(len(activity)) < share for share in (0.5, 0.9))
    found = _differences(ACTIVITIES, activity, old, new, person, rng)
    console = Console(width=80, record=True)
    console.print(comparison_table(Comparison("old@1", "new@2", "theirs.csv", found, "50 people")))
    shown = console.export_text()
    for each in found:
        row = [each.label, f"{each.windows:,}", f"{each.low:+.3f} to {each.high:+.3f}", each.verdict]
        assert any(all(cell in line for cell in row) for line in shown.splitlines()), row


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(7), 0
    activity, person = np.full(3_000, WALKING), np.repeat(np.arange(30), 100)
    for _ in range(40):
        gain = rng.normal(0.05, 0.1, 30)[person]  # people differ in what they gain; the mean of all people is 0.05
        old = rng.random(3_000) < 0.5
        new = rng.random(3_000) < 0.5 + gain
        (each, *_) = _differences(ACTIVITIES, activity, old, new, person, rng)
        held += each.low <= 0.05 <= each.high
    assert held >= 33


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    data = write_wisdm(folder / "data.txt")
    train_activity(TrainingRequest([data], epochs=2, seed=5), folder / "first", folder / "first-report")
    train_activity(
        TrainingRequest([data], start=folder / "first", epochs=2, seed=6), folder / "second", folder / "second-report"
    )
    return folder


def test_going_on_from_a_bundle_keeps_what_it_knows_and_is_compared_with_it(folder: Path) -> None:
    first, second = load_bundle(folder / "first"), load_bundle(folder / "second")
    assert second.manifest.normalisation == first.manifest.normalisation
    assert second.digest != first.digest
    assert second.manifest.training.data[-1].sha256 == first.digest
    assert "--start first" in second.manifest.training.command
    section = (folder / "second-report" / "report.md").read_text()
    assert "## second@2, beside first@1: WISDM v1.1" in section
    assert (
        "interval of the difference from 5 pieces of at most a minute, of 1.1 minutes of 1 person: it says little "
        "about others." in section
    )


def test_a_bundle_in_place_of_another_has_a_version_above_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was ours@5 in place of ours@5: labels of two networks named the same model."""
    request = TrainingRequest([folder / "data.txt"], start=folder / "first", epochs=1, seed=7)
    output, report = folder / "ours", folder / "ours-report"
    for resume, version in ((False, "2"), (False, "3"), (True, "4")):
        trained = train_activity(request, output, report, resume=resume, console=Console(width=200))
        assert trained.bundle.manifest.version == version
    assert re.search(rf"Bundle ours@4 in {output}, in place of ours@3 \w{{12}}; report in", capsys.readouterr().out)
    assert train_activity(request, folder / "fresh", report).bundle.manifest.version == "2"
    assert train_activity(request, output, report, version="4").bundle.manifest.version == "4"


@pytest.mark.parametrize(
    ("replaced", "expected"),
    [
        (None, "1"),
        (Replaced("ours@9", "9"), "10"),
        (Replaced("ours@1.2", "1.2"), "2"),
        (Replaced("ours@new", "new"), "1"),
        (Replaced("one that cannot be read"), "1"),
    ],
)
def test_the_next_version_is_above_what_a_folder_holds(replaced: Replaced | None, expected: str) -> None:
    assert next_version(replaced) == expected


def test_two_bundles_are_compared_on_files(folder: Path) -> None:
    first, files = load_bundle(folder / "first"), read_files([folder / "data.txt"])
    (same,) = compare_bundles(first, first, files, people=["29"])
    assert {each.verdict for each in same.differences} == {"too few"}  # a minute of each, of one person
    assert {(each.low, each.high) for each in same.differences} == {(0.0, 0.0)}
    assert [each.label for each in same.differences] == ["all", "Jogging", "Sitting", "Standing", "Walking"]
    assert "| all | " in comparison_section(same)
    with pytest.raises(DataError, match="no complete window"):
        compare_bundles(first, load_bundle(folder / "second"), files, people=["nobody"])


def test_what_cannot_be_gone_on_from_is_refused_before_the_fit(folder: Path) -> None:
    with pytest.raises(FitError, match="has a normalisation of its own"):
        train_activity(
            TrainingRequest([folder / "data.txt"], recipe="article", start=folder / "first"),
            folder / "third",
            folder / "r",
        )
