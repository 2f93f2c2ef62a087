from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.bundle import Bundle
from inference.served_module import served_module
from tests.training.files import write_wisdm
from training.activity_model.fit_activity import (
    MIN_VALIDATION_PEOPLE,
    FittedActivityModel,
    fit_activity,
    prepare_training_data,
)
from training.activity_model.recipes import RECIPES, Recipe
from training.activity_model.splits import split_recordings
from training.data.datasets import read_files
from training.data.recordings import DEFAULT_LABELS
from training.fitting.calibration import (
    FAMILIARITY_THRESHOLD,
    MAX_FALSE_ALARM_RATE,
    energy_threshold,
    fit_temperature,
    probabilities_at,
)
from training.fitting.fit_settings import FitSettings
from training.fitting.logits import logits_of
from training.plan import TrainingRequest
from training.train_activity import train_activity

DEFAULT = RECIPES["default"]


def test_the_temperature_found_is_the_one_that_was_put_in() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (20_000, 4))
    targets = (probabilities_at(1.0, logits).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    assert fit_temperature(logits * 2.5, targets) == pytest.approx(2.5, rel=0.03)
    assert fit_temperature(logits * 0.5, targets) == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 10.0])
def test_a_temperature_divides_the_logits(temperature: float) -> None:
    """Far apart ones, too: probabilities that round to 0 come back when it is warmer."""
    logits = np.array([[0.0, 5.0, -3.0], [300.0, 0.0, 0.0]], np.float32)
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64) / temperature)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities_at(temperature, logits), expected, rtol=1e-5)


@given(st.integers(1, 300), st.floats(-20, 20))
def test_behind_the_border_few_who_validate_are_unfamiliar(windows: int, shift: float) -> None:
    logits = np.random.default_rng(windows).normal(shift, 2, (windows, 6)).astype(np.float32)
    shifted = logits - energy_threshold(logits)
    strange = int((familiarity(shifted) < FAMILIARITY_THRESHOLD - 1e-6).sum())
    assert strange <= MAX_FALSE_ALARM_RATE * windows < strange + 2
    np.testing.assert_allclose(probabilities_at(1.0, shifted), probabilities_at(1.0, logits), atol=1e-5)


def familiarity(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.log(np.exp(logits.astype(np.float64)).sum(axis=1)))))


# -- what a network that has learned is given


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wisdm(tmp_path_factory.mktemp("data") / "data.txt", people=("1", "2", "7", "30"))


def learned(data: Path, start: Bundle | None = None, recipe: Recipe = DEFAULT) -> FittedActivityModel:
    people = split_recordings(read_files([data], None, DEFAULT_LABELS), recipe)
    return fit_activity(prepare_training_data(people, recipe, 0, start), FitSettings(epochs=1, seed=0), start=start)


def test_familiarity_is_levelled_where_enough_people_validate(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.activity_model.fit_activity.MIN_VALIDATION_PEOPLE", 1)
    levelled = learned(data)
    monkeypatch.setattr("training.activity_model.fit_activity.MIN_VALIDATION_PEOPLE", 2)
    left_alone = learned(data)
    assert energy_threshold(levelled.logits) == pytest.approx(0.0, abs=1e-4)
    known = levelled.data.task.validation.inputs
    np.testing.assert_allclose(logits_of(levelled.network, known), levelled.logits, atol=1e-4)
    assert left_alone.familiarity_shift == 0.0
    np.testing.assert_allclose(levelled.logits - levelled.familiarity_shift, left_alone.logits, atol=1e-4)
    assert MIN_VALIDATION_PEOPLE > 1


def test_what_goes_on_from_a_bundle_finds_as_many_strange_as_that_did(data: Path, tmp_path: Path) -> None:
    start = train_activity(TrainingRequest([data], epochs=1), tmp_path / "first", tmp_path / "report").bundle
    further = learned(data, start)
    known = further.data.task.validation.inputs
    before = energy_threshold(logits_of(served_module(start).network, known))
    assert further.familiarity_shift != 0.0
    assert energy_threshold(further.logits) == pytest.approx(before, abs=1e-4)


def test_what_is_taught_no_ood_samples_is_not_shifted(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.activity_model.fit_activity.MIN_VALIDATION_PEOPLE", 0)
    assert learned(data, recipe=RECIPES["article"]).familiarity_shift == 0.0
