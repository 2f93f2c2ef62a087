"""Labels of one's own, from a file's rows to a bundle, its scores and what goes on from it."""

import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.control import strip_control_codes

from inference.bundle import Bundle, find_bundle, load_bundle
from service.cli import main
from tests.inference.bundles import har_bundle, text_bundle
from tests.training.files import write_csv
from training.activity_model.fit_activity import _transferred_weights, identity_of
from training.activity_model.recipes import RECIPES
from training.bundles import replaced_bundle, warnings_of_replaced
from training.data.datasets import read_file, read_files
from training.data.files import DataError
from training.data.recordings import ACTIVITIES, DEFAULT_LABELS, FIRST_MIXED, OTHER_ACTIVITY, Labels, is_label
from training.evaluation.comparison import compare_bundles
from training.evaluation.evaluate import evaluate, labels_of, load_activity_bundle
from training.fitting.fit_settings import FitError
from training.fitting.networks import new_network
from training.plan import TrainingRequest
from training.protocols.protocol import run_protocol
from training.train_activity import train_activity

OWN = ("Walking", "Cycling", "Lying down")

# --- names ---------------------------------------------------------------------------------------


def test_a_name_is_known_however_it_is_capitalised_and_other_activities_are_others() -> None:
    labels = Labels(OWN)
    assert [labels.code(name) for name in ("Walking", "CYCLING", "lying down")] == [0, 1, 2]
    assert labels.code("Lying  down") == labels.code("Jogging") == labels.code("StandingArms") == OTHER_ACTIVITY


def test_stairs_of_unknown_direction_mean_two_labels_where_both_are_there() -> None:
    labels = Labels(("Upstairs", "Walking", "downstairs"))
    assert labels.code("stairsmixed") == FIRST_MIXED
    assert labels.candidates()[FIRST_MIXED].tolist() == [True, False, True]
    assert labels.candidates()[:3].tolist() == np.eye(3, dtype=bool).tolist()
    assert is_label(np.array([0, 2, FIRST_MIXED, OTHER_ACTIVITY])).tolist() == [True, True, False, False]
    assert Labels(("Upstairs", "Walking")).code("StairsMixed") == OTHER_ACTIVITY


