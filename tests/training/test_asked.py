"""What is asked for comes to a plan before any file has been read."""

from pathlib import Path

import pytest

from tests.inference.bundles import har_bundle
from training.asked import Asked
from training.fit_settings import FitError
from training.recipes import FINE_TUNING, RECIPES
from training.recordings import SIX, Labels

OWN = Labels(("Walking", "Cycling"))


def test_without_a_start_the_recipe_is_followed_as_it_is() -> None:
    plan = Asked([Path("nowhere.csv")], seed=3).plan()

    assert plan.settings == RECIPES["default"].fit
    assert (plan.labels, plan.start, plan.seed) == (SIX, None, 3)


def test_what_goes_on_from_a_bundle_learns_its_labels_more_slowly(tmp_path: Path) -> None:
    start = har_bundle(tmp_path / "start")
    plan = Asked([], start=start.folder, epochs=2, precision="bfloat16").plan()

    assert plan.start is not None
    assert plan.start.digest == start.digest
    assert plan.labels.names == start.manifest.labels
    assert plan.settings.learning_rate == FINE_TUNING * RECIPES["default"].fit.learning_rate
    assert (plan.settings.epochs, plan.settings.precision) == (2, "bfloat16")
    assert Asked([], labels=OWN, start=start.folder).plan().labels == OWN


def test_no_epochs_are_refused_before_a_file_is_read() -> None:
    with pytest.raises(FitError, match="must be positive"):
        Asked([Path("nowhere.csv")], epochs=0).plan()
