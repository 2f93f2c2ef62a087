import numpy as np
import pytest

from training.evaluation.evaluate import class_rows
from training.fitting.scores import score

LABELS = ("a", "b", "c")


def probabilities(predicted: list[int]) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[predicted] * 0.7 + 0.1


def test_figures_agree_with_a_confusion_matrix_worked_out_by_hand() -> None:
    scores = score(LABELS, np.array([0, 0, 0, 1, 1, 2]), probabilities([0, 0, 1, 1, 1, 0]))
    assert scores.confusion.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.precision.tolist() == pytest.approx([2 / 3, 2 / 3, 0])
    assert scores.recall.tolist() == pytest.approx([2 / 3, 1, 0])
    assert scores.f1.tolist() == pytest.approx([2 / 3, 0.8, 0])
    assert scores.support.tolist() == [3, 2, 1]
    assert scores.macro_f1 == pytest.approx((2 / 3 + 0.8) / 3)
    assert scores.loss == pytest.approx(-(4 * np.log(0.8) + 2 * np.log(0.1)) / 6)


def test_a_class_that_does_not_occur_does_not_lower_the_macro_f1() -> None:
    assert score(LABELS, np.array([0, 1]), probabilities([0, 1])).macro_f1 == 1.0
    assert score(LABELS, np.array([0, 1, 1]), probabilities([0, 1, 2])).macro_f1 == pytest.approx((1 + 2 / 3) / 2)


def test_a_certain_mistake_costs_much_but_not_everything() -> None:
    scores = score(LABELS, np.array([1]), np.array([[1.0, 0.0, 0.0]], np.float32))
    assert scores.loss == pytest.approx(27.6, abs=0.1)


def test_the_calibration_error_is_how_far_confidence_is_from_being_right() -> None:
    confident = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 5)
    truth = np.array([0] * 7 + [1] * 3 + [1] * 3 + [0] * 2)  # 7 of 10 where it says 0.9, 3 of 5 where it says 0.6
    scores = score(("a", "b"), truth, confident)
    assert scores.calibration_error == pytest.approx((10 * 0.2 + 5 * 0.0) / 15)
    assert scores.reliability.sum(axis=0).tolist() == pytest.approx([15, 12, 10])


def test_nothing_scored_has_no_calibration_error() -> None:
    assert score(LABELS, np.empty(0, np.int64), np.empty((0, 3))).calibration_error == 0.0


def test_a_class_that_does_not_occur_is_shown_without_figures() -> None:
    scores = score(LABELS, np.array([0, 0, 1]), probabilities([0, 2, 1]))
    assert class_rows(scores) == [
        ("a", "1.000", "0.500", "0.667", "2"),
        ("b", "1.000", "1.000", "1.000", "1"),
        ("c", "-", "-", "-", "0"),
    ]
