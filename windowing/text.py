"""Texts to frames of token ids: cleaning, tokens, lookup, truncation, padding.

What a token is travels in a model's bundle as `TextRules`, so training and serving cannot differ. The names of rules
are frozen: a change of what "sentence" or "words" does to a text needs a new name.

1. **HTML**, where the rules say so and the text holds `<` or `&`: tags, comments, scripts and styles go, entities
   become their characters. A tag is a word boundary, unless it is one that browsers draw within a word, such as `<b>`.
   A `<` that opens no tag is text (`x < 3 and y > 4`, `I </3 you`), as is one that no `>` follows.
2. **Unicode**, where the text isn't ASCII: NFKC (full-width letters become ordinary ones, ligatures become letters);
   typographic apostrophes and quotes become ' and "; soft hyphens, joiners, direction marks and variation selectors go.
3. **Tokens**, lower-cased:

   - `sentence`: the tokenisation for sentence data of Kim, "Convolutional Neural Networks for Sentence Classification"
     (2014): letters, digits and (),!?'` are kept, all else separates; 's 've n't 're 'd 'll (if in lower case) and each
     of (),!? are tokens of their own.
   - `words`: the cleaning of the article on GloVe and a CNN: backslashes and quotes (' and ") are removed, then words
     are runs of letters and digits, as Keras' tokenizer cuts them from printable ASCII.

   Kim's expression and Keras' list know ASCII alone. Here letters and digits are Unicode's, with the marks that
   combine with them; whatever else there is (punctuation, emoji, controls, lone surrogates) separates.
4. **Ids**: 0 pads on the right, 1 is a word that the vocabulary lacks, k + 2 is word k of the vocabulary.

Every step takes time linear in the text, whatever it holds.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

PADDING: Final = 0
UNKNOWN: Final = 1
FIRST_WORD: Final = 2
MAX_LENGTH: Final = 10_000  # tokens; a batch of 64 such frames is 2.5 MB


class FramingError(ValueError):
    """A bundle's rules, or its vocabulary, are none that this version knows."""


class TextRules(BaseModel):
    """How texts become frames: what is written into a bundle.

    Attributes:
        tokens: Kim's tokenisation for sentence data, or the GloVe article's words
        html: whether texts are HTML, or may be
        length: tokens of a frame
        keep: which end of a longer text is kept

    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    tokens: Literal["sentence", "words"]
    html: bool
    length: Annotated[int, Field(ge=1, le=MAX_LENGTH)]
    keep: Literal["first", "last"]


def parse_rules(framing: Mapping[str, Any] | None) -> TextRules:
    """Return the rules in a bundle's `framing`, or raise `FramingError` naming the field that is wrong."""
    if framing is None:
        raise FramingError("the bundle has no text framing: it is no model of texts; name a bundle that is one")
    try:
        return TextRules.model_validate(dict(framing))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in fault["loc"])[:64]
        raise FramingError(
            f"framing.{field}: {fault['msg']}; the rules are tokens (sentence or words), html (true or false), "
            f"length (1 to {MAX_LENGTH}) and keep (first or last): mend bundle.json or train the bundle anew"
        ) from None


