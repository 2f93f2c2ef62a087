import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from inference.architectures import build, count_parameters
from inference.bundle import check_golden, load_bundle
from inference.served_module import reference_answers, served_module
from tests.training.files import write_wisdm
from training.activity_model.augment import draw
from training.activity_model.fit_activity import (
    MIN_TEMPERATURE,
    _AugmentedExamples,
    _class_weights,
    identity_of,
    prepare_training_data,
)
from training.activity_model.quantisation import activation_ranges
from training.activity_model.recipes import RECIPES, RecipeName
from training.activity_model.splits import split_recordings
from training.bundles import metric_name
from training.data.datasets import read_files
from training.data.files import DataError
from training.data.frames import served_frames
from training.data.held_out import HELD_OUT
from training.data.recordings import ACTIVITIES, DEFAULT_LABELS
from training.evaluation.evaluate import evaluate_bundle
from training.fitting.fit_settings import FitError
from training.fitting.soft_targets import OOD
from training.plan import TrainingRequest
from training.reports.report import write_evaluations
from training.train_activity import Trained, train_activity

PICTURES = ("confusion", "reliability", "familiarity")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wisdm(tmp_path_factory.mktemp("data") / "made_up_reconstructed.txt")


def train(
    data: Path, folder: Path, recipe: RecipeName = "default", *, epochs: int = 2, resume: bool = False
) -> Trained:
    return train_activity(
        TrainingRequest([data], recipe=recipe, epochs=epochs, seed=5),
        folder / "walker",
        folder / "report",
        resume=resume,
    )


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    folder = tmp_path_factory.mktemp("trained")
    return train(data, folder), folder


def test_the_network_has_the_articles_parameters() -> None:
    assert count_parameters(build("har-cnn")) == 520_486


def test_training_leaves_a_bundle_that_keeps_its_golden_promise(trained: tuple[Trained, Path]) -> None:
    _, folder = trained
    bundle = load_bundle(folder / "walker")
    module = served_module(bundle)
    check_golden(bundle, lambda frames: reference_answers(module, frames), "float32")
    assert bundle.title == "walker@1"
    assert bundle.manifest.labels == ACTIVITIES


def test_the_manifest_says_what_the_bundle_saw_and_how_to_make_it_again(trained: tuple[Trained, Path]) -> None:
    result, _ = trained
    training = result.bundle.manifest.training
    assert [data.name for data in training.data] == ["made_up_reconstructed.txt"]
    assert training.command == (
        "stridecast train activity --data made_up_reconstructed.txt --recipe default --epochs 2 --seed 5 "
        "--precision float32"
    )
    assert training.seed == 5


def test_the_manifest_says_how_large_the_numbers_are_that_int8_has_to_hold(
    trained: tuple[Trained, Path], data: Path
) -> None:
    result, _ = trained
    recipe = RECIPES["default"]
    manifest = result.bundle.manifest
    assert manifest.normalisation is not None
    mean, std = (np.array(each, np.float32) for each in (manifest.normalisation.mean, manifest.normalisation.std))
    inputs = (served_frames(split_recordings(read_files([data]), recipe).validation).values - mean) / std
    network = served_module(result.bundle).network
    assert manifest.activation_ranges == pytest.approx(
        activation_ranges(network, inputs, ("conv2", "conv3", "conv4")), rel=1e-4
    )


def test_the_manifests_metrics_are_those_of_the_test_people(trained: tuple[Trained, Path]) -> None:
    result, _ = trained
    (test,) = result.tests
    metrics = result.bundle.manifest.metrics
    assert test.people == ("29",)
    assert metrics["wisdm-v1.1-reconstructed.accuracy"] == pytest.approx(test.scores.accuracy, abs=1e-4)
    assert metrics["wisdm-v1.1-reconstructed.macro_f1"] == pytest.approx(test.scores.macro_f1, abs=1e-4)


def test_evaluating_the_bundle_on_the_test_people_gives_what_training_reported(
    trained: tuple[Trained, Path], data: Path
) -> None:
    result, folder = trained
    (evaluation,) = evaluate_bundle(load_bundle(folder / "walker"), read_files([data]), people=["29"])
    np.testing.assert_array_equal(evaluation.scores.confusion, result.tests[0].scores.confusion)
    assert evaluation.bundle_digest == result.tests[0].bundle_digest == load_bundle(folder / "walker").digest