def test_a_label_is_what_it_says_first_of_all() -> None:
    labels = Labels(("Downstairs", "Upstairs", "StairsMixed", "Standing", "StandingArms"))
    assert (labels.code("StairsMixed"), labels.code("StandingArms")) == (2, 4)
    assert Labels(("Standing", "Walking")).code("StandingArms") == 0


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("Walking",), "2 to 64 labels apart, not 1"),
        (("Walking,Cycling",), "not 1: part Walking,Cycling by spaces, not commas"),
        (tuple(map(str, range(65))), "2 to 64 labels apart, not 65"),
        (("Walking", "Cycling", "walking"), "the label 'Walking' is there twice"),
        (("Walking", ""), "'' can't be a label"),
        (("Walking", " Cycling"), "' Cycling' can't be a label"),
        (("Walking", "Lying\ndown"), r"'Lying\\ndown' can't be a label"),
        (("Walking", "x" * 101), "can't be a label: it takes 1 to 100 characters"),
    ],
)
def test_names_that_cannot_be_a_models_labels_are_refused(names: tuple[str, ...], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Labels(names)


# --- files ---------------------------------------------------------------------------------------


def test_a_csv_is_read_by_the_labels_that_are_asked_for(tmp_path: Path) -> None:
    file = read_file(write_csv(tmp_path / "mine.csv", people=("1",)), labels=Labels(OWN))
    assert [recording.activity[0] for recording in file.recordings] == [0, 1, 2, OTHER_ACTIVITY]
    assert file.others == {"Sweeping": 320}
    assert file.labels.names == OWN


def test_a_name_of_a_hundred_characters_is_read_in_any_script(tmp_path: Path) -> None:
    long = "歩" * 100
    path = tmp_path / "mine.csv"
    path.write_text(f"person,activity,timestamp,x,y,z\np,{long},0,1,2,3\np,Walking,50,1,2,3\n", encoding="utf-8")
    (recording,) = read_file(path, labels=Labels(("Walking", long))).recordings
    assert recording.activity.tolist() == [1, 0]


def test_a_file_without_any_of_the_labels_says_what_it_has_and_the_flag(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", ["Sweeping", "Lying still"])
    says = r"none of the activities Downstairs, .*: it says Sweeping, Lying still; to learn all that the data show, "
    with pytest.raises(DataError, match=says + r"`train activity` takes --labels 'Lying still' Sweeping$"):
        read_files([path])


def test_a_name_in_brackets_is_shown_while_its_file_is_read(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    read_files([write_csv(tmp_path / "a [bold] day.csv", ["Walking"])], console)
    assert "Reading a [bold] day.csv" in strip_control_codes(console.file.getvalue())  # type: ignore[attr-defined]


# --- training ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    data = str(write_csv(folder / "mine.csv"))
    arguments = ["--data", data, "--output", str(folder / "own"), "--epochs", "1", "--labels", *OWN]
    assert main(["train", "activity", *arguments]) == 0
    return folder


def test_a_bundle_tells_the_labels_that_it_was_asked_for(folder: Path) -> None:
    manifest = load_bundle(folder / "own").manifest
    assert manifest.labels == OWN
    assert manifest.architecture.arguments == {"classes": 3}
    assert manifest.transitions is not None
    assert [len(row) for row in manifest.transitions] == [3, 3, 3]
    assert manifest.population is not None
    assert manifest.population.shares == pytest.approx([1 / 3] * 3, abs=0.1)
    assert manifest.tells_strangers
    assert manifest.training.command == (
        "stridecast train activity --data mine.csv --recipe default --epochs 1 --seed 0 --precision float32 "
        "--labels Walking Cycling 'Lying down'"
    )


def test_its_report_is_of_these_labels_and_other_activities_are_the_recorded_ood_samples(folder: Path) -> None:
    metrics = json.loads((folder / "own-report" / "metrics.json").read_text())
    (test,) = metrics["test"]
    assert test["people"] == ["1"]
    assert test["labels"] == metrics["validation"]["labels"] == list(OWN)
    assert np.shape(test["confusion"]) == (3, 3)
    assert test["windows_of_other_activities_left_out"] > 0
    recorded = [some for some in test["familiarity"]["strangers"] if some["origin"] == "recorded"]
    assert [some["name"] for some in recorded] == ["Sweeping"]
    assert "| Lying down |" in (folder / "own-report" / "report.md").read_text()


def test_evaluating_it_reads_files_by_its_own_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--bundle", str(folder / "own"), "--data", str(folder / "mine.csv")]) == 0
    shown = capsys.readouterr().out
    assert "Lying down" in shown
    assert "Jogging" not in shown


def test_files_read_by_other_labels_are_not_scored(folder: Path, tmp_path: Path) -> None:
    bundle = load_bundle(folder / "own")
    file = read_file(write_csv(tmp_path / "six.csv", ["Walking", "Sitting"]))
    with pytest.raises(DataError, match=r"own@1 tells Walking, Cycling, Lying down, but six\.csv was read by others"):
        evaluate(bundle, file, file.recordings)


def test_bundles_of_other_labels_are_not_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    six = har_bundle(tmp_path / "six")
    data = folder / "mine.csv"
    why = r"with other labels there is nothing to compare"
    with pytest.raises(DataError, match=why):
        compare_bundles(six, load_bundle(folder / "own"), read_files([data], labels=Labels(OWN)))
    arguments = ["--bundle", str(folder / "own"), "--against", str(tmp_path / "six"), "--data", str(data)]
    assert main(["evaluate", *arguments]) == 1
    shown = capsys.readouterr()
    assert why in shown.err
    assert "accuracy" not in shown.out  # it is said before anything is scored


def test_a_model_of_other_frames_or_labels_is_not_scored_on_recordings(tmp_path: Path) -> None:
    text_bundle(tmp_path / "text")
    with pytest.raises(DataError, match="is a model of texts"):
        load_activity_bundle(tmp_path / "text")
    odd = har_bundle(tmp_path / "odd", labels=("a", "A", "b", "c", "d", "e"))
    with pytest.raises(DataError, match=r"tiny-har@1\.0: the label 'a' is there twice"):
        labels_of(odd)


def test_what_nobody_shows_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "mine.csv", ["walking", "Cycling"])
    labels = Labels(("Walking", "Cycling", "Laying [down], $_$"))
    train_activity(
        TrainingRequest([data], labels=labels, epochs=1),
        tmp_path / "own",
        tmp_path / "report",
        console=Console(width=200),
    )
    shown = capsys.readouterr().out
    lacks = "No training data for Laying [down], $_$: the new model will not know it; --labels can leave it out.\n"
    assert lacks in shown
    assert re.search(r"Laying \[down\], \$_\$ +│ +-", shown)  # no markup, and none that stops the pictures


def test_only_a_label_that_the_old_bundle_knows_may_be_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "mine.csv", ["walking", "Cycling"])
    labels = Labels(("Walking", "Cycling", "jogging", "Skipping"))
    request = TrainingRequest([data], labels=labels, start=find_bundle("har-cnn"), epochs=1)
    train_activity(request, tmp_path / "own", tmp_path / "report", console=Console(width=200))
    shown = capsys.readouterr().out
    for lacks in ("jogging: the new model may forget it", "Skipping: the new model will not know it"):
        assert f"No training data for {lacks}; --labels can leave it out.\n" in shown


def test_labels_that_nobody_tests_and_a_bundle_of_others_that_is_replaced_are_told_of(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "mine.csv", ["walking", "Cycling"])
    lines = data.read_text().splitlines()
    data.write_text("\n".join(line for line in lines if not line.startswith("1,Cycling")) + "\n")
    before = har_bundle(tmp_path / "own")
    request = TrainingRequest([data], labels=Labels(("Walking", "Cycling")), epochs=1)
    train_activity(request, tmp_path / "own", tmp_path / "report")
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["warnings"] == [
        f"{tmp_path}/own holds tiny-har@1.0 {before.digest[:12]}, which tells Downstairs, Jogging, Sitting, Standing, "
        "Upstairs, Walking. The new bundle takes its place and tells Walking, Cycling: a worker that serves this "
        "folder will say other labels",
        "Nobody who tests shows Cycling: how well the model tells it is not known",
        "The test is of 1 person: its scores say little about others; --protocol people tests on everybody in turn",
    ]


def test_a_bundle_with_the_same_labels_in_another_order_is_replaced_without_a_warning(tmp_path: Path) -> None:
    har_bundle(tmp_path / "own")
    replaced = replaced_bundle(tmp_path / "own")
    assert warnings_of_replaced(tmp_path / "own", replaced, ACTIVITIES[::-1]) == []
    assert len(warnings_of_replaced(tmp_path / "own", replaced, ACTIVITIES[1:])) == 1


def cut_short(path: Path, activity: str, seconds: float) -> Path:
    """Leave so many seconds of an activity in a CSV, of each person."""
    lines = [line.split(",") for line in path.read_text().splitlines()]
    kept = [line for line in lines if line[1] != activity or float(line[3]) < 1000 * seconds + float(lines[1][3])]
    path.write_text("\n".join(map(",".join, kept)) + "\n")
    return path


def test_a_label_with_less_than_a_window_is_not_learned_and_said_to_be_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was learned from 0 windows without a word."""
    data = cut_short(write_csv(tmp_path / "mine.csv", ["walking", "Cycling", "Stairs"]), "Stairs", 3)
    train_activity(
        TrainingRequest([data], labels=Labels(("Walking", "Cycling", "Stairs")), epochs=1),
        tmp_path / "own",
        tmp_path / "report",
        console=Console(width=300),
    )
    assert (
        "No complete window of Stairs by anybody who trains, which takes 4 s of one activity without a gap: the new "
        "model will not know it; --labels can leave it out.\n"
    ) in capsys.readouterr().out

    with pytest.raises(DataError, match=r"^Stairs: no complete window of anybody who trains, which takes 4 s of one"):
        train_activity(
            TrainingRequest([data], labels=Labels(("Walking", "Stairs"))), tmp_path / "two", tmp_path / "report-2"
        )


def test_data_that_mostly_show_other_activities_are_refused_with_the_labels_to_add(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --labels it learned Walking alone, of three activities, and ended well with an accuracy of 0.991."""
    data = write_csv(tmp_path / "own.csv", ["walking", "Stairs", "Lying still"])
    har_bundle(tmp_path / "six")
    words = ["--data", str(data), "--output", str(tmp_path / "own"), "--epochs", "1"]
    assert main(["train", "activity", *words, "--start", str(tmp_path / "six")]) == 1
    assert capsys.readouterr().err == (
        "stridecast train activity: 1,920 of 2,880 readings are of activities that are not among the labels "
        "Downstairs, Jogging, Sitting, Standing, Upstairs, Walking: to learn all that the data show, add "
        "--labels Walking 'Lying still' Stairs; to go without the others, name the labels with --labels\n"
    )
    assert main(["train", "activity", *words, "--protocol", "people"]) == 1
    assert "add --labels Walking" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"own.csv", "six"}  # no empty report


