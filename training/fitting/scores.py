"""Scores of predictions against true labels."""

from dataclasses import dataclass

import numpy as np

RELIABILITY_BINS = 15


@dataclass(frozen=True, slots=True)
class Scores:
    """The confusion matrix and metrics of one set of predictions.

    `confusion` int64[k, k]: rows are the true labels, columns the predicted ones. `loss` is the mean negative log
    likelihood of the true label, nan if nothing was scored. `reliability` float64[15, 3]: for each fifteenth of [0, 1],
    the number of predictions with that confidence, the sum of their confidence, and the number that are right. A class
    never predicted has precision 0, one that never occurs recall 0.
    """

    labels: tuple[str, ...]
    confusion: np.ndarray
    loss: float
    reliability: np.ndarray

    @property
    def support(self) -> np.ndarray:
        """int64[k]: examples of each class."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def accuracy(self) -> float:
        """Share of predictions that are right."""
        return float(np.trace(self.confusion) / max(1, self.confusion.sum()))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy over the bins of `reliability`.

        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
        """
        count, confidence, right = self.reliability.T
        return float(np.abs(confidence - right).sum() / max(1, count.sum()))

    @property
    def precision(self) -> np.ndarray:
        """float64[k]: of the examples predicted as a class, the share that belongs to it."""
        return np.asarray(np.diag(self.confusion) / np.maximum(1, self.confusion.sum(axis=0)))

    @property
    def recall(self) -> np.ndarray:
        """float64[k]: of the examples of a class, the share predicted as it."""
        return np.asarray(np.diag(self.confusion) / np.maximum(1, self.support))

    @property
    def f1(self) -> np.ndarray:
        """float64[k]: harmonic mean of precision and recall."""
        return np.asarray(2 * np.diag(self.confusion) / np.maximum(1, self.confusion.sum(axis=0) + self.support))

    @property
    def macro_f1(self) -> float:
        """Unweighted mean F1 of the classes that occur; 0 if none does."""
        occurs = self.support > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0


def score(labels: tuple[str, ...], truth: np.ndarray, probabilities: np.ndarray) -> Scores:
    """Score probabilities, float[m, k], against `truth`, int64[m]."""
    k = len(labels)
    predicted = probabilities.argmax(axis=1)
    confusion = np.bincount(truth * k + predicted, minlength=k * k).reshape(k, k)
    likelihood = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    loss = float(-np.log(np.maximum(likelihood, 1e-12)).mean()) if len(truth) else float("nan")
    return Scores(labels, confusion, loss, _reliability(probabilities.max(axis=1, initial=0.0), predicted == truth))


def _reliability(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    bins = np.clip((confidence * RELIABILITY_BINS).astype(np.int64), 0, RELIABILITY_BINS - 1)
    sums = [np.bincount(bins, weights, minlength=RELIABILITY_BINS) for weights in (None, confidence, right)]
    return np.stack(sums, axis=1).astype(np.float64)
