import dataclasses
import io
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from training.fitting.fit import _batches, _correct, fit, learning_rate
from training.fitting.fit_settings import FitError, FitSettings
from training.fitting.history import Epoch, best_epoch
from training.fitting.logits import predict
from training.fitting.scores import score
from training.fitting.soft_targets import OOD, Splices
from training.fitting.task import Fixed, Task

LABELS = ("left", "right", "far right")
OUTCOMES = ((0.5, 0.8), (0.45, 0.8), (0.4, 0.75), (0.6, 0.8))  # validation loss and accuracy of some epochs
SETTINGS = FitSettings(
    epochs=4, batch=16, learning_rate=0.02, weight_decay=0.01, label_smoothing=0.05, average=0.9, seed=3
)


class Noisy:
    """Three clouds of points, drawn anew in each epoch."""

    def __len__(self) -> int:
        return 90

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        targets = rows % 3
        points = np.stack([2.0 * targets - 2.0, np.zeros(len(rows))], axis=1)
        return (points + rng.normal(0, 0.3, points.shape)).astype(np.float32), targets


class Visited(Noisy):
    """The same, and half as many OOD samples, which come from above and from below."""

    def __len__(self) -> int:
        return 135

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        points, targets = super().batch(rows, rng)
        ood = rows >= 90
        points[ood, 1] += np.where(rows[ood] % 2, 4.0, -4.0)
        return points, np.where(ood, OOD, targets)


def familiarity(model: nn.Module, points: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model.eval()(torch.from_numpy(points)).logsumexp(dim=1).sigmoid().numpy())


def validation() -> Fixed:
    return Fixed(*Noisy().batch(np.arange(60), np.random.default_rng(99)))


def task(class_weights: np.ndarray | None = None) -> Task:
    return Task(LABELS, Noisy(), validation(), class_weights)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3))


def run(
    settings: FitSettings = SETTINGS,
    checkpoint: Path | None = None,
    *,
    resume: bool = False,
    identity: dict[str, str] | None = None,
) -> tuple[dict[str, torch.Tensor], list[Epoch]]:
    model = small_model()
    history = fit(
        model,
        task(np.array([1.0, 1.2, 0.8])),
        settings,
        checkpoint=checkpoint,
        resume=resume,
        identity=identity,
    )
    return model.state_dict(), history


def without_seconds(history: list[Epoch]) -> list[Epoch]:
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in history]


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


class Interrupted(Exception):
    pass


def interrupt_in_epoch(monkeypatch: pytest.MonkeyPatch, number: int, error: type[BaseException] = Interrupted) -> None:
    """Draws end in the middle of the given epoch, as a Ctrl-C would end them."""
    draws = 0
    draw = Noisy.batch

    def failing(self: Noisy, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        nonlocal draws
        draws += 1
        if draws > 6 * (number - 1) + 3:
            raise error
        return draw(self, rows, rng)

    monkeypatch.setattr(Noisy, "batch", failing)


def test_three_clouds_are_told_apart() -> None:
    model = small_model()
    history = fit(model, task(), dataclasses.replace(SETTINGS, epochs=15))
    held_out = validation()
    assert score(LABELS, held_out.targets, predict(model, held_out.inputs)).accuracy > 0.95
    assert history[-1].validation_accuracy > 0.95
    assert history[-1].train_loss < history[0].train_loss


def test_examples_that_may_have_either_of_two_labels_teach_what_they_are_not() -> None:
    """Nobody says which of them is left and which right; that they aren't far right is learned all the same."""

    class Vague(Noisy):
        def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            points, targets = super().batch(rows, rng)
            return points, np.where(targets == 2, 2, 3)

    candidates = np.array([[True, False, False], [False, True, False], [False, False, True], [True, True, False]])
    model = small_model()
    fit(model, Task(LABELS, Vague(), validation(), candidates=candidates), dataclasses.replace(SETTINGS, epochs=15))
    held_out = validation()
    predicted_far_right = predict(model, held_out.inputs).argmax(axis=1) == 2
    assert (predicted_far_right == (held_out.targets == 2)).mean() > 0.95


def test_ood_samples_are_told_from_the_clouds_and_the_clouds_from_one_another() -> None:
    model = small_model()
    settings = dataclasses.replace(SETTINGS, epochs=30)
    history = fit(model, Task(LABELS, Visited(), validation(), has_ood=True), settings)
    held_out = validation()
    ood = Visited().batch(np.arange(90, 135), np.random.default_rng(98))[0]

    assert (familiarity(model, held_out.inputs) > 0.5).mean() > 0.95
    assert (familiarity(model, ood) < 0.5).mean() > 0.95
    assert history[-1].validation_accuracy > 0.95


def test_who_was_never_shown_ood_samples_finds_them_as_familiar() -> None:
    """So that the test above can fail: it is the OOD samples that teach it."""
    model = small_model()
    fit(model, task(), dataclasses.replace(SETTINGS, epochs=30))
    ood = Visited().batch(np.arange(90, 135), np.random.default_rng(98))[0]

    assert (familiarity(model, ood) < 0.5).mean() < 0.5


def test_ood_samples_go_with_examples_that_may_have_either_of_two_labels_and_with_class_weights() -> None:
    class Vague(Visited):
        def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            points, targets = super().batch(rows, rng)
            return points, np.where(np.isin(targets, (0, 1)), 3, targets)

    candidates = np.array([[True, False, False], [False, True, False], [False, False, True], [True, True, False]])
    model = small_model()
    weighed = Task(LABELS, Vague(), validation(), np.array([0.9, 1.0, 1.1]), candidates=candidates, has_ood=True)
    fit(model, weighed, dataclasses.replace(SETTINGS, epochs=30))
    held_out = validation()
    ood = Visited().batch(np.arange(90, 135), np.random.default_rng(98))[0]

    predicted_far_right = predict(model, held_out.inputs).argmax(axis=1) == 2
    assert (predicted_far_right == (held_out.targets == 2)).mean() > 0.95
    assert (familiarity(model, held_out.inputs) > 0.5).mean() > 0.95
    assert (familiarity(model, ood) < 0.5).mean() > 0.95


def test_training_accuracy_is_of_what_is_known_and_whole_and_by_the_labels_alone() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [-3.0, -2.0, 0.0], [2.0, 1.0, 0.0], [-3.0, -2.0, 0.0]])
    targets = torch.tensor([0, 1, 1, OOD])
    goal = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert _correct(logits, goal, targets, None, 2).tolist() == [True, True, False]
    second_is_spliced = Splices(np.array([0, 0, 2, 3]), np.array([0.0, 0.4, 0.0, 0.0], np.float32))
    assert _correct(logits, goal, targets, second_is_spliced, 2).tolist() == [True, False]


