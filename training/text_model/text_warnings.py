"""What to say of texts to learn from, before anybody believes what a model learned from them."""

import re

import numpy as np

from training.text_model.fit_text import Split, TextTrainingData, times_alike
from training.text_model.words import Tokens

FEW_TO_TEST = 20
# From this share of all words on, those of a script without spaces matter.
UNSPACED_SHARE = 0.2
# Thai, Lao, Tibetan, Burmese; Khmer; Japanese; Chinese. Korean has spaces between words.
_UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def warnings_of_texts(data: TextTrainingData) -> list[str]:
    """Return what to say of rows left out, of texts without words or spaces, of repeated ones and of rare labels."""
    corpus = data.corpus
    told = [*corpus.warnings, *_of_texts_without_words(data.tokens), *_of_words_without_spaces(data.tokens)]
    if repeated := int((times_alike(data.alike) > 1).sum()):
        told.append(
            f"{repeated:,} of {len(corpus):,} texts occur more than once: they stay together, in training or in a test"
        )
    if unclear := _with_several_labels(data):
        told.append(f"{unclear:,} of {len(corpus):,} texts occur with more than one label: a model can't get all right")
    different = np.unique([corpus.targets, data.alike], axis=1)
    alone = np.flatnonzero(np.bincount(different[0], minlength=len(corpus.labels)) == 1)
    return told + [
        f"One text alone has the label {corpus.labels[label]!r}: it can't be both learned and tested" for label in alone
    ]


def warnings_of_test(split: Split) -> list[str]:
    """Return what to say of a test of few texts."""
    tested = len(split.test)
    if not 0 < tested < FEW_TO_TEST:
        return []
    texts = "1 text" if tested == 1 else f"{tested} texts"
    return [f"The test is of {texts}: too few for its scores to say much; --folds tests on all texts in turn"]


def _of_texts_without_words(tokens: Tokens) -> list[str]:
    empty = int((np.diff(tokens.starts) == 0).sum())
    if not empty:
        return []
    texts = "1 text holds no word, but" if empty == 1 else f"{empty:,} texts hold no word, but"
    return [f"{texts} marks or emoji, of which a model sees nothing"]


def _of_words_without_spaces(tokens: Tokens) -> list[str]:
    """Tell of scripts without spaces, whose sentences pass for words: hardly any occurs twice, so none is learned."""
    times = np.bincount(tokens.ids, minlength=len(tokens.words))
    theirs = times[[bool(_UNSPACED.search(word)) for word in tokens.words]]
    if theirs.sum() <= UNSPACED_SHARE * times.sum() or 2 * (theirs == 1).sum() <= theirs.sum():
        return []
    return [
        "The texts have no spaces between words, as in Chinese, Japanese or Thai: whole sentences count as words, and "
        f"{(theirs == 1).sum() / theirs.sum():.0%} of these occur once, so next to nothing can be learned. Put a space "
        "between words, or between all characters, here and in the texts to label"
    ]


def _with_several_labels(data: TextTrainingData) -> int:
    targets, alike = data.corpus.targets, data.alike
    return int(np.isin(alike, alike[targets != targets[alike]]).sum())
