"""Fit a text network to one split of a corpus: vocabulary, vectors, batches, and the network as it is served.

All runs of `stridecast train text` use this: each fold of a cross-validation, and the fit of a bundle.
"""

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from inference.devices.texts import without_padding
from training.data.files import DataError
from training.data.text_datasets import Corpus, Dataset, MessagePart, TextFile, read_corpus
from training.fitting.calibration import fit_temperature, probabilities_at
from training.fitting.fit import fit
from training.fitting.fit_settings import FitSettings
from training.fitting.history import Epoch
from training.fitting.logits import logits_of, predict
from training.fitting.networks import new_network
from training.fitting.scores import Scores, score
from training.fitting.task import Fixed, Task
from training.text_model.embeddings import VARIANTS
from training.text_model.text_recipes import TextRecipe
from training.text_model.words import (
    FIRST_WORD,
    PADDING,
    UNKNOWN,
    Tokens,
    Vectors,
    choose_words,
    is_word,
    random_rows,
    read_vectors,
    tokenise_all,
    vector_rows,
)

RANDOM_DIMENSIONS = 100


@dataclass(frozen=True, slots=True)
class TextTrainingData:
    """A corpus, its tokens by the recipe's rules, and the published vectors, where the recipe starts from them.

    `alike` int64[n] is for each text the first one of the same tokens (`first_alike`).
    """

    corpus: Corpus
    tokens: Tokens
    alike: np.ndarray
    vectors: Vectors | None

    @property
    def files(self) -> tuple[TextFile, ...]:
        """All files that the weights are made from."""
        if self.vectors is None:
            return self.corpus.files
        return (*self.corpus.files, TextFile(self.vectors.name, self.vectors.sha256))


@dataclass(frozen=True, slots=True)
class Split:
    """The training, validation and test texts of a corpus, as disjoint int64 arrays of indices."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, slots=True)
class FittedTextModel:
    """A fitted network with a plain table of vectors, its vocabulary, history and calibration."""

    network: nn.Module
    vocabulary: tuple[str, ...]
    history: list[Epoch]
    temperature: float
    validation: Scores

    @property
    def table_shape(self) -> tuple[int, int]:
        """Tokens and dimensions of the table of vectors."""
        tokens, dimensions = self.network.get_parameter("embedding.weight").shape
        return tokens, dimensions


def read_training_data(
    dataset: Dataset,
    paths: Sequence[Path],
    recipe: TextRecipe,
    vectors: Path | None,
    *,
    strip: Collection[MessagePart] = (),
    console: Console | None = None,
) -> TextTrainingData:
    """Read and tokenise a corpus, and read the vectors, if any; raises `DataError`."""
    corpus = read_corpus(dataset, paths, strip=strip, console=console)
    tokens = tokenise_all(corpus.texts, recipe.rules, console)
    alike = first_alike(corpus, tokens)
    return TextTrainingData(corpus, tokens, alike, read_vectors(vectors, console) if vectors else None)


def first_alike(corpus: Corpus, tokens: Tokens) -> np.ndarray:
    """Return for each text the first one of the same tokens, int64[n]; in public data sets each is its own.

    Texts that a network can't tell apart must not be learned from and tested on. Public data sets hold some, too, but
    are split as everybody splits them: published figures, and the shipped bundles' own, would be no longer comparable.
    """
    if not corpus.own:
        return np.arange(len(corpus))
    first: dict[bytes, int] = {}
    bounds = enumerate(itertools.pairwise(tokens.starts))
    alike = [first.setdefault(tokens.ids[start:stop].tobytes(), number) for number, (start, stop) in bounds]
    return np.array(alike, np.int64)


def times_alike(alike: np.ndarray) -> np.ndarray:
    """Return how often each text occurs, int64[n]."""
    return np.asarray(np.bincount(alike, minlength=len(alike))[alike])


def split_off(
    texts: np.ndarray, share: float, rng: np.random.Generator, alike: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random `share` of `texts` int64[m], and the rest; those `alike` int64[n] stay together."""
    order, cut = rng.permutation(texts), round(share * len(texts))
    if alike is not None:
        _, first, group = np.unique(alike[order], return_index=True, return_inverse=True)
        by_group = np.argsort(first[group], kind="stable")
        order, first = order[by_group], first[group][by_group]
        between = np.flatnonzero(np.diff(first)) + 1
        if 0 < cut < len(texts) and len(between):
            cut = int(between[np.argmin(np.abs(between - cut))])
    return order[:cut], order[cut:]


def describe(recipe: TextRecipe) -> dict[str, Any]:
    """Return a recipe as values for JSON."""
    return dataclasses.asdict(recipe) | {"rules": recipe.rules.model_dump()}


def identity_of(data: TextTrainingData, recipe: TextRecipe) -> dict[str, Any]:
    """Return what a checkpoint or a fold's result belongs to, apart from its seed."""
    identity: dict[str, Any] = {
        "data": ", ".join(f"{file.name} {file.sha256[:12]}" for file in data.files),
        "texts": f"{len(data.corpus)} of {int(np.diff(data.tokens.starts).sum())} tokens",
        "recipe": describe(recipe),
    }
    repeated = int((times_alike(data.alike) > 1).sum())
    return identity | {"kept together": repeated} if repeated else identity


