"""That the shipped text bundles are small, fitted, and do on texts they never saw what their manifests say."""

from pathlib import Path

import numpy as np
import pytest

from inference.bundle import Bundle, find_bundle, load_bundle
from training.bundles import metric_name
from training.data.text_datasets import Corpus, MessagePart, read_corpus
from training.evaluation.evaluate import evaluate_texts
from training.text_model.words import FIRST_WORD, Vectors, read_vectors
from training.train_text import single_split

BUNDLES = ("subjectivity", "messages")


def shipped(name: str) -> Bundle:
    return load_bundle(find_bundle(name))


def test_both_together_take_less_than_20_megabytes() -> None:
    size = sum(file.stat().st_size for name in BUNDLES for file in find_bundle(name).iterdir())
    assert size < 20_000_000


@pytest.fixture(scope="module")
def subj(recordings_folder: Path) -> Corpus:
    files = [recordings_folder / f"subj.{part}.gz" for part in ("objective", "subjective")]
    return read_corpus("subj", existing(files))


@pytest.fixture(scope="module")
def newsgroups(recordings_folder: Path) -> Corpus:
    strip: tuple[MessagePart, ...] = ("headers", "footers", "quotes")
    return read_corpus("20news", existing([recordings_folder / "20news-bydate.tar.xz"]), strip=strip)


@pytest.fixture(scope="module")
def vectors(recordings_folder: Path) -> Vectors:
    (file,) = existing([recordings_folder / "glove.6B.100d.subset.txt.xz"])
    return read_vectors(file)


def existing(files: list[Path]) -> list[Path]:
    for file in files:
        if not file.exists():
            pytest.skip(f"{file.name} is not in {file.parent}")
    return files


@pytest.mark.recordings
@pytest.mark.parametrize(("name", "fixture"), [("subjectivity", "subj"), ("messages", "newsgroups")])
def test_a_shipped_bundle_does_on_held_out_texts_what_its_manifest_says(
    name: str, fixture: str, request: pytest.FixtureRequest
) -> None:
    corpus: Corpus = request.getfixturevalue(fixture)
    bundle = shipped(name)
    test = single_split(corpus, validation_share=0.1, test_share=0.1, seed=bundle.manifest.training.seed).test
    scores = evaluate_texts(bundle, corpus, test).scores
    promised = bundle.manifest.metrics
    assert scores.accuracy == pytest.approx(promised[f"{metric_name(corpus.name)}.accuracy"], abs=0.002)
    assert scores.macro_f1 == pytest.approx(promised[f"{metric_name(corpus.name)}.macro_f1"], abs=0.002)


@pytest.mark.recordings
@pytest.mark.parametrize("name", BUNDLES)
def test_no_word_of_a_shipped_bundle_has_its_published_vector(name: str, vectors: Vectors) -> None:
    bundle = shipped(name)
    known = [(row, word) for row, word in enumerate(bundle.vocabulary, FIRST_WORD) if word in vectors.rows]
    ours = bundle.weights["embedding.weight"][[row for row, _ in known]]
    published = vectors.values[[vectors.rows[word] for _, word in known]]
    assert len(known) > 15_000
    assert np.abs(ours - published).max(axis=1).min() > 0.01