def test_the_report_folder_holds_figures_tables_and_pictures(trained: tuple[Trained, Path]) -> None:
    result, folder = trained
    report = folder / "report"
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["test"][0]["dataset"] == "WISDM v1.1 (reconstructed)"
    assert metrics["test"][0]["accuracy"] == result.tests[0].scores.accuracy
    assert len(metrics["history"]) == 2
    assert metrics["article"] is None
    assert "| Walking |" in (report / "report.md").read_text()
    lacks = "No training data for Downstairs, Upstairs: the new model will not know them; --labels can leave them out."
    one = "The test is of 1 person: its scores say little about others; --protocol people tests on everybody in turn"
    assert metrics["warnings"] == [lacks, one]
    text = (report / "report.md").read_text()
    assert f"\n## Warnings\n\n- {lacks}\n- {one}\n" in text
    assert "\n| training | 1 | 0.0 | 0.3 | 0.3 | 0.3 | 0.0 | 0.3 |\n| validation | 7 |" in text
    assert " s on 1 thread; temperature " in (report / "report.md").read_text()
    of = "wisdm-v1-1-reconstructed"
    for picture in (
        "learning-curves",
        "confusion-validation",
        f"confusion-{of}",
        f"reliability-{of}",
        f"familiarity-{of}",
    ):
        assert (report / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_each_scoring_of_the_test_people_is_on_record(
    trained: tuple[Trained, Path], data: Path, tmp_path: Path
) -> None:
    _, folder = trained
    assert len((folder / "report" / "scorings.jsonl").read_text().splitlines()) == 1
    for _ in range(2):
        write_evaluations(tmp_path, evaluate_bundle(load_bundle(folder / "walker"), read_files([data]), people=["29"]))
    lines = [json.loads(line) for line in (tmp_path / "scorings.jsonl").read_text().splitlines()]
    assert [line["people"] for line in lines] == [["29"], ["29"]]


def test_a_report_removes_the_last_ones_pictures_and_nothing_else(
    trained: tuple[Trained, Path], data: Path, tmp_path: Path
) -> None:
    """`confusion-d.png` stayed beside `confusion-ours.png`, as if it were of the new bundle."""
    _, folder = trained
    before = tmp_path / "d.csv"
    before.write_text(data.read_text().replace(";", ""))
    before.write_text("person,activity,t_ms,x,y,z\n" + "\n".join(map(_in_ms, before.read_text().splitlines())) + "\n")
    users = [tmp_path / name for name in ("confusion-mine.png", "reliability.png", "notes.md")]
    for file in users:
        file.write_text("the user's")
    bundle = load_bundle(folder / "walker")
    write_evaluations(tmp_path, evaluate_bundle(bundle, read_files([before]), people=["29"]))
    assert (tmp_path / "confusion-d.png").exists()
    with (tmp_path / "scorings.jsonl").open("a") as log:
        log.write("cut sh\n[]\n")
    write_evaluations(tmp_path, evaluate_bundle(bundle, read_files([data]), people=["29"]))
    of = "wisdm-v1-1-reconstructed"
    assert {path.name for path in tmp_path.glob("*.png")} == {
        *(f"{picture}-{of}.png" for picture in PICTURES),
        *(file.name for file in users[:2]),
    }
    assert all(file.read_text() == "the user's" for file in users)


def _in_ms(row: str) -> str:
    person, activity, t_ns, *xyz = row.split(",")
    return ",".join((person, activity, str(int(t_ns) // 1_000_000), *xyz))


def test_an_interrupted_training_resumed_gives_the_same_weights(
    trained: tuple[Trained, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = trained
    with monkeypatch.context() as patch:
        patch.setattr("training.fitting.fit._summary_line", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path)
    resumed = train(data, tmp_path, resume=True)
    for name, values in result.bundle.weights.items():
        np.testing.assert_array_equal(resumed.bundle.weights[name], values)
    assert resumed.bundle.digest == result.bundle.digest


def test_a_bundle_is_in_its_place_only_once_it_is_tested(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that served the folder took it up before its test, and again after it."""
    monkeypatch.setattr("training.train_activity.evaluate", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def _interrupt(*_: object) -> str:
    raise KeyboardInterrupt


def test_the_articles_recipe_stands_beside_its_published_figures(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path, "article", epochs=1)
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    text = (tmp_path / "report" / "report.md").read_text()
    assert metrics["article"]["accuracy"] == 0.92
    assert metrics["settings"]["batch"] == 400
    assert "familiarity" not in metrics["test"][0]
    assert not load_bundle(tmp_path / "walker").manifest.tells_strangers
    assert "Beside the article: WISDM v1.1 (reconstructed)" in text
    assert "accuracy 0.92 |" in text


# -- out-of-distribution samples


def test_the_default_recipes_bundle_tells_strangers(trained: tuple[Trained, Path]) -> None:
    result, folder = trained
    manifest = load_bundle(folder / "walker").manifest
    assert manifest.tells_strangers
    assert len(manifest.golden.familiarity) == len(manifest.golden.input) == 12
    (test,) = result.tests
    assert test.familiarity is not None
    assert len(test.familiarity.known) == test.scores.support.sum()


def drawn(data: Path, share: float) -> _AugmentedExamples:
    recipe = dataclasses.replace(RECIPES["default"], ood_share=share)
    task = prepare_training_data(split_recordings(read_files([data]), recipe), recipe, seed=3).task
    assert task.has_ood == (share > 0)
    assert isinstance(task.train, _AugmentedExamples)
    return task.train


def test_so_many_ood_samples_are_drawn_in_an_epoch_and_each_draw_is_the_generators(data: Path) -> None:
    examples = drawn(data, 0.15)
    known = len(examples.segment)
    assert len(examples) == known + math.ceil(0.15 * known)
    rows = np.arange(len(examples))
    frames, activity = examples.batch(rows, np.random.default_rng(1))

    assert (activity == OOD).sum() == len(examples) - known
    assert (activity[known:] == OOD).all()
    np.testing.assert_array_equal(activity[:known], examples.signal.activity[examples.segment])
    assert frames.dtype == np.float32
    again, _ = examples.batch(rows, np.random.default_rng(1))
    np.testing.assert_array_equal(frames, again)
    np.testing.assert_array_equal(rows, np.arange(len(examples)))


def test_without_ood_samples_the_draws_are_those_of_before(data: Path) -> None:
    examples = drawn(data, 0.0)
    rows = np.arange(len(examples))[::-1]
    frames, activity = examples.batch(rows, np.random.default_rng(1))
    stretch = examples.segment[rows]
    plain = draw(examples.signal, stretch, examples.augmentation, np.random.default_rng(1))

    np.testing.assert_array_equal(frames, (plain - examples.mean) / examples.std)
    np.testing.assert_array_equal(activity, examples.signal.activity[stretch])


def test_a_checkpoint_with_another_share_of_ood_samples_is_of_another_run(data: Path) -> None:
    files = read_files([data])
    default = RECIPES["default"]
    assert identity_of(files, default) != identity_of(files, dataclasses.replace(default, ood_share=0.0))


def test_a_checkpoint_of_people_who_were_split_otherwise_is_of_another_run(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was gone on from, though it had learned from who tests now."""
    files = read_files([data])
    by_recipe = {name: identity_of(files, recipe)["parts"] for name, recipe in RECIPES.items()}
    before = identity_of(files, RECIPES["default"])
    assert identity_of(files, RECIPES["default"]) == before
    assert len(set(by_recipe.values())) == 2
    wisdm = HELD_OUT["wisdm"]
    monkeypatch.setattr(
        "training.data.held_out.HELD_OUT",
        {"wisdm": dataclasses.replace(wisdm, test=wisdm.validation, validation=wisdm.test)},
    )
    after = identity_of(files, RECIPES["default"])
    assert {name for name in before if before[name] != after[name]} == {"parts"}


def test_of_wisdm_the_people_of_the_literature_test() -> None:
    wisdm = HELD_OUT["wisdm"]
    assert set(wisdm.test) == {"29", "30", "31", "32", "33", "34", "35", "36"}
    assert not set(wisdm.validation) & set(wisdm.test)


def test_that_nobody_tests_is_reported(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = write_wisdm(tmp_path / "two.txt", people=("1", "7"))
    train_activity(TrainingRequest([two], epochs=1), tmp_path / "walker", tmp_path / "report", console=Console())
    assert "No test score: two.txt has none of the people of WISDM v1.1 who test: 29, 30," in capsys.readouterr().out


def test_data_without_training_people_are_refused(tmp_path: Path) -> None:
    path = write_wisdm(tmp_path / "data.txt", people=("29",))
    with pytest.raises(DataError, match="it takes two people to train"):
        train(path, tmp_path)


def test_a_folder_that_no_bundle_can_be_named_like_is_refused_before_the_fit(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FitError, match="no bundle can have the name 'My Model'"):
        train_activity(TrainingRequest([data]), tmp_path / "My Model", tmp_path / "report")
    assert not (tmp_path / "report" / "checkpoint.safetensors").exists()


def test_a_place_that_cannot_be_written_is_refused_before_the_fit(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FitError, match="cannot write to"):
        train_activity(TrainingRequest([data]), tmp_path / "file" / "walker", tmp_path / "report")


def test_no_epochs_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FitError, match="must be positive"):
        train(data, tmp_path, epochs=0)


def test_people_whom_a_file_does_not_hold_are_refused(trained: tuple[Trained, Path], data: Path) -> None:
    _, folder = trained
    with pytest.raises(DataError, match="no complete window of the people asked for"):
        evaluate_bundle(load_bundle(folder / "walker"), read_files([data]), people=["99"])


def test_a_data_sets_name_in_the_metrics() -> None:
    assert metric_name("WISDM v1.1 (reconstructed)") == "wisdm-v1.1-reconstructed"
    assert metric_name("MotionSense") == "motionsense"


def test_an_activity_that_does_not_occur_is_not_taught() -> None:
    """It weighed most, as the rarest, and smoothed labels made it the answer to everything."""
    activity = np.array([ACTIVITIES.index("Walking")] * 900 + [ACTIVITIES.index("Jogging")] * 100)
    weights = _class_weights(activity, DEFAULT_LABELS, 0.5)
    walking, jogging, sitting = (weights[ACTIVITIES.index(name)] for name in ("Walking", "Jogging", "Sitting"))
    assert 0.9 * walking + 0.1 * jogging == pytest.approx(1.0)
    assert jogging == pytest.approx(3 * walking)
    assert sitting == 1.0


def test_few_who_are_all_right_do_not_make_it_certain(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their best temperature is the lowest that is looked at, with which everything is said for certain."""
    monkeypatch.setattr("training.activity_model.fit_activity.fit_temperature", lambda *_: 0.1)
    assert train(data, tmp_path, epochs=1).bundle.manifest.temperature == MIN_TEMPERATURE
