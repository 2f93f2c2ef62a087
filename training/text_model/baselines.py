"""Baselines for text classification: TF-IDF with a linear classifier, by scikit-learn."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from training.fitting.fit_settings import FitError

Baseline = Literal["tfidf-logistic", "tfidf-svm"]
BASELINES: Mapping[Baseline, str] = {
    "tfidf-logistic": "TF-IDF, logistic regression",
    "tfidf-svm": "TF-IDF, linear SVM",
}
SETTINGS = (
    "Baselines by scikit-learn: TF-IDF of words and pairs of neighbours that occur in two texts or more, with "
    "sublinear term frequencies; logistic regression with C = 10 or a linear SVM with C = 1."
)


def fit_baseline(
    baseline: Baseline, texts: Sequence[str], targets: np.ndarray, test_texts: Sequence[str], classes: int
) -> np.ndarray:
    """Fit on `texts` and their classes int64[n]; return predictions for `test_texts`, one-hot float32[m, classes].

    Raises `FitError` where scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import LinearSVC
    except ModuleNotFoundError as error:
        raise FitError(
            "baselines are fitted with scikit-learn, which is not installed: pip install '.[train]' in the checkout"
        ) from error
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2, dtype=np.float32)
    classifier: Any = LogisticRegression(C=10.0, max_iter=1000) if baseline == "tfidf-logistic" else LinearSVC(C=1.0)
    classifier.fit(words.fit_transform(texts), targets)
    guesses: np.ndarray = classifier.predict(words.transform(test_texts))
    return np.asarray(np.eye(classes, dtype=np.float32)[guesses])
