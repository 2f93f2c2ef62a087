"""A corpus as word ids, the vocabulary of a model, and published word vectors."""

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rich.progress
from rich.console import Console

from training.data.files import READ_ERRORS, DataError, opened, reason, sha256
from windowing.text import TextRules, tokenise

PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2

MAX_VECTORS = 4_000_000
MAX_DIMENSIONS = 1_024
MAX_LINE_BYTES = 64 << 10
MAX_WORD_LENGTH = 100
LINES_AT_ONCE = 2_000

# Kim's bound, for words without a vector if no word has one.
RANDOM_BOUND = 0.25


# --- a corpus, tokenised once --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokenised texts: `ids` int32[total], index into `words`, those of text i at `starts[i]:starts[i + 1]`.

    `words` are in the order of their first occurrence, and are not a model's vocabulary yet.
    """

    words: tuple[str, ...]
    ids: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def counts(self, texts: np.ndarray) -> np.ndarray:
        """Return int64[words]: how often each word occurs in `texts` int64[m]."""
        parts = [self.ids[self.starts[i] : self.starts[i + 1]] for i in texts]
        return np.bincount(np.concatenate([np.empty(0, np.int32), *parts]), minlength=len(self.words))

    def frames(self, texts: np.ndarray, vocabulary: Sequence[str], rules: TextRules) -> np.ndarray:
        """Return int32[m, length]: `texts` int64[m] as `windowing.text.Framer` would frame them."""
        ids = {word: number for number, word in enumerate(vocabulary, FIRST_WORD)}
        of_word = np.array([ids.get(word, UNKNOWN) for word in self.words], np.int32)
        frames = np.full((len(texts), rules.length), PADDING, np.int32)
        for row, i in enumerate(texts):
            start, stop = self.starts[i], self.starts[i + 1]
            kept = slice(start, min(stop, start + rules.length))
            if rules.keep == "last":
                kept = slice(max(start, stop - rules.length), stop)
            frames[row, : kept.stop - kept.start] = of_word[self.ids[kept]]
        return frames


def tokenise_all(texts: Sequence[str], rules: TextRules, console: Console | None = None) -> Tokens:
    """Tokenise a corpus, showing progress on `console` if given."""
    numbers: dict[str, int] = {}
    quiet = console is None or not console.is_terminal  # elsewhere a bar leaves an empty line
    ids = [
        np.array([numbers.setdefault(word, len(numbers)) for word in tokenise(text, rules)], np.int32)
        for text in rich.progress.track(
            texts, "Splitting texts into words", console=console, disable=quiet, transient=True
        )
    ]
    starts = np.cumsum([0, *map(len, ids)])
    return Tokens(tuple(numbers), np.concatenate([np.empty(0, np.int32), *ids]), starts)


# --- vectors -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Vectors:
    """Published word vectors: `rows` maps a word to its row of `values` float32[n, dimensions]."""

    name: str
    sha256: str
    rows: dict[str, int]
    values: np.ndarray

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.values.shape[1])


def read_vectors(path: Path, console: Console | None = None) -> Vectors:
    """Read vectors in GloVe's text form, `word v1 ... vd` a line, plain or compressed. Raises `DataError`."""
    words: list[str] = []
    blocks: list[np.ndarray] = []
    try:
        with opened(path, console) as content:
            for lines in _blocks(content):
                dimensions = blocks[0].shape[1] if blocks else lines[0].count(b" ")
                words += [line.partition(b" ")[0].decode("utf-8", "replace") for line in lines]
                blocks.append(_numbers(lines, dimensions, f"{path.name}, line {len(words) - len(lines) + 1} or after"))
                if len(words) > MAX_VECTORS:
                    raise DataError(f"{path.name} has more than {MAX_VECTORS:,} vectors")
    except READ_ERRORS as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error
    if not blocks:
        raise DataError(f"{path.name} is empty: lines of the form `word v1 ... vd` are needed")
    rows: dict[str, int] = {}
    for row, word in enumerate(words):
        rows.setdefault(word, row)
    return Vectors(path.name, sha256(path), rows, np.concatenate(blocks))


def _blocks(content: io.BufferedReader) -> Iterator[list[bytes]]:
    lines = iter(lambda: content.readline(MAX_LINE_BYTES), b"")
    while block := [line.rstrip() for line in itertools.islice(lines, LINES_AT_ONCE)]:
        yield block


def _numbers(lines: Sequence[bytes], dimensions: int, where: str) -> np.ndarray:
    """Return float32[lines, dimensions]; raises `DataError`."""
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise DataError(f"{where}: not a vector of 1 to {MAX_DIMENSIONS:,} numbers: is this a file of word vectors?")
    numbers = [line.split(b" ")[1:] for line in lines]
    if any(len(row) != dimensions for row in numbers):
        raise DataError(f"{where}: not a word and {dimensions} numbers, as in the first line")
    try:
        values = np.array([list(map(float, row)) for row in numbers], np.float32)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if not np.isfinite(values).all():
        raise DataError(f"{where}: a number is not finite")
    return values


# --- a vocabulary and its vectors ----------------------------------------------------------------


def choose_words(tokens: Tokens, texts: np.ndarray, *, min_count: int, limit: int) -> tuple[str, ...]:
    """Return the words that occur `min_count` times in `texts` int64[m], most frequent first, at most `limit`."""
    counts = tokens.counts(texts) * np.array([is_word(word) for word in tokens.words], int)
    frequent = sorted(np.flatnonzero(counts >= max(1, min_count)), key=lambda i: (-counts[i], tokens.words[i]))
    return tuple(tokens.words[i] for i in frequent[:limit])


def is_word(word: str) -> bool:
    """Return whether a vocabulary may hold the word: no Unicode whitespace, and not an unterminated line."""
    return word.split() == [word] and len(word) <= MAX_WORD_LENGTH and "\0" not in word


def vector_rows(vocabulary: Sequence[str], vectors: Vectors, rng: np.random.Generator) -> np.ndarray:
    """Return float32[words + 2, dimensions]: the rows of an embedding; padding is zeros.

    Words without a vector, and the unknown word, are uniform with the variance of the vectors, as in Kim (2014).
    """
    # The variance of the words in use: rare words, at the end of a vector file, have other vectors.
    known = [(number, vectors.rows[word]) for number, word in enumerate(vocabulary, FIRST_WORD) if word in vectors.rows]
    places, rows = np.array(known, np.int64).reshape(-1, 2).T
    values = vectors.values[rows]
    bound = float(np.sqrt(3 * values.var())) if len(rows) else RANDOM_BOUND
    table = random_rows(len(vocabulary), vectors.dimensions, rng, bound)
    table[places] = values
    return table


def random_rows(words: int, dimensions: int, rng: np.random.Generator, bound: float = RANDOM_BOUND) -> np.ndarray:
    """Return float32[words + 2, dimensions]: uniform within `bound`; padding is zeros."""
    table = rng.uniform(-bound, bound, (words + FIRST_WORD, dimensions)).astype(np.float32)
    table[PADDING] = 0
    return table
