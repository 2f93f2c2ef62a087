"""What is asked for comes to a plan before any file has been read."""

from pathlib import Path

import pytest

from tests.inference.bundles import har_bundle
from training.activity_model.recipes import FINE_TUNING_FACTOR, RECIPES
from training.data.recordings import DEFAULT_LABELS, Labels
from training.fitting.fit_settings import FitError
from training.plan import TrainingRequest

OWN = Labels(("Walking", "Cycling"))


def test_without_a_start_the_recipe_is_followed_as_it_is() -> None:
    plan = TrainingRequest([Path("nowhere.csv")], seed=3).plan()

    assert plan.settings == RECIPES["default"].fit
    assert (plan.labels, plan.start, plan.seed) == (DEFAULT_LABELS, None, 3)


def test_what_goes_on_from_a_bundle_learns_its_labels_more_slowly(tmp_path: Path) -> None:
    start = har_bundle(tmp_path / "start")
    plan = TrainingRequest([], start=start.folder, epochs=2, precision="bfloat16").plan()

    assert plan.start is not None
    assert plan.start.digest == start.digest
    assert plan.labels.names == start.manifest.labels
    assert plan.settings.learning_rate == FINE_TUNING_FACTOR * RECIPES["default"].fit.learning_rate
    assert (plan.settings.epochs, plan.settings.precision) == (2, "bfloat16")
    assert TrainingRequest([], labels=OWN, start=start.folder).plan().labels == OWN


def test_no_epochs_are_refused_before_a_file_is_read() -> None:
    with pytest.raises(FitError, match="must be positive"):
        TrainingRequest([Path("nowhere.csv")], epochs=0).plan()
