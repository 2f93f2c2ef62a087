"""Training text models from end to end, on made-up reviews that a single word tells apart."""

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.bundle import check_golden, load_bundle
from inference.devices.pytorch import PyTorchEngine
from inference.served_module import reference_probabilities, served_module
from service.cli import main
from tests.training.corpora import write_reviews, write_vectors
from training.data.files import DataError
from training.data.text_datasets import read_corpus
from training.evaluation.evaluate import evaluate_texts
from training.evaluation.text_comparison import texts_a_second
from training.fitting.fit_settings import FitError
from training.fitting.scores import Scores
from training.fitting.task import Fixed
from training.protocols.cross_validation import cross_validate
from training.protocols.folds import FoldResult, kept_fold, paired_differences, save_fold, stratified_folds
from training.text_model.embeddings import Variant
from training.text_model.fit_text import (
    Split,
    TextTrainingData,
    Trimmed,
    WordDropout,
    first_alike,
    fit_text,
    read_training_data,
    score_on,
)
from training.text_model.text_recipes import NETWORKS, ArchitectureName, TextRecipe, recipe_for
from training.text_model.text_warnings import warnings_of_texts
from training.text_model.words import UNKNOWN
from training.train_text import TextTrainingRequest, Trained, single_split, train_text


def small_recipe(architecture: ArchitectureName = "text-cnn", variant: Variant = "non-static") -> TextRecipe:
    recipe = recipe_for("csv", architecture, variant, "article" if architecture == "text-cnn" else "default")
    small = {"maps": 8} if "kernels" in recipe.network.arguments else {"hidden": 8}
    return dataclasses.replace(
        recipe,
        rules=recipe.rules.model_copy(update={"length": 24}),
        network=dataclasses.replace(recipe.network, arguments=recipe.network.arguments | small),
        fit=dataclasses.replace(recipe.fit, epochs=4),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text")


@pytest.fixture(scope="module")
def data(folder: Path) -> TextTrainingData:
    reviews, vectors = write_reviews(folder / "reviews.csv"), write_vectors(folder / "vectors.txt")
    return read_training_data("csv", [reviews], small_recipe(), vectors)


def test_words_hidden_in_training_are_unknown_ones_and_differ_from_time_to_time() -> None:
    frames = np.tile(np.array([7, 8, 9, 0, 0], np.int32), (1000, 1))
    texts = WordDropout(Fixed(frames, np.zeros(1000, np.int64)), share=0.25)
    rng = np.random.default_rng(0)
    first, second = (texts.batch(np.arange(1000), rng)[0] for _ in range(2))
    assert 0.22 < (first[:, :3] == UNKNOWN).mean() < 0.28
    assert (first[:, 3:] == 0).all()
    assert (first != second).any()
    assert (frames == [7, 8, 9, 0, 0]).all()


def test_an_article_s_recipe_is_refused_for_a_network_that_no_article_has() -> None:
    with pytest.raises(FitError, match="no article fits lstm"):
        recipe_for("imdb", "lstm", "non-static", "article")


def test_texts_that_are_the_same_are_never_both_learned_and_tested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of 100 texts with random labels was there four times: the test said 0.889, of what had been learned."""
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(list("abcdefghijkl"), 8)) for _ in range(100)]
    rows = [f"{text}{mark},{rng.choice(['x', 'y'])}" for text in texts for mark in ("", "!", " .", "?!")]
    (tmp_path / "own.csv").write_text("\n".join(["text,label", *rows, "only one,z"]) + "\n")
    data = read_training_data("csv", [tmp_path / "own.csv"], recipe_for("csv", "lstm", "rand", "default"), None)
    alike = data.alike
    assert alike[:8].tolist() == [0] * 4 + [4] * 4
    split = single_split(data.corpus, 0.1, 0.1, 0, alike)
    parts = [set(alike[part]) for part in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 101
    assert 36 <= len(split.test) <= 44
    assert sorted(np.concatenate([split.train, split.validation, split.test])) == list(range(401))
    fold = stratified_folds(data.corpus.targets[:400], 5, seed=0, alike=alike[:400])
    assert (fold == fold[alike[:400]]).all()
    assert warnings_of_texts(data) == [
        "400 of 401 texts occur more than once: they stay together, in training or in a test",
        "340 of 401 texts occur with more than one label: a model can't get all right",
        "One text alone has the label 'z': it can't be both learned and tested",
    ]
    told = ["--data", str(tmp_path / "own.csv"), "--output", str(tmp_path / "own"), "--report", str(tmp_path / "r")]
    assert main(["train", "text", *told, "--epochs", "1", "--maps", "4", "--test-share", "0.04"]) == 0
    shown = capsys.readouterr().out
    assert "400 of 401 texts occur more than once" in shown
    assert "The test is of 16 texts: too few for its scores to say much" in shown


def test_a_score_on_the_file_that_a_bundle_learned_from_says_so(
    data: TextTrainingData, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = train(data, tmp_path).bundle
    write_reviews(tmp_path / "others.csv", seed=2)
    for file, told in ((folder / "reviews.csv", True), (tmp_path / "others.csv", False)):
        words = ["--dataset", "csv", "--data", str(file), "--bundle", str(tmp_path / "reviews")]
        assert main(["evaluate", *words, "--report", str(tmp_path / "scored")]) == 0
        warning = f"{bundle.title} has learned from {file.name}: this says little of how it does on other texts"
        assert (warning in capsys.readouterr().out) is told
        assert (f"## Warnings\n\n- {warning}\n" in (tmp_path / "scored" / "report.md").read_text()) is told
        assert json.loads((tmp_path / "scored" / "metrics.json").read_text())["warnings"] == [warning] * told


@pytest.mark.parametrize("folds", [False, True])
def test_what_is_told_before_training_stands_in_the_report(
    folds: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Empty texts were learned from without a word, and what was told scrolled away with the output."""
    rows = write_reviews(tmp_path / "own.csv", rows=60).read_text().splitlines()
    (tmp_path / "own.csv").write_text("\n".join([*rows[:41], ",good", *rows[1:4], '"  \t",bad', "😀,bad"]) + "\n")
    words = ["--dataset", "csv", "--data", str(tmp_path / "own.csv"), "--report", str(tmp_path / "report")]
    how = ["--folds", "2"] if folds else ["--output", str(tmp_path / "own"), "--test-share", "0.5"]
    assert main(["train", "text", *words, *how, "--epochs", "1", "--maps", "4"]) == 0
    warnings = [
        "own.csv: 2 rows (lines 42, 46) have no text: left out",
        "1 text holds no word, but marks or emoji, of which a model sees nothing",
        "6 of 44 texts occur more than once: they stay together, in training or in a test",
    ]
    shown = capsys.readouterr().out
    assert all(line in shown.splitlines() for line in warnings)
    report = (tmp_path / "report" / "report.md").read_text()
    assert "\n## Warnings\n\n" + "".join(f"- {line}\n" for line in warnings) in report
    assert report.index("## Warnings") < report.index("accuracy")
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["warnings"] == warnings


def test_a_file_of_empty_texts_is_refused_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("text,label\n,good\n ,bad\nfine,good\n")
    with pytest.raises(DataError, match=r"found only 'good': .* own.csv: 2 rows \(lines 2, 3\) have no text: left out"):
        read_corpus("csv", [tmp_path / "own.csv"])


def test_texts_count_as_often_as_they_are_there(tmp_path: Path) -> None:
    """Of 99 rows `ok,pos` and one `ok,neg` the fit saw one each."""
    rows = [*["ok,pos"] * 49, *(f"text {number},pos" for number in range(50)), "ok,neg", ",neg"]
    (tmp_path / "own.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    data = read_training_data("csv", [tmp_path / "own.csv"], small_recipe(variant="rand"), None)
    assert np.bincount(data.corpus.targets).tolist() == [1, 99]
    assert warnings_of_texts(data) == [
        "own.csv: 1 row (line 102) has no text: left out",
        "50 of 100 texts occur more than once: they stay together, in training or in a test",
        "50 of 100 texts occur with more than one label: a model can't get all right",
        "One text alone has the label 'neg': it can't be both learned and tested",
    ]


def test_files_most_of_whose_rows_repeat_others_are_asked_about(tmp_path: Path) -> None:
    rows = ["good one,yes", "bad one,no", "unclear,yes", "unclear,no"]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows, *rows]) + "\n")
    (tmp_path / "b.csv").write_text("\n".join(["label,text", "yes,good one", "perhaps,another"]) + "\n")
    data = read_training_data("csv", [tmp_path / "a.csv", tmp_path / "b.csv"], small_recipe(variant="rand"), None)
    assert len(data.corpus) == 10
    assert warnings_of_texts(data) == [
        "5 of 10 rows repeat the text and label of an earlier row, and all count: is a file's content in it twice, or "
        "given twice?",
        "9 of 10 texts occur more than once: they stay together, in training or in a test",
        "4 of 10 texts occur with more than one label: a model can't get all right",
        "One text alone has the label 'perhaps': it can't be both learned and tested",
    ]