class Framer:
    """Turns texts into frames of token ids by fixed rules and a fixed vocabulary; it keeps nothing of a text.

    Raises FramingError for a vocabulary that names a word twice.
    """

    def __init__(self, rules: TextRules, vocabulary: Sequence[str]) -> None:
        self.rules = rules
        self._ids = {word: FIRST_WORD + k for k, word in enumerate(vocabulary)}
        if len(self._ids) < len(vocabulary):
            raise FramingError("the vocabulary names a word twice: write vocabulary.txt with each word once")

    def frame(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Return int32[n, length], a row a text; one without words is all padding."""
        frames = np.zeros((len(texts), self.rules.length), np.int32)
        look_up = self._ids.get
        for frame, text in zip(frames, texts, strict=True):
            tokens = _cut(tokenise(text, self.rules), self.rules)
            frame[: len(tokens)] = [look_up(token, UNKNOWN) for token in tokens]
        return frames


def tokenise(text: str, rules: TextRules) -> list[str]:
    """Return all tokens of a text, before truncation; none for an empty one. Any string is taken."""
    if rules.html and ("<" in text or "&" in text):
        text = _strip_html(text)
    if not text.isascii():
        text = _plain_unicode(text)
    return _sentence_tokens(text) if rules.tokens == "sentence" else _word_tokens(text)


def _cut(tokens: list[str], rules: TextRules) -> list[str]:
    return tokens[: rules.length] if rules.keep == "first" else tokens[-rules.length :]


# --- Tokens -----------------------------------------------------------------------------------------------------------

_ASCII: Final = "".join(map(chr, range(128)))
_SENTENCE_ASCII: Final = re.sub(r"[^A-Za-z0-9(),!?'`]", " ", _ASCII)  # as translate() wants it: by code point
_CLITIC: Final = re.compile(r"(?='(?:s|ve|re|d|ll)|n't)")
_WORDS_ASCII: Final = str.maketrans(
    dict(zip(_ASCII, re.sub(r"[^a-z0-9]", " ", _ASCII.lower()), strict=True)) | {"\\": None, "'": None, '"': None}
)
_REMOVED_IN_WORDS: Final = re.compile(r"[\\'\"]")


def _sentence_tokens(text: str) -> list[str]:
    text = text.translate(_SENTENCE_ASCII) if text.isascii() else _separators("(),!?'`").sub(" ", text)
    if "'" in text:
        text = _CLITIC.sub(" ", text)
    for mark in "(),!?":
        text = text.replace(mark, f" {mark} ")
    return text.lower().split()


def _word_tokens(text: str) -> list[str]:
    if text.isascii():
        return text.translate(_WORDS_ASCII).split()
    return _separators("").sub(" ", _REMOVED_IN_WORDS.sub("", text)).lower().split()


# --- Unicode ----------------------------------------------------------------------------------------------------------

_QUOTES: Final = {ord(c): "'" for c in "´‘’‚‛ʼ"} | {ord(c): '"' for c in "“”„‟"}
# Characters without a shape of their own, found within words. The zero-width space (U+200B) separates words.
_SHAPELESS: Final = re.compile("[\u00ad\u061c\u180b-\u180f\u200c-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
# Normalising sorts each run of combining marks in quadratic time: a second for 64 KB of them. Cut into pieces it is
# linear, at the price that a letter may stay uncombined with a mark that lies across a cut.
_PIECE: Final = 1024


def _plain_unicode(text: str) -> str:
    text = _SHAPELESS.sub("", text.translate(_QUOTES))
    return "".join(unicodedata.normalize("NFKC", text[at : at + _PIECE]) for at in range(0, len(text), _PIECE))


@cache
def _separators(kept: str) -> re.Pattern[str]:
    """Match what is neither a letter, a digit, a mark that combines with them nor one of `kept`."""
    marks = "".join(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c).startswith("M"))
    return re.compile(f"[^\\w{marks}{re.escape(kept)}]|_")


# --- HTML -------------------------------------------------------------------------------------------------------------

_WITHIN_WORDS: Final = (
    "a|abbr|b|big|cite|code|em|font|i|mark|q|s|small|span|strike|strong|sub|sup|tt|u|wbr"  # tags that separate nothing
)
_OPENING: Final = re.compile(
    rf"<(?:(?P<raw>/?(?:script|style))(?=[\s/>])|(?P<within>/?)(?=(?:{_WITHIN_WORDS})[\s/>])|(?P<apart>/?)(?=[a-z])"
    r"|(?P<other>!--|!doctype|\?xml)|)",
    re.IGNORECASE | re.ASCII,
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _strip_html(text: str) -> str:
    """Return the text of a piece of HTML, read by a parser of the HTML standard (lexbor).

    The standard builds a tree, and hostile tags make it one that takes minutes and gigabytes (the reconstruction of
    open formatting elements is quadratic). Hence each tag is first made an end tag that leaves the tree flat: `</br`,
    which counts as a line break, or `</x`, which is ignored. What the tag was called becomes one of its attributes.
    """
    from selectolax.lexbor import LexborHTMLParser  # most texts need none

    markup, last, rest = _SURROGATE.sub("\ufffd", text).rpartition(">")
    flat = _OPENING.sub(_flatten, markup + last) + rest.replace("<", "&lt;")
    parser = LexborHTMLParser(flat)
    parser.strip_tags(["script", "style"], recursive=True)
    return parser.root.text(separator=" ") if parser.root else ""


def _flatten(opening: re.Match[str]) -> str:
    match opening.lastgroup:
        case "raw":  # its attributes become a part of what it holds, and go with it
            return opening[0] if opening["raw"].startswith("/") else opening[0] + ">"
        case "within":
            return "</x "
        case "apart":
            return "</br "
        case "other":
            return opening[0]
    return "&lt;"  # opens nothing
