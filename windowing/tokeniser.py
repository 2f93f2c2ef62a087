"""The compiled tokeniser: cleaned texts to rows of token ids, exactly as `windowing.text.tokenise` defines.

It walks a text once, byte by byte of UTF-8, collects a word's letters in lower case, and looks the word up when it
ends. Non-ASCII bytes belong to the word around them; a cleaned text has no others.

Numba's cache tracks changes by file: all compiled code stays in this one.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from windowing.compiled import entry, inlined, part

Bytes = npt.NDArray[np.uint8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

UNKNOWN: Final = 1
FIRST_WORD: Final = 2
# The actions of characters that are no letters of a word.
SEPARATES: Final = 0
STANDS_ALONE: Final = 1
VANISHES: Final = 2


class Table(NamedTuple):
    """A vocabulary, as a hash table with open addressing.

    ids: int32[2**b], at most half full; 0 is an empty place.
    stops: int64[words + 1], word k, whose id is k + 2, is letters[stops[k]:stops[k + 1]].
    letters: uint8[m], UTF-8.
    longest: bytes of the longest word.
    """

    ids: Int32s
    stops: Int64s
    letters: Bytes
    longest: int


def make_table(vocabulary: Sequence[str]) -> Table:
    """Return the table of these unique words."""
    encoded = [word.encode(errors="surrogatepass") for word in vocabulary]
    sizes = [len(word) for word in encoded]
    table = Table(
        ids=np.zeros(2 ** (2 * len(encoded)).bit_length(), np.int32),
        stops=np.cumsum([0, *sizes]),
        letters=np.frombuffer(b"".join(encoded), np.uint8),
        longest=max(sizes, default=0),
    )
    fill_table(table.ids, table.stops, table.letters)
    return table


@part
def _hash(word: Bytes, size: int) -> np.int64:
    """FNV-1a of 32 bits, with the high bits folded onto the low ones, which select the place."""
    h = np.uint32(2166136261)
    for k in range(size):
        h = np.uint32((h ^ word[k]) * np.uint32(16777619))
    return np.int64(h ^ (h >> np.uint32(15)))


@part
def _place(ids: Int32s, stops: Int64s, letters: Bytes, word: Bytes, size: int) -> np.int64:
    """Return the word's place in the table or, if it is not there, the place for it."""
    mask = len(ids) - 1
    place = _hash(word, size) & mask
    while ids[place]:
        start = stops[ids[place] - FIRST_WORD]
        if stops[ids[place] - FIRST_WORD + 1] - start == size:
            alike = 0
            while alike < size and letters[start + alike] == word[alike]:
                alike += 1
            if alike == size:
                break
        place = (place + 1) & mask
    return place


@entry
def fill_table(ids: Int32s, stops: Int64s, letters: Bytes) -> None:
    """Enter all words."""
    for k in range(len(stops) - 1):
        word = letters[stops[k] : stops[k + 1]]
        ids[_place(ids, stops, letters, word, len(word))] = FIRST_WORD + k


@inlined
def _clitic_begins(text: Bytes, at: int, stop: int) -> bool:
    """Return whether one of Kim's clitics begins here: 's 'd 've 're 'll or n't."""
    if text[at] == ord("n"):
        return at + 2 < stop and text[at + 1] == ord("'") and text[at + 2] == ord("t")
    if text[at] != ord("'") or at + 1 >= stop:
        return False
    first = text[at + 1]
    second = text[at + 2] if at + 2 < stop else 0
    return (
        first == ord("s")
        or first == ord("d")
        or (second == ord("e") and (first == ord("v") or first == ord("r")))
        or (second == ord("l") and first == ord("l"))
    )


@part
def _gather(text: Bytes, at: int, stop: int, fold: Bytes, clitics: bool, word: Bytes) -> tuple[int, int]:
    """Copy the token that begins at `at` into `word`, as far as it fits; return its end and its size."""
    kind = fold[text[at]]
    if kind == STANDS_ALONE:
        kind, stop = text[at], at + 1
    size = 0
    while True:
        if kind != VANISHES:
            if size < len(word):
                word[size] = kind
            size += 1
        at += 1
        if at == stop:
            break
        kind = fold[text[at]]
        if kind <= STANDS_ALONE or (clitics and _clitic_begins(text, at, stop)):
            break
    return at, size


@entry
def fill_frames(
    text: Bytes,
    ends: Int64s,
    fold: Bytes,
    clitics: bool,
    keep_last: bool,
    ids: Int32s,
    stops: Int64s,
    letters: Bytes,
    longest: int,
    frames: Int32s,
) -> None:
    """Write the token ids of n texts into the rows of `frames`, int32[n, length], which are all zero.

    text: uint8[m], the texts one after the other, in UTF-8; ends: int64[n], where each ends; fold: uint8[256], what a
    byte does or, if it belongs to a word, its lower case; clitics: whether Kim's clitics are tokens of their
    own; keep_last: whether the end of a longer text is kept rather than its beginning; the rest as in `Table`.
    """
    length = frames.shape[1]
    word = np.empty(longest, np.uint8)
    at = 0
    for row in range(len(ends)):
        end = ends[row]
        count = 0
        while at < end and (keep_last or count < length):
            kind = fold[text[at]]
            if kind in (SEPARATES, VANISHES):
                at += 1
                continue
            at, size = _gather(text, at, end, fold, clitics, word)
            token = ids[_place(ids, stops, letters, word, size)] if size <= longest else 0
            frames[row, count % length] = max(token, UNKNOWN)
            count += 1
        if count > length:
            frames[row] = np.roll(frames[row], -(count % length))
        at = end