def fit_text(
    data: TextTrainingData,
    split: Split,
    recipe: TextRecipe,
    settings: FitSettings,
    *,
    unseen_words: bool = False,
    checkpoint: Path | None = None,
    resume: bool = False,
    identity: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> FittedTextModel:
    """Fit the recipe's network to a split; `settings` are the recipe's with this run's seed.

    With `unseen_words`, the vocabulary also holds words of the vectors that no text of the corpus holds. They change no
    score on the corpus. Raises `DataError` or `FitError`.
    """
    corpus, tokens = data.corpus, data.tokens
    words = _vocabulary(data, split.train, recipe)
    vocabulary = words.trained
    vectors = None if recipe.variant == "rand" else data.vectors
    rng = np.random.default_rng((settings.seed, len(split.train)))
    rows = _rows(vocabulary, vectors, rng)
    arguments = recipe.network.sized(
        tokens=len(rows), dimensions=rows.shape[1], length=recipe.rules.length, classes=len(corpus.labels)
    )
    network = new_network(recipe.network.architecture, settings.seed, **arguments)
    embedding = VARIANTS[recipe.variant](torch.from_numpy(rows))
    network.embedding = embedding
    task = Task(
        corpus.labels,
        WordDropout(_examples(data, split.train, vocabulary, recipe), recipe.word_dropout),
        _examples(data, by_length(tokens, split.validation), vocabulary, recipe),
        lengths=np.diff(tokens.starts)[split.train] if recipe.network.trims else None,
    )
    model = Trimmed(network) if recipe.network.trims else network
    history = fit(model, task, settings, checkpoint=checkpoint, resume=resume, identity=identity, console=console)
    logits = logits_of(model, task.validation.inputs)
    table = embedding.fold()
    if unseen_words and vectors is not None:
        carried = embedding.carry(torch.from_numpy(vector_rows(words.beyond, vectors, rng)[FIRST_WORD:]))
        vocabulary, table = vocabulary + words.beyond, torch.cat([table, carried])
    network.embedding = embedding_of(table)
    return FittedTextModel(
        network=network,
        vocabulary=vocabulary,
        history=history,
        temperature=fit_temperature(logits, task.validation.targets),
        validation=score(corpus.labels, task.validation.targets, probabilities_at(1.0, logits)),
    )


def score_on(data: TextTrainingData, fitted: FittedTextModel, texts: np.ndarray, recipe: TextRecipe) -> Scores:
    """Return the scores on `texts` int64[m] by the network with its plain table, in float32."""
    examples = _examples(data, by_length(data.tokens, texts), fitted.vocabulary, recipe)
    model = Trimmed(fitted.network) if recipe.network.trims else fitted.network
    return score(data.corpus.labels, examples.targets, predict(model, examples.inputs))


def by_length(tokens: Tokens, texts: np.ndarray) -> np.ndarray:
    """Return `texts` int64[m], shortest first, so that the texts of a batch have similar lengths."""
    return np.asarray(texts[np.argsort(np.diff(tokens.starts)[texts], kind="stable")])


@dataclass(frozen=True, slots=True)
class WordDropout:
    """Texts in which a random `share` of the words, drawn anew each time, become the unknown word."""

    texts: Fixed
    share: float

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return frames int32[m, length] and classes int64[m] of `rows`."""
        frames, targets = self.texts.batch(rows, rng)
        if self.share:
            frames[(rng.random(frames.shape) < self.share) & (frames != PADDING)] = UNKNOWN
        return frames, targets


class Trimmed(nn.Module):
    """A network whose answers don't depend on padding, run without the padding that a whole batch shares."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        """Return the logits of `frames` int32[n, length]."""
        logits: Tensor = self.network(without_padding(frames))
        return logits


def embedding_of(table: Tensor) -> nn.Embedding:
    """Return the embedding that a bundle's architecture has, holding `table` float32[tokens, dimensions]."""
    return nn.Embedding.from_pretrained(table.detach().clone(), freeze=False, padding_idx=0)  # type: ignore[no-untyped-call, no-any-return]


def _examples(data: TextTrainingData, texts: np.ndarray, vocabulary: Sequence[str], recipe: TextRecipe) -> Fixed:
    return Fixed(data.tokens.frames(texts, vocabulary, recipe.rules), data.corpus.targets[texts])


# --- words ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """A vocabulary: the `trained` words, then those `beyond`, which have vectors but occur in no text of the corpus.

    The latter cannot be looked up while a network is fitted to and scored on the corpus, so they are left out until
    then.
    """

    trained: tuple[str, ...]
    beyond: tuple[str, ...]


def _vocabulary(data: TextTrainingData, train: np.ndarray, recipe: TextRecipe) -> _Vocabulary:
    """Return the most frequent training words, then the vectors' words, most frequent first, up to the limit."""
    words = choose_words(data.tokens, train, min_count=recipe.min_count, limit=recipe.max_words)
    if not words:
        raise DataError(
            f"no word occurs {recipe.min_count} times in the {len(train)} texts to learn from: lower --min-count"
        )
    if not recipe.beyond_training or data.vectors is None:
        return _Vocabulary(words, ())
    known, held = set(words), set(data.tokens.words)
    more = [word for word in data.vectors.rows if word not in known and is_word(word)]
    more = more[: recipe.max_words - len(words)]
    return _Vocabulary(
        words + tuple(word for word in more if word in held), tuple(word for word in more if word not in held)
    )


def _rows(vocabulary: Sequence[str], vectors: Vectors | None, rng: np.random.Generator) -> np.ndarray:
    if vectors is None:
        return random_rows(len(vocabulary), RANDOM_DIMENSIONS, rng)
    return vector_rows(vocabulary, vectors, rng)