@pytest.mark.parametrize("has_ood", [False, True])
def test_splices_are_a_function_of_the_seed_and_change_what_is_learned(has_ood: bool) -> None:
    data = Task(LABELS, Visited() if has_ood else Noisy(), validation(), has_ood=has_ood)
    weights = []
    for spliced in (0.5, 0.5, 0.0):
        model = small_model()
        fit(model, data, dataclasses.replace(SETTINGS, spliced=spliced))
        weights.append(model.state_dict())
    assert_same(weights[0], weights[1])
    assert not torch.equal(weights[0]["0.weight"], weights[2]["0.weight"])


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = run(), run(), run(dataclasses.replace(SETTINGS, seed=4))
    assert_same(first[0], again[0])
    assert not torch.equal(first[0]["0.weight"], other[0]["0.weight"])


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_run_interrupted_in_an_epoch_and_resumed_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    whole, history = run()
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, epoch)
        with pytest.raises(Interrupted):
            run(checkpoint=checkpoint)
    resumed, resumed_history = run(checkpoint=checkpoint, resume=True)
    assert_same(whole, resumed)
    assert without_seconds(history) == without_seconds(resumed_history)


def test_resuming_with_early_stopping_keeps_the_best_weights_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=12, learning_rate=0.3, schedule="constant", patience=2)
    whole, history = run(settings)
    assert len(history) < 12
    checkpoint = tmp_path / "checkpoint.safetensors"
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, len(history))
        with pytest.raises(Interrupted):
            run(settings, checkpoint)
    resumed, resumed_history = run(settings, checkpoint, resume=True)
    assert_same(whole, resumed)
    assert without_seconds(history) == without_seconds(resumed_history)