def test_activities_that_were_left_out_by_name_may_be_most_of_the_data(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "own.csv", ["walking", "Cycling", "Stairs", "Lying still", "Sweeping"])
    request = TrainingRequest([data], labels=Labels(("Walking", "Cycling")), epochs=1)
    assert len(request.plan().read()) == 1
    with pytest.raises(DataError, match=r"add --labels Walking Cycling 'Lying still' Stairs Sweeping;"):
        dataclasses.replace(request, labels=None).plan().read()


@pytest.mark.parametrize(
    ("written", "labels", "says"),
    [
        (
            ["walking", "Cycling"],
            ("Walking", "Biking"),
            "only Walking of the labels has training data, and a model tells at least two labels apart: "
            "to learn all that the data show, add --labels Walking Cycling",
        ),
        (["walking"], DEFAULT_LABELS.names, "apart: add recordings of further activities by people who train"),
    ],
)
def test_fewer_than_two_labels_with_training_data_are_refused_before_the_fit(
    written: list[str], labels: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    data = write_csv(tmp_path / "own.csv", written)
    with pytest.raises(DataError, match=says):
        train_activity(TrainingRequest([data], labels=Labels(labels)), tmp_path / "own", tmp_path / "report")


def test_names_that_markdown_takes_for_its_own_break_no_table_and_stop_no_picture(tmp_path: Path) -> None:
    """A bar in a label, as in "up|down", made a cell of its own, and a formula in a file's name ended the report."""
    data = write_csv(tmp_path / "our|own $_$.csv", ["up|down", "Cycling", "a [bus](x)"])
    labels = Labels(("Up|down", "Cycling"))
    trained = train_activity(TrainingRequest([data], labels=labels, epochs=1), tmp_path / "own", tmp_path / "report")
    train_activity(TrainingRequest([data], start=tmp_path / "own", epochs=1), tmp_path / "next", tmp_path / "report-2")
    run_protocol(TrainingRequest([data], labels=labels, epochs=1), tmp_path / "judged", "seeds")
    text = (tmp_path / "report-2" / "report.md").read_text()
    assert trained.bundle.manifest.labels == labels.names
    assert "## our\\|own \\$\\_\\$, people 1\n" in text
    assert "## next@2, beside own@1: our\\|own \\$\\_\\$\n" in text
    assert "| a \\[bus\\](x) | recorded |" in text
    for line in text.splitlines():
        if line.startswith("| Up"):
            assert line.startswith("| Up\\|down | ")
    assert "| seeds | our\\|own \\$\\_\\$ |" in (tmp_path / "judged" / "judged.md").read_text()
    assert (tmp_path / "judged" / "judged.png").exists()
    unused = "our|own $_$.csv: readings of no activity that is learned: 960 of 'a [bus](x)'"
    assert json.loads((tmp_path / "judged" / "judged.json").read_text())["warnings"] == [unused]
    assert "## Warnings\n\n- our\\|own " in (tmp_path / "judged" / "judged.md").read_text()


def test_names_in_brackets_are_shown_on_the_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What stood in brackets was taken for a colour, and left out."""
    console = Console(file=io.StringIO(), width=400)
    written, output, report = ["walking", "Cycling"], tmp_path / "[bold]" / "own", tmp_path / "[red]report"
    data = [write_csv(tmp_path / "my [bold] days.csv", written), write_csv(tmp_path / "few [b].csv", written, ["9"])]

    def train(request: TrainingRequest, output: Path, *, resume: bool = False) -> str:
        train_activity(request, output, report, resume=resume, console=console)
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    shown = train(TrainingRequest(data, labels=Labels(("Walking", "Cycling")), epochs=1), output, resume=True)
    for line in (
        f"No checkpoint at {report}/checkpoint.safetensors: starting",
        "No test score: few [b].csv has 1 person, and it takes three: to train, to validate and to test.",
        "own@1 on my [bold] days, 1 person",
        f"Bundle own@1 in {output}; report in {report}",
    ):
        assert line in shown
    shown = train(TrainingRequest(data, start=output, epochs=1), tmp_path / "next")
    assert "next@2, beside own@1, on my [bold] days" in shown
    assert main(["evaluate", "--bundle", str(output), "--data", str(data[0])]) == 0
    assert "own@1 has learned from people of my [bold] days.csv: 3 trained;" in capsys.readouterr().out


def test_a_protocols_rounds_are_of_these_labels(folder: Path, tmp_path: Path) -> None:
    found = run_protocol(TrainingRequest([folder / "mine.csv"], labels=Labels(OWN), epochs=1), tmp_path, "people")
    assert [result.scores.labels for result in found["mine"]] == [OWN] * 3
    assert all(result.scores.support.sum() > 10 for result in found["mine"])


def test_the_articles_recipe_takes_own_labels_but_has_no_figures_to_stand_beside(folder: Path, tmp_path: Path) -> None:
    train_activity(
        TrainingRequest([folder / "mine.csv"], recipe="article", labels=Labels(OWN), epochs=1),
        tmp_path / "own",
        tmp_path / "report",
    )
    assert load_bundle(tmp_path / "own").manifest.labels == OWN
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["article"] is None


# --- going on ------------------------------------------------------------------------------------


def test_a_checkpoint_of_other_labels_is_of_another_run(folder: Path, tmp_path: Path) -> None:
    labels = Labels(OWN[::-1])
    (tmp_path / "report").mkdir()
    kept = folder / "own-report" / "checkpoint.safetensors"
    (tmp_path / "report" / kept.name).write_bytes(kept.read_bytes())
    with pytest.raises(FitError, match=r"another run \(its labels is \('Walking', 'Cycling', 'Lying down'\)"):
        train_activity(
            TrainingRequest([folder / "mine.csv"], labels=labels, epochs=1),
            tmp_path / "own",
            tmp_path / "report",
            resume=True,
        )


def test_a_checkpoint_says_its_labels_be_they_the_six_or_others(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", ["Walking"])
    six, own = (
        identity_of([read_file(path, labels=labels)], RECIPES["default"]) for labels in (DEFAULT_LABELS, Labels(OWN))
    )
    assert six["labels"] == repr(DEFAULT_LABELS.names)
    assert {name for name in six if six[name] != own[name]} == {"labels"}


def test_without_labels_those_of_the_start_are_learned_and_it_is_compared_with(folder: Path, tmp_path: Path) -> None:
    trained = train_activity(
        TrainingRequest([folder / "mine.csv"], start=folder / "own", epochs=1), tmp_path / "next", tmp_path / "report"
    )
    assert trained.bundle.manifest.labels == OWN
    assert "--labels" not in trained.bundle.manifest.training.command
    assert "## next@2, beside own@1: mine" in (tmp_path / "report" / "report.md").read_text()


def test_going_on_with_other_labels_says_that_there_is_nothing_to_compare(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    har_bundle(tmp_path / "six")
    report = tmp_path / "report"
    trained = train_activity(
        TrainingRequest([folder / "mine.csv"], labels=Labels(OWN), start=tmp_path / "six", epochs=1),
        tmp_path / "next",
        report,
        console=Console(width=300),
    )
    assert trained.bundle.manifest.labels == OWN
    assert trained.bundle.manifest.training.command.endswith("--labels Walking Cycling 'Lying down' --start tiny-har")
    assert "and next@1 tells Walking, Cycling, Lying down: with other labels" in capsys.readouterr().out
    text = (report / "report.md").read_text()
    assert "## Nothing to compare\n\ntiny-har@1.0 tells Downstairs, Jogging," in text
    assert ", beside tiny-har@1.0" not in text


@pytest.fixture
def six(tmp_path: Path) -> Bundle:
    return har_bundle(tmp_path / "six")


def test_what_both_know_is_taken_over_and_the_rest_of_the_last_layer_is_fresh(six: Bundle) -> None:
    fresh = new_network("har-cnn", 3, classes=3).state_dict()
    weights = _transferred_weights(six, fresh, ("Cycling", "walking", "Downstairs"))
    assert weights.keys() == fresh.keys()
    for name in ("output.weight", "output.bias"):
        torch.testing.assert_close(weights[name][0], fresh[name][0], rtol=0, atol=0)
        np.testing.assert_array_equal(weights[name][1], six.weights[name][5])
        np.testing.assert_array_equal(weights[name][2], six.weights[name][0])
    for name in weights.keys() - {"output.weight", "output.bias"}:
        np.testing.assert_array_equal(weights[name], six.weights[name])


def test_where_no_label_is_shared_the_last_layer_is_fresh(six: Bundle) -> None:
    fresh = new_network("har-cnn", 3, classes=2).state_dict()
    weights = _transferred_weights(six, fresh, ("Cycling", "Rowing"))
    torch.testing.assert_close(weights["output.weight"], fresh["output.weight"], rtol=0, atol=0)
    np.testing.assert_array_equal(weights["conv4.bias"], six.weights["conv4.bias"])