def test_a_text_that_is_there_twice_and_alone_has_its_label_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("text,label\nno,no\nno,no\nyes,yes\nyes!,yes\nyeah,yes\n")
    data = read_training_data("csv", [tmp_path / "own.csv"], small_recipe(variant="rand"), None)
    assert warnings_of_texts(data)[-1] == "One text alone has the label 'no': it can't be both learned and tested"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("我{}喜欢这个产品的质量和价格", True),
        ("この映画は{}とても面白かった", True),
        ("我 {} 喜 欢 这 个 产 品", False),
        ("저는 {} 이 영화를 정말 좋아합니다", False),
        ("the {} was late and the box was broken", False),
    ],
)
def test_texts_without_spaces_between_words_are_told_of(text: str, told: bool, tmp_path: Path) -> None:
    """Each sentence passed for a word: accuracy at chance, without a word about it."""
    rows = [f"{text.format(chr(0x4E00 + number))},{'good' if number % 2 else 'bad'}" for number in range(40)]
    (tmp_path / "own.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    data = read_training_data("csv", [tmp_path / "own.csv"], small_recipe(variant="rand"), None)
    warned = any("no spaces between words, as in Chinese, Japanese or Thai" in line for line in warnings_of_texts(data))
    assert warned is told


@pytest.mark.parametrize("how", [["--folds", "50"], ["--version", "no version"]])
def test_a_refused_run_leaves_no_empty_folders(how: list[str], tmp_path: Path) -> None:
    reviews = write_reviews(tmp_path / "reviews.csv", rows=40)
    words = ["--dataset", "csv", "--data", str(reviews), "--output", str(tmp_path / "runs" / "own")]
    assert main(["train", "text", *words, *how]) != 0
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.csv"]


def test_what_stays_together_changes_no_split_of_different_texts(data: TextTrainingData) -> None:
    different = np.arange(len(data.corpus))
    for seed in range(5):
        usual, kept = (single_split(data.corpus, 0.1, 0.2, seed, alike) for alike in (None, different))
        np.testing.assert_array_equal(
            np.concatenate([*dataclasses.astuple(usual)]), np.concatenate([*dataclasses.astuple(kept)])
        )
        assert len(usual.test) == len(kept.test)
    public = dataclasses.replace(data.corpus, own=False)
    assert first_alike(public, data.tokens).tolist() == different.tolist()


def train(data: TextTrainingData, folder: Path, *, resume: bool = False) -> Trained:
    request = TextTrainingRequest(data, small_recipe(), "made by a test", seed=3)
    return train_text(request, folder / "reviews", folder / "report", resume=resume)


@pytest.fixture(scope="module")
def trained(data: TextTrainingData, folder: Path) -> Trained:
    return train(data, folder)


def test_a_word_that_decides_is_learned_in_seconds(data: TextTrainingData) -> None:
    recipe = small_recipe()
    recipe = dataclasses.replace(recipe, fit=dataclasses.replace(recipe.fit, epochs=25, batch=10))
    split = single_split(data.corpus, 0.1, 0.2, seed=0)
    fitted = fit_text(data, split, recipe, recipe.fit)
    assert score_on(data, fitted, split.test, recipe).accuracy > 0.9


def test_training_leaves_a_bundle_that_keeps_its_golden_promise(trained: Trained, folder: Path) -> None:
    bundle = load_bundle(folder / "reviews")
    module = served_module(bundle)
    check_golden(bundle, lambda frames: reference_probabilities(module, frames), "float32")
    assert bundle.digest == trained.bundle.digest == trained.tests[0].bundle_digest
    assert bundle.manifest.labels == ("bad", "good")
    assert bundle.manifest.framing == small_recipe().rules.model_dump()
    assert [data.name for data in bundle.manifest.training.data] == ["reviews.csv", "vectors.txt"]


def test_the_bundle_knows_words_that_only_the_vectors_hold(trained: Trained) -> None:
    assert {"unheard", "unseen", "clumsy", "film"} <= set(trained.bundle.vocabulary)


def test_evaluating_the_bundle_on_the_test_part_gives_what_training_reported(
    trained: Trained, data: TextTrainingData
) -> None:
    test = single_split(data.corpus, 0.1, 0.1, seed=3).test
    found = evaluate_texts(trained.bundle, data.corpus, test)
    np.testing.assert_array_equal(found.scores.confusion, trained.tests[0].scores.confusion)


def test_the_report_holds_figures_tables_and_pictures(trained: Trained, folder: Path) -> None:
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    assert metrics["test"][0]["accuracy"] == trained.tests[0].scores.accuracy
    assert metrics["examples"] == {"training, an epoch": 162, "validation": 18, "test": 20}
    assert set(metrics["texts_a_second"]) == {"1", "256"}
    text = (folder / "report" / "report.md").read_text()
    assert "| good |" in text
    assert "## Texts\n\n| label | training | validation | test |\n|---|---:|---:|---:|\n| bad | 8" in text
    for picture in ("learning-curves", "confusion-validation", "confusion-reviews-csv"):
        assert (folder / "report" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_training_resumed_gives_the_same_bundle(
    trained: Trained, data: TextTrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("training.fitting.fit._summary_line", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path)
    epochs = count_calls(monkeypatch, "training.fitting.fit", "_one_epoch")
    resumed = train(data, tmp_path, resume=True)
    assert resumed.bundle.digest == trained.bundle.digest
    assert len(epochs) == 3  # of four


def count_calls(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> list[None]:
    """A list that grows at each call of a module's function."""
    called: list[None] = []
    function = getattr(importlib.import_module(module), name)

    def counting(*words: Any, **named: Any) -> Any:
        called.append(None)
        return function(*words, **named)

    monkeypatch.setattr(f"{module}.{name}", counting)
    return called


def test_a_run_is_not_resumed_with_other_parts(trained: Trained, data: TextTrainingData, folder: Path) -> None:
    """With `--test-share 0.3` a run of 0.1 went on from its weights, which had fitted from texts of the new test."""
    request = TextTrainingRequest(data, small_recipe(), "made by a test", seed=3, test_share=0.3)
    with pytest.raises(FitError, match="its parts is"):
        train_text(request, folder / "other", folder / "report", resume=True)


def test_what_no_bundle_can_hold_is_refused_before_the_fit(data: TextTrainingData, tmp_path: Path) -> None:
    """A table of too many words was refused after it, and a text too long for the vectors' length in a traceback."""
    assert data.vectors is not None
    long = np.zeros((len(data.vectors.rows), 1000), np.float32)
    wide = dataclasses.replace(data, vectors=dataclasses.replace(data.vectors, values=long))
    recipe = small_recipe()
    recipe = dataclasses.replace(recipe, rules=recipe.rules.model_copy(update={"length": 8000}))
    with pytest.raises(FitError, match="cut texts shorter"):
        train_text(TextTrainingRequest(wide, recipe, "made by a test"), tmp_path / "wide", tmp_path / "report")
    with pytest.raises(FitError, match=r"no network text-cnn can be built so.*cut texts shorter"):
        cross_validate(wide, [recipe], tmp_path / "folds", folds=2, command="")


def test_the_speed_reported_is_that_of_the_texts_given(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was that of the golden texts, which have twenty words: the CPU engine leaves out the other 380 of a frame."""
    seen: list[np.ndarray] = []

    def launch(engine: PyTorchEngine, slot: int, frames: int) -> None:
        seen.append(engine.staging(slot)[:frames].copy())
        at_once(engine, slot, frames)

    at_once = PyTorchEngine.launch
    monkeypatch.setattr("training.evaluation.text_comparison.SPEED_SECONDS", 0.0)
    monkeypatch.setattr(PyTorchEngine, "launch", launch)
    texts_a_second(trained.bundle, ["film " * 20, "story"])

    assert {tuple((row != 0).sum(axis=1)[:2]) for row in seen if len(row) == 256 and row.any()} == {(20, 1)}
    assert {int((row != 0).sum()) for row in seen if len(row) == 1 and row.any()} == {20, 1}


def _interrupt(*_: object) -> str:
    raise KeyboardInterrupt


@pytest.mark.parametrize("architecture", [name for name, network in NETWORKS.items() if network.trims])
def test_padding_that_a_batch_has_in_common_makes_no_difference(
    architecture: ArchitectureName, data: TextTrainingData
) -> None:
    recipe = small_recipe(architecture)
    recipe = dataclasses.replace(recipe, fit=dataclasses.replace(recipe.fit, epochs=1))
    everyone = np.arange(len(data.corpus))
    fitted = fit_text(data, Split(everyone[40:], everyone[:40], everyone[:0]), recipe, recipe.fit)
    frames = torch.from_numpy(data.tokens.frames(everyone[:30], fitted.vocabulary, recipe.rules))
    frames[0] = 0  # a text without words
    network = fitted.network.eval()
    with torch.inference_mode():
        torch.testing.assert_close(Trimmed(network)(frames), network(frames))
        torch.testing.assert_close(Trimmed(network)(frames[:1]), network(frames[:1]))


def test_no_text_is_in_two_parts(data: TextTrainingData) -> None:
    split = single_split(data.corpus, 0.1, 0.1, seed=0)
    parts = np.concatenate([split.train, split.validation, split.test])
    assert sorted(parts) == list(range(len(data.corpus)))


# --- folds ---------------------------------------------------------------------------------------


def test_folds_share_out_each_label_evenly_and_are_a_function_of_the_seed() -> None:
    targets = np.repeat([0, 1, 2], [50, 31, 20])
    fold = stratified_folds(targets, 10, seed=4)
    for label, least in ((0, 5), (1, 3), (2, 2)):
        counts = np.bincount(fold[targets == label], minlength=10)
        assert counts.min() >= least
        assert counts.max() <= least + 1
    np.testing.assert_array_equal(fold, stratified_folds(targets, 10, seed=4))
    assert (fold != stratified_folds(targets, 10, seed=5)).any()


@pytest.mark.parametrize("folds", [1, 21])
def test_more_folds_than_the_rarest_label_has_texts_are_refused(folds: int) -> None:
    with pytest.raises(FitError, match="folds must be 2 to 20"):
        stratified_folds(np.repeat([0, 1], [50, 20]), folds, seed=0)


def accuracies(report: Path, model: str) -> list[float]:
    return list(json.loads((report / "metrics.json").read_text())["models"][model]["accuracy"])


def test_folds_run_apart_and_after_an_interruption_give_what_one_run_gives(
    data: TextTrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants: tuple[Variant, ...] = ("rand", "static")
    recipes = [small_recipe(variant=variant) for variant in variants]
    cross_validate(data, recipes, tmp_path / "whole", folds=3, command="", baselines=True)

    apart = tmp_path / "apart"
    cross_validate(data, recipes, apart, folds=3, only=[2], command="")
    with monkeypatch.context() as patch:
        patch.setattr("training.protocols.cross_validation.score_on", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(data, recipes, apart, folds=3, command="", resume=True)
    fits = count_calls(monkeypatch, "training.protocols.cross_validation", "fit_text")
    results = cross_validate(data, recipes, apart, folds=3, command="", baselines=True, resume=True)
    assert len(fits) == 4  # of six: fold 2 is there
    for model in ("rand", "static", "tfidf-logistic", "tfidf-svm"):
        assert len(results[model]) == 3
        assert accuracies(apart, model) == accuracies(tmp_path / "whole", model)
    assert min(accuracies(apart, "tfidf-svm")) > 0.9
    assert "3 of 3" in (apart / "report.md").read_text()


def test_a_fold_kept_of_other_settings_is_run_again(tmp_path: Path) -> None:
    scores = Scores(("a", "b"), np.array([[3, 1], [0, 4]]), 0.3, np.eye(15, 3))
    save_fold(tmp_path, FoldResult("static", 0, scores, 5, 4, 1.0), {"seed": 1})
    kept = kept_fold(tmp_path, "static", 0, {"seed": 1})
    assert kept is not None
    assert kept.scores.accuracy == 0.875
    assert kept_fold(tmp_path, "static", 0, {"seed": 2}) is None
    (tmp_path / "folds" / "static-0.json").write_text("{")
    assert kept_fold(tmp_path, "static", 0, {"seed": 1}) is None


def test_variants_are_compared_fold_by_fold() -> None:
    def results(model: str, right: list[int]) -> list[FoldResult]:
        each = [Scores(("a", "b"), np.array([[r, 0], [10 - r, 0]]), 0.1, np.zeros((15, 3))) for r in right]
        return [FoldResult(model, k, scores, 1, 1, 1.0) for k, scores in enumerate(each)]

    ((better, than, folds, mean, error),) = paired_differences(
        {"x": results("x", [5, 6, 7]), "y": results("y", [7, 7, 9])}
    )
    assert (better, than, folds) == ("y", "x", 3)
    assert mean == pytest.approx(0.5 / 3)
    assert error == pytest.approx(0.1 / 3)


# --- the command ---------------------------------------------------------------------------------


def test_a_csv_of_ones_own_becomes_a_bundle(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its name is a part of metrics' names: one with a space and Cyrillic letters ended the run after the fit."""
    reviews = write_reviews(tmp_path / "Мои reviews.csv")
    words = [
        "--data",
        str(reviews),
        "--output",
        str(tmp_path / "mine"),
        "--epochs",
        "2",
        "--length",
        "32",
        "--maps",
        "4",
    ]
    assert main(["train", "text", *words, "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "mine; report in" in shown
    assert not shown.startswith("\n")  # of a progress bar's end
    manifest = load_bundle(tmp_path / "mine").manifest
    assert manifest.training.command == "stridecast train text --data 'Мои reviews.csv' --length 32 --epochs 2 --maps 4"
    assert manifest.input.shape == (32,)
    assert "reviews.csv.accuracy" in manifest.metrics

    first = load_bundle(tmp_path / "mine").digest[:12]
    assert main(["train", "text", *words, "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Bundle mine@2 in " in shown
    assert f"mine, in place of mine@1 {first}; report in" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variant", "all"], "add --folds 10"),
        (["--variant", "static"], "name their file with --vectors"),
        (["--folds", "1"], "folds must be 2 to 100"),
        (["--folds", "5", "--only-folds", "5"], "there is no fold 5"),
        (["--only-folds", "0"], "--only-folds chooses among folds: add --folds"),
        (["--folds", "5", "--version", "1"], "--folds writes no bundle: leave out --version"),
        (["--folds", "5", "--test-share", "0.1"], "--folds tests on each fold in turn: leave out --test-share"),
        (["--min-count", "900"], "lower --min-count"),
        (["--output", "runs/My Model"], "beginning with a letter or digit, at most 64"),
        (["--strip", "headers"], "only the messages of 20news"),
        (["--dataset", "20news"], "reviews.csv is no tar archive, as this data set is published"),
        (["--output", "o" * 300, "--report", "report"], f"cannot write to {'o' * 300}: File name too long"),
        (["--output", "full"], "full holds no bundle, and a bundle replaces all that its folder holds"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(
    folder: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    data: TextTrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    assert main(["train", "text", "--data", str(folder / "reviews.csv"), *words]) == 1
    shown = capsys.readouterr()
    assert message in shown.err.replace("\n", " ")
    assert shown.out == ""


def test_a_bundle_is_scored_on_a_file_of_texts(trained: Trained, folder: Path, tmp_path: Path) -> None:
    words = ["--bundle", str(folder / "reviews"), "--dataset", "csv", "--data", str(folder / "reviews.csv")]
    assert main(["evaluate", *words, "--report", str(tmp_path)]) == 0
    (scoring,) = (tmp_path / "scorings.jsonl").read_text().splitlines()
    assert json.loads(scoring)["texts"] == 200
    assert json.loads(scoring)["bundle_digest"] == trained.bundle.digest


def test_texts_without_their_flag_are_pointed_to_it(
    trained: Trained, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The complaint was about recordings that the file does not hold."""
    data = ["--data", str(folder / "reviews.csv")]
    assert main(["evaluate", *data, "--bundle", str(folder / "reviews")]) == 1
    assert capsys.readouterr().err == (
        f"stridecast evaluate: {trained.bundle.title} is a model of texts: name their data set with --dataset, such as "
        "--dataset csv\n"
    )
    assert main(["evaluate", *data]) == 1
    assert "texts are scored with --dataset" in capsys.readouterr().err
    assert main(["evaluate", *data, "--dataset", "csv"]) == 1  # the bundle is then one of texts without a flag too
    assert "subjectivity@1 tells objective, subjective" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--strip", "headers"], "--strip takes parts off texts: add --dataset 20news"),
        (["--dataset", "csv", "--people", "ana"], "--people chooses among people of recordings, and --dataset reads"),
        (["--dataset", "csv", "--against", "har-cnn"], "--against compares bundles of activities: leave out --dataset"),
    ],
)
def test_what_would_make_no_difference_to_a_scoring_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--people` was passed over where texts were scored, and `--strip` where recordings were."""
    assert main(["evaluate", "--data", "not-read", *words]) == 1
    assert message in capsys.readouterr().err


def test_a_bundle_is_not_scored_on_labels_that_it_does_not_know(trained: Trained, data: TextTrainingData) -> None:
    other = dataclasses.replace(data.corpus, labels=("bad", "ugly"))
    with pytest.raises(DataError, match="score it on texts with its own labels"):
        evaluate_texts(trained.bundle, other, np.arange(3))


def test_a_bundle_is_not_scored_on_no_texts(trained: Trained, data: TextTrainingData) -> None:
    """The training file of a data set alone holds no test part: that was an error of NumPy's."""
    with pytest.raises(DataError, match="holds no text to score on"):
        evaluate_texts(trained.bundle, data.corpus, np.arange(0))