def test_a_run_that_had_ended_is_not_run_again(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    whole, history = run(checkpoint=checkpoint)
    resumed, again = run(checkpoint=checkpoint, resume=True)
    assert_same(whole, resumed)
    assert history == again


def test_without_resume_a_checkpoint_is_not_looked_at(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(b"not a checkpoint")
    _, history = run(checkpoint=checkpoint)
    assert len(history) == 4


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        (dataclasses.replace(SETTINGS, epochs=5), "A", r"another run \(its epochs is 4, now 5\)"),
        (SETTINGS, "B", r"another run \(its data is A, now B\)"),
        (dataclasses.replace(SETTINGS, seed=9), "B", r"its data is A, now B; its seed is \d, now 9\)"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(
    tmp_path: Path, settings: FitSettings, data: str, message: str
) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    run(checkpoint=checkpoint, identity={"data": "A"})
    with pytest.raises(FitError, match=message):
        run(settings, checkpoint, resume=True, identity={"data": data})


def test_resuming_without_a_checkpoint_says_so_and_starts_from_the_beginning(tmp_path: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, width=40)
    checkpoint = tmp_path / "checkpoint.safetensors"
    history = fit(small_model(), task(), SETTINGS, checkpoint=checkpoint, resume=True, console=console)
    assert len(history) == 4
    assert f"No checkpoint at {checkpoint}: starting from the beginning" in output.getvalue()


@pytest.mark.parametrize(
    ("epoch", "message"),
    [
        (1, "Interrupted before the end of the first epoch: nothing is kept"),
        (3, "Interrupted after epoch 2: --resume goes on from there"),
    ],
)
def test_an_interrupted_run_says_where_it_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, message: str
) -> None:
    written = io.StringIO()
    console = Console(file=written, width=40)
    interrupt_in_epoch(monkeypatch, epoch, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(small_model(), task(), SETTINGS, checkpoint=tmp_path / "checkpoint.safetensors", console=console)
    assert message in written.getvalue()


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(FitError, match="cannot resume from"):
        run(checkpoint=checkpoint, resume=True)


def test_fitting_leaves_the_callers_random_numbers_alone() -> None:
    model = small_model()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    fit(model, task(), dataclasses.replace(SETTINGS, epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_early_stopping_keeps_the_weights_of_the_best_epoch() -> None:
    settings = dataclasses.replace(SETTINGS, epochs=12, learning_rate=0.3, schedule="constant", patience=2)
    model = small_model()
    history = fit(model, task(), settings)
    best = min(history, key=lambda epoch: epoch.validation_loss)
    held_out = validation()
    found = score(LABELS, held_out.targets, predict(model, held_out.inputs))
    assert found.loss == pytest.approx(best.validation_loss)
    assert best.epoch == len(history) - 2


def test_a_loss_that_is_no_longer_finite_ends_the_run() -> None:
    settings = dataclasses.replace(SETTINGS, learning_rate=1e30, schedule="constant")
    with pytest.raises(FitError, match="lower the learning rate"):
        run(settings)


@pytest.mark.parametrize("optimizer", ["adamw", "adadelta"])
def test_a_run_of_either_optimizer_resumes_as_if_it_had_not_been_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: Literal["adamw", "adadelta"]
) -> None:
    settings = dataclasses.replace(SETTINGS, optimizer=optimizer, max_norm=0.5, patience=3, best_by="accuracy")
    whole, history = run(settings)
    checkpoint = tmp_path / "checkpoint.safetensors"
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, 3)
        with pytest.raises(Interrupted):
            run(settings, checkpoint)
    resumed, resumed_history = run(settings, checkpoint, resume=True)
    assert_same(whole, resumed)
    assert without_seconds(history) == without_seconds(resumed_history)


def test_the_rows_of_the_last_layers_weight_stay_within_the_max_norm() -> None:
    free, _ = run(dataclasses.replace(SETTINGS, average=0.0))
    held, _ = run(dataclasses.replace(SETTINGS, average=0.0, max_norm=0.5))
    assert free["4.weight"].norm(dim=1).max() > 0.6
    assert held["4.weight"].norm(dim=1).max() <= 0.5 + 1e-6
    assert held["0.weight"].norm(dim=1).max() > 0.6


def test_the_best_epoch_by_accuracy_is_the_most_accurate_one_with_the_least_loss() -> None:
    epochs = [Epoch(i + 1, 0.1, 1.0, 0.5, loss, accuracy, 0.5, 1.0) for i, (loss, accuracy) in enumerate(OUTCOMES)]
    by_accuracy, by_loss = best_epoch(epochs, "accuracy"), best_epoch(epochs, "loss")
    assert by_accuracy is epochs[1]
    assert by_loss is epochs[2]
    assert best_epoch([], "loss") is None


def test_batches_hold_every_example_once_and_lengths_bring_like_to_like() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 90)
    rng = np.random.default_rng(1)
    batches = _batches(dataclasses.replace(task(), lengths=lengths), 16, rng)
    assert sorted(np.concatenate(batches)) == list(range(90))
    apart = [np.ptp(lengths[rows]) for rows in _batches(task(), 16, rng)]
    together = [np.ptp(lengths[rows]) for rows in batches]
    assert np.mean(together) < np.mean(apart) / 3


def test_nothing_to_learn_from_is_refused() -> None:
    nothing = Fixed(np.empty((0, 2), np.float32), np.empty(0, np.int64))
    with pytest.raises(FitError, match="0 training and 60 validation examples"):
        fit(small_model(), Task(LABELS, nothing, validation()), SETTINGS)


def test_the_learning_rate_rises_for_a_tenth_of_the_run_and_then_falls_to_nothing() -> None:
    rates = [learning_rate(step, 100, SETTINGS) for step in range(101)]
    assert rates[0] == pytest.approx(0.002)
    assert rates[10] == pytest.approx(0.02) == max(rates)
    assert rates[55] == pytest.approx(0.01)
    assert rates[100] == pytest.approx(0.0)
    assert np.argmax(rates) in (9, 10)


def test_the_averaged_weights_lag_behind_and_are_what_is_kept() -> None:
    last, _ = run(dataclasses.replace(SETTINGS, average=0.0))
    averaged, _ = run()
    assert not torch.equal(last["0.weight"], averaged["0.weight"])
    assert torch.equal(last["1.num_batches_tracked"], averaged["1.num_batches_tracked"])
