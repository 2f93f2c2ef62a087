import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.bundles import familiar_bundle, har_bundle
from tests.training.signals import swinging
from training.activity_model import ood_samples, unseen_ood_samples
from training.data.frames import other_activity_windows, served_frames
from training.data.recordings import OTHER_ACTIVITY, DataFile
from training.evaluation.evaluate import evaluate
from training.evaluation.familiarity import (
    SYNTHETIC_COUNT,
    OodSamples,
    Separation,
    ood_kinds,
    roc_auc,
    roc_curve,
    share_below_threshold,
)
from training.reports.report import write_evaluations
from training.reports.report_json import separation_json
from training.reports.report_tables import separation_section

MADE_UP_KINDS = len(ood_samples.KINDS) + len(unseen_ood_samples.KINDS)
SHARES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=12).map(np.array)


@given(SHARES, SHARES)
def test_the_area_is_the_share_of_pairs_in_which_the_known_is_the_more_familiar(
    known: np.ndarray, strange: np.ndarray
) -> None:
    pairs = [(k > s) + 0.5 * (k == s) for k in known for s in strange]
    assert roc_auc(known, strange) == pytest.approx(np.mean(pairs))


@given(SHARES, SHARES)
def test_the_area_is_that_under_the_curve(known: np.ndarray, strange: np.ndarray) -> None:
    mistaken, found = roc_curve(known, strange).T
    assert (mistaken[0], found[0], mistaken[-1], found[-1]) == (0, 0, 1, 1)
    assert (np.diff(mistaken) >= 0).all()
    assert (np.diff(found) >= 0).all()
    assert np.trapezoid(found, mistaken) == pytest.approx(roc_auc(known, strange))


def test_half_is_not_below_half() -> None:
    assert share_below_threshold(np.array([0.2, 0.5, 0.7, 0.49])) == 0.5


# -- of a bundle


@pytest.fixture(scope="module")
def file() -> DataFile:
    """Two people who walk and jog, and one of them does something else too."""
    walkers = [swinging(activity, person) for activity in ("Walking", "Jogging") for person in ("1", "2")]
    other = dataclasses.replace(swinging("Standing", "2"), activity=np.full(600, OTHER_ACTIVITY, np.int8))
    return DataFile("their.csv", "0" * 64, "csv", "their", (*walkers, other), {}, {"Cycling": 600})


def test_ood_samples_to_judge_by_are_recorded_and_made_up(file: DataFile) -> None:
    known = served_frames(file.recordings).values
    found = {name: (origin, frames) for name, origin, frames in ood_kinds(known, file)}

    origin, cycling = found.pop("Cycling")
    assert origin == "recorded"
    np.testing.assert_array_equal(cycling, other_activity_windows(file.recordings))
    assert len(found) == MADE_UP_KINDS
    assert {name for name, (origin, _) in found.items() if origin == "made up, never taught"} == {
        "tumbling bag",
        "bus",
        "free spin",
    }
    assert all(frames.shape == (SYNTHETIC_COUNT, 80, 3) for _, frames in found.values())
    assert all(frames.dtype == np.float32 for _, frames in found.values())


def test_where_nothing_else_is_recorded_ood_samples_are_made_up(file: DataFile) -> None:
    alone = dataclasses.replace(file, recordings=file.recordings[:4], others={})
    origins = [origin for _, origin, _ in ood_kinds(served_frames(alone.recordings).values, alone)]
    assert "recorded" not in origins
    assert len(origins) == MADE_UP_KINDS


def test_an_evaluation_tells_familiarity_where_the_bundle_does(file: DataFile, tmp_path: Path) -> None:
    familiar, plain = familiar_bundle(tmp_path / "familiar"), har_bundle(tmp_path / "plain")
    people = file.recordings[:4]
    scored, unscored = (evaluate(replaced_labels, file, people) for replaced_labels in (familiar, plain))

    assert unscored.familiarity is None
    assert scored.familiarity is not None
    assert len(scored.familiarity.known) == scored.scores.support.sum()
    assert [len(some.familiarity) for some in scored.familiarity.ood][1:] == [SYNTHETIC_COUNT] * MADE_UP_KINDS
    again = evaluate(familiar, file, people)
    assert again.familiarity is not None
    for first, second in zip(scored.familiarity.ood, again.familiarity.ood, strict=True):
        np.testing.assert_array_equal(first.familiarity, second.familiarity)


def test_the_report_holds_figures_a_table_and_a_picture(file: DataFile, tmp_path: Path) -> None:
    bundles = familiar_bundle(tmp_path / "familiar"), har_bundle(tmp_path / "plain")
    for bundle in bundles:
        evaluation = evaluate(bundle, file, file.recordings[:4])
        write_evaluations(tmp_path / "report" / bundle.folder.name, [evaluation])
    with_familiarity, without = (tmp_path / "report" / bundle.folder.name for bundle in bundles)

    figures = json.loads((with_familiarity / "metrics.json").read_text())["test"][0]["familiarity"]
    assert [some["name"] for some in figures["strangers"]][:2] == ["Cycling", "tumbling bag"]
    assert all(0 <= some["area_under_curve"] <= 1 for some in figures["strangers"])
    assert "| Cycling | recorded |" in (with_familiarity / "report.md").read_text()
    assert (with_familiarity / "familiarity-their.png").read_bytes().startswith(b"\x89PNG")
    assert "familiarity" not in json.loads((without / "metrics.json").read_text())["test"][0]
    assert "Familiarity" not in (without / "report.md").read_text()
    assert not (without / "familiarity-their.png").exists()


def test_the_figures_are_those_of_the_familiarities() -> None:
    known = np.array([0.9, 0.8, 0.4, 1.0])
    cycling = OodSamples("Cycling", "recorded", np.array([0.1, 0.85]))
    separation = Separation(known, (cycling,))

    figures = separation_json(separation)
    assert (figures["windows"], figures["below_half"]) == (4, 0.25)
    assert figures["strangers"] == [
        {"name": "Cycling", "origin": "recorded", "windows": 2, "area_under_curve": 0.75, "below_half": 0.5}
    ]
    assert "| Cycling | recorded | 2 | 0.750 | 50.0% |" in separation_section(separation)
    assert "Below 0.5 in 25.0% of the 4 windows" in separation_section(separation)
