"""Words as numbers, vocabularies and published vectors."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.training.corpora import write_vectors
from training.data.files import DataError
from training.text_model.words import choose_words, read_vectors, tokenise_all, vector_rows
from windowing.text import Framer, TextRules

TEXTS = ("One two two", "three, one... TWO!", "", "four five six seven eight nine", "two")
ALL = np.arange(len(TEXTS))


@pytest.mark.parametrize("keep", ["first", "last"])
def test_frames_are_those_that_the_service_makes(keep: str) -> None:
    rules = TextRules.model_validate({"tokens": "words", "html": False, "length": 4, "keep": keep})
    tokens = tokenise_all(TEXTS, rules)
    vocabulary = ("two", "nine", "one", "four")
    framed = tokens.frames(ALL, vocabulary, rules)
    np.testing.assert_array_equal(framed, Framer(rules, vocabulary).frame(TEXTS))
    assert framed.dtype == np.int32


def test_the_vocabulary_is_of_the_texts_asked_for_most_frequent_first() -> None:
    tokens = tokenise_all(TEXTS, TextRules(tokens="words", html=False, length=4, keep="first"))
    assert choose_words(tokens, np.array([0, 1]), min_count=1, limit=9) == ("two", "one", "three")
    assert choose_words(tokens, np.array([0, 1]), min_count=2, limit=9) == ("two", "one")
    assert choose_words(tokens, ALL, min_count=1, limit=1) == ("two",)
    assert choose_words(tokens, np.array([2]), min_count=1, limit=9) == ()


def test_vectors_are_read_plain_or_compressed(tmp_path: Path) -> None:
    plain = write_vectors(tmp_path / "v.txt")
    packed = tmp_path / "v.txt.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    first, second = read_vectors(plain), read_vectors(packed)
    assert first.rows == second.rows
    assert first.dimensions == 8
    np.testing.assert_array_equal(first.values, second.values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("word\n", "not a vector of 1 to 1,024 numbers"),
        ("a 1 2\nb 1\n", "not a word and 2 numbers"),
        ("a 1 x\n", "could not convert"),
        ("a 1 nan\n", "not finite"),
    ],
)
def test_a_file_that_holds_no_vectors_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "v.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_vectors(path)


def test_words_without_a_vector_are_random_with_the_variance_of_the_others(tmp_path: Path) -> None:
    vectors = read_vectors(write_vectors(tmp_path / "v.txt", dimensions=400))
    vocabulary = ("film", "zzz", "story", "qqq")
    rows = vector_rows(vocabulary, vectors, np.random.default_rng(0))
    assert rows.shape == (6, 400)
    assert not rows[0].any()
    np.testing.assert_array_equal(rows[[2, 4]], vectors.values[[vectors.rows["film"], vectors.rows["story"]]])
    assert rows[[1, 3, 5]].var() == pytest.approx(rows[[2, 4]].var(), rel=0.1)
