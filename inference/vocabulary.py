"""`vocabulary.txt`: the words that a text network knows, UTF-8, one a line; line k, from 0, has id k + 2."""

from __future__ import annotations

from collections.abc import Sequence

LIMIT = 1 << 25
"""Bytes of the file: a million words, the most that an architecture accepts, of 32 bytes."""

WORD_LIMIT = 256
"""Characters of a word: longer ones come from an unterminated line."""


def parse(content: bytes) -> tuple[str, ...]:
    """Return the words of a file's content.

    Raises `ValueError`, a sentence that names the line and what to do.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8: save the file as UTF-8") from None
    if text and not text.endswith("\n"):
        raise ValueError("the last line has no end, so the file may have been cut off: end each word with a line feed")
    words = tuple(text.split("\n")[:-1])
    check(words)
    return words


def check(words: Sequence[str]) -> None:
    """Check that all words are unique and can be read back.

    Raises `ValueError`, a sentence that names the line and what to do.
    """
    seen: dict[str, int] = {}
    for line, word in enumerate(words, start=1):
        if word.split() != [word] or "\0" in word:  # str.split knows all of Unicode's spaces and line breaks
            what = "is empty" if not word else f"{word[:40]!r} holds a space, a line break or a NUL"
            raise ValueError(f"line {line} {what}: give one word a line, with line feeds alone between them")
        if len(word) > WORD_LIMIT:
            raise ValueError(f"line {line} has {len(word):,} characters: leave out words of more than {WORD_LIMIT}")
        first = seen.setdefault(word, line)
        if first != line:
            raise ValueError(f"line {line} repeats {word[:40]!r} of line {first}: a word has one id, leave one out")


def render(words: Sequence[str]) -> bytes:
    """Return the file's content for `words`.

    Raises `ValueError` as `parse` would.
    """
    check(words)
    try:
        return "".join(f"{word}\n" for word in words).encode()
    except UnicodeEncodeError as error:
        line = error.object.count("\n", 0, error.start) + 1
        raise ValueError(f"line {line} holds half of a surrogate pair, which UTF-8 cannot say: leave it out") from None
