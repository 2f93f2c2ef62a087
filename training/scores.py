"""How well predictions fit known labels."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Scores:
    """Counts and figures of one set of predictions.

    `confusion` int64[k, k]: rows are the true labels, columns the predicted ones. `loss` is the mean negative
    log likelihood of the true label, nan where nothing was scored. A class never predicted has precision 0, one
    never seen recall 0.
    """

    labels: tuple[str, ...]
    confusion: np.ndarray
    loss: float

    @property
    def support(self) -> np.ndarray:
        """int64[k]: examples of each class."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def accuracy(self) -> float:
        """Share of predictions that are right."""
        return float(np.trace(self.confusion) / max(1, self.confusion.sum()))

    @property
    def precision(self) -> np.ndarray:
        """float64[k]: of what was called a class, the share that is."""
        return np.asarray(np.diag(self.confusion) / np.maximum(1, self.confusion.sum(axis=0)))

    @property
    def recall(self) -> np.ndarray:
        """float64[k]: of what is a class, the share that was called so."""
        return np.asarray(np.diag(self.confusion) / np.maximum(1, self.support))

    @property
    def f1(self) -> np.ndarray:
        """float64[k]: harmonic mean of precision and recall."""
        return np.asarray(2 * np.diag(self.confusion) / np.maximum(1, self.confusion.sum(axis=0) + self.support))

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur, each counting the same; 0 where none does."""
        occurs = self.support > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0


def score(labels: tuple[str, ...], truth: np.ndarray, probabilities: np.ndarray) -> Scores:
    """Score probabilities, float[m, k], against `truth`, int64[m]."""
    k = len(labels)
    predicted = probabilities.argmax(axis=1)
    confusion = np.bincount(truth * k + predicted, minlength=k * k).reshape(k, k)
    likelihood = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    loss = float(-np.log(np.maximum(likelihood, 1e-12)).mean()) if len(truth) else float("nan")
    return Scores(labels, confusion, loss)
