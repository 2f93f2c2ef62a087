"""The protocol `minutes`: who is labelled in each round, how much that is, and what the report says."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from inference.bundle import load_bundle
from inference.manifest import DataSet
from service.cli import main
from tests.inference.bundles import har_bundle
from tests.training.files import write_csv
from tests.training.signals import swinging
from training.activity_model.recipes import RECIPES
from training.data.datasets import read_file
from training.data.files import DataError, sha256
from training.data.held_out import split_by_name
from training.data.minutes import minutes_of
from training.data.recordings import (
    ACTIVITIES,
    DEFAULT_LABELS,
    FIRST_MIXED,
    OTHER_ACTIVITY,
    DataFile,
    Labels,
    Recording,
)
from training.evaluation.evaluate import evaluate
from training.fitting.scores import score
from training.plan import TrainingRequest
from training.protocols.folds import FoldResult
from training.protocols.minutes_report import points
from training.protocols.protocol import run_protocol
from training.protocols.rounds import Round, rounds, sizes

DEFAULT = RECIPES["default"]
SHOWN = ("Walking", "Jogging", "Sitting")


def data_set(name: str, people: list[str]) -> DataFile:
    recordings = tuple(swinging("Walking", person, dataset=name) for person in people)
    return DataFile(f"{name}.csv", name, "csv", name, recordings, {})


def numbers(last: int) -> list[str]:
    return [str(number) for number in range(1, last + 1)]


def named(recordings: list[Recording]) -> set[str]:
    return {recording.person for recording in recordings}


def who_tests(each: Round) -> set[str]:
    ((_, recordings),) = each.split.test
    return named(recordings)


# --- who is labelled -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("people", "expected"),
    [(2, [2]), (3, [2, 3]), (4, [2, 4]), (5, [2, 4, 5]), (8, [2, 4, 8]), (15, [2, 4, 8, 15]), (17, [2, 4, 8, 16, 17])],
)
def test_people_are_labelled_two_four_eight_and_so_on_and_all(people: int, expected: list[int]) -> None:
    assert sizes(people) == expected


def test_who_tests_is_always_the_same_and_each_order_adds_people_to_those_it_had() -> None:
    found = list(rounds([data_set("ours", numbers(14))], DEFAULT, "minutes", seed=4))
    assert [who_tests(each) for each in found] == [{"1", "7", "12", "14"}] * 13
    bundle, *fitted = found
    assert not bundle.labelled_people
    assert [len(each.labelled_people) for each in fitted] == [2, 4, 8, 10] * 3
    orders = [[each.labelled_people for each in fitted[start : start + 4]] for start in (0, 4, 8)]
    for order in orders:
        assert order[0] < order[1] < order[2] < order[3] == set(numbers(14)) - {"1", "7", "12", "14"}
    assert len({frozenset(order[1]) for order in orders}) == 3
    assert [each.seed for each in found] == [4] * 5 + [5] * 4 + [6] * 4


def test_of_those_who_are_labelled_somebody_validates_as_with_a_user_who_has_no_more() -> None:
    for each in rounds([data_set("ours", numbers(14))], DEFAULT, "minutes", seed=4):
        if each.labelled_people:
            validating = named(each.split.validation)
            assert validating == set(split_by_name(each.labelled_people | who_tests(each)).validation)
            assert named(each.split.train) == each.labelled_people - validating
            assert each.split.train


@pytest.mark.parametrize("numbered", [range(1, 16), (1, 2, 5, 10, 12, 15)])
def test_of_a_public_set_the_list_says_who_validates_as_far_as_it_goes(numbered: Iterable[int]) -> None:
    people = [f"h{number:02d}" for number in numbered]
    recordings = tuple(swinging("Walking", person[1:], dataset="hugadb_thigh") for person in people)
    renamed = tuple(
        Recording("hugadb_thigh", f"h{r.person}", r.placement, r.activity, r.t_ms, r.xyz) for r in recordings
    )
    file = DataFile("", "", "csv", "hugadb_thigh", renamed, {})
    found = [each for seed in range(4) for each in rounds([file], DEFAULT, "minutes", seed=seed)]
    assert all(who_tests(each) == {"h05", "h10", "h15"} for each in found)
    fitted = [each for each in found if each.labelled_people]
    for each in fitted:
        listed = each.labelled_people & {"h02", "h12"}
        assert len(each.labelled_people) == 2 or not listed or named(each.split.validation) == listed
        assert 0 < len(named(each.split.validation)) < len(each.labelled_people)
    if len(people) == 6:
        assert {"h02", "h12"} in [each.labelled_people for each in fitted]  # one of them trains then


def test_all_data_sets_have_their_first_order_before_any_has_its_second() -> None:
    files = [data_set("ours", numbers(5)), data_set("theirs", numbers(4))]
    names = [each.name for each in rounds(files, DEFAULT, "minutes", seed=0)]
    assert names[:6] == [
        "ours, the bundle itself",
        "ours, order 1 of 3, 2 people",
        "ours, order 1 of 3, 4 people",
        "theirs, the bundle itself",
        "theirs, order 1 of 3, 2 people",
        "theirs, order 1 of 3, 3 people",
    ]
    assert names[6] == "ours, order 2 of 3, 2 people"


def test_who_shows_no_complete_window_is_nobody_to_label() -> None:
    """Whoever validated alone without one would end a run that had gone on for hours."""
    file = data_set("ours", numbers(6))
    short = tuple(swinging("Walking", "8", seconds=3, dataset="ours") for _ in range(3))
    with_short = DataFile("ours.csv", "", "csv", "ours", (*file.recordings, *short), {})
    assert all("8" not in each.labelled_people for each in rounds([with_short], DEFAULT, "minutes", seed=0))


def test_too_few_people_are_refused() -> None:
    for people in (["1"], ["1", "2"]):
        with pytest.raises(DataError, match="ours: `minutes` takes three people with complete windows"):
            rounds([data_set("ours", people)], DEFAULT, "minutes", seed=0)


# --- how much it is ------------------------------------------------------------------------------


def test_minutes_are_of_what_is_learned_from_without_holes_and_other_activities() -> None:
    walking, sitting = ACTIVITIES.index("Walking"), ACTIVITIES.index("Sitting")
    parts = [(walking, 60), (OTHER_ACTIVITY, 60), (sitting, 30), (FIRST_MIXED, 90)]
    activity = np.concatenate([np.full(20 * seconds, code, np.int8) for code, seconds in parts])
    t_ms = 50 * np.arange(len(activity))
    t_ms[600:] += 100_000  # a hole, half a minute into the walk
    recording = Recording("ours", "1", "pocket", activity, t_ms, np.zeros((len(t_ms), 3), np.float32))
    total, of_each = minutes_of([recording, recording], DEFAULT_LABELS)
    assert total == pytest.approx(6.0, abs=0.01)
    assert of_each == pytest.approx({**dict.fromkeys(ACTIVITIES, 0.0), "Walking": 2.0, "Sitting": 1.0}, abs=0.01)


def result_of(number: int, right: int) -> FoldResult:
    """Of ten windows, all of walking, so many are right."""
    probabilities = np.zeros((10, 6), np.float32)
    probabilities[:right, ACTIVITIES.index("Walking")] = 1
    truth = np.full(10, ACTIVITIES.index("Walking"))
    return FoldResult("ours", number, score(ACTIVITIES, truth, probabilities), 1, 1, 0.0)


def test_a_point_is_all_orders_with_as_many_people_as_far_as_they_have_been_run() -> None:
    planned = list(rounds([data_set("ours", numbers(5))], DEFAULT, "minutes", seed=0))
    found = points(planned, [result_of(number, right) for number, right in ((0, 4), (1, 5), (2, 9), (3, 7))])
    assert [(point.people, point.accuracy) for point in found] == [(0, (0.4,)), (2, (0.5, 0.7)), (4, (0.9,))]
    assert [point.minutes for point in found] == pytest.approx([0, 1, 2], abs=0.01)
    assert found[1].fewest == "Walking"  # nobody who tests shows another one


# --- the whole -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minutes")
    har_bundle(folder / "start")
    write_csv(folder / "mi|ne.csv", SHOWN, ("1", "2", "3", "4"))
    return folder


def run(folder: Path, report: Path, *more: str) -> int:
    data, start = str(folder / "mi|ne.csv"), str(folder / "start")
    arguments = ["--data", data, "--start", start, "--report", str(report), "--epochs", "1"]
    return main(["train", "activity", "--protocol", "minutes", *arguments, *more])


def test_the_report_has_the_bundles_own_score_and_what_more_people_buy(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path) == 0
    metrics = json.loads((tmp_path / "minutes.json").read_text())
    results = metrics["results"]["mi|ne"]
    itself, two, three = results["points"]
    file = read_file(folder / "mi|ne.csv")
    (own,) = [evaluate(load_bundle(folder / "start"), file, [r for r in file.recordings if r.person == "1"])]
    assert (itself["people"], itself["accuracy"]) == (0, [own.scores.accuracy])
    assert (two["people"], len(two["accuracy"])) == (2, 3)
    assert (three["people"], len(three["accuracy"])) == (3, 3)
    assert two["minutes"] == pytest.approx(2 * 3 * 16 / 60, abs=0.02)
    assert three["minutes_of_each"]["Sitting"] == pytest.approx(3 * 16 / 60, abs=0.02)
    text = (tmp_path / "minutes.md").read_text()
    assert "# What labelling buys tiny-har@1.0\n" in text
    assert f"## mi\\|ne: {results['windows']} windows of test people\n" in text
    assert f"| 0 | 0.0 |  | 1 | {own.scores.accuracy:.3f} | {own.scores.macro_f1:.3f} |" in text
    assert "| 2 | 1.6 | 0.5 of " in text
    assert "| people | minutes of Jogging | minutes of Sitting | minutes of Walking |" in text
    assert (tmp_path / "minutes.png").read_bytes().startswith(b"\x89PNG")


def test_rounds_that_are_there_are_kept_unless_they_are_of_another_bundle(folder: Path, tmp_path: Path) -> None:
    def seconds(start: Path, *, resume: bool) -> list[float]:
        found = run_protocol(
            TrainingRequest([folder / "mi|ne.csv"], start=start, epochs=1),
            tmp_path / "report",
            "minutes",
            resume=resume,
        )
        return [one.seconds for one in found["mi|ne"]]

    har_bundle(tmp_path / "other", seed=1)
    first = seconds(folder / "start", resume=False)
    assert len(first) == 1 + 3 * 2
    assert seconds(folder / "start", resume=True) == first
    assert seconds(tmp_path / "other", resume=True) != first


def test_a_bundle_of_other_labels_has_no_score_of_its_own(folder: Path, tmp_path: Path) -> None:
    labels = Labels(("Walking", "Sitting"))
    found = run_protocol(
        TrainingRequest([folder / "mi|ne.csv"], labels=labels, start=folder / "start", epochs=1), tmp_path, "minutes"
    )
    assert len(found["mi|ne"]) == 3 * 2
    assert "| 0 |" not in (tmp_path / "minutes.md").read_text()


def test_that_the_bundle_has_learned_from_them_already_is_reported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = load_bundle(folder / "start").manifest.training
    seen = DataSet(name="mine", sha256=sha256(folder / "mi|ne.csv"))
    har_bundle(tmp_path / "taught", training=training.model_copy(update={"data": (seen,)}))
    run_protocol(
        TrainingRequest([folder / "mi|ne.csv"], start=tmp_path / "taught", epochs=1),
        tmp_path / "report",
        "minutes",
        console=Console(width=200),
    )
    assert "tiny-har@1.0 has learned from people of mi|ne.csv" in capsys.readouterr().out
    text = (tmp_path / "report" / "minutes.md").read_text()
    assert "## Warnings\n\n- tiny-har@1.0 has learned from people of mi\\|ne.csv" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["minutes"], "--protocol minutes goes on from a bundle: name it with --start, such as har-cnn"),
        (["people", "--start", "har-cnn"], "--protocol people fits new networks: leave out --start"),
        (["minutes", "--start", "har-cnn", "--version", "2"], "--protocol writes no bundle: leave out --version"),
        (["minutes", "--start", "har-cnn", "--recipe", "article"], "has a normalisation of its own"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], says: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(folder / "mi|ne.csv"), "--report", str(tmp_path / "report")]
    assert main(["train", "activity", *data, "--protocol", *arguments]) == 1
    assert says in capsys.readouterr().err
