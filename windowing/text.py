"""Texts to frames of token ids: cleaning, tokens, lookup, truncation, padding.

A model's bundle holds its rules as `TextRules`, so training and serving cannot differ. The names of rules are frozen:
if the meaning of "sentence" or "words" changes, it needs a new name.

1. **HTML**, if the rules say so and the text holds `<` or `&`: tags, comments, scripts and styles are removed, entities
   become their characters. A tag is a word boundary, unless it is one that browsers draw within a word, such as `<b>`.
   A `<` that opens no tag is text (`x < 3 and y > 4`, `I </3 you`), as is one that no `>` follows.
2. **Unicode**, if the text isn't ASCII: NFKC (full-width letters become ordinary ones, ligatures become letters);
   typographic apostrophes and quotes become ' and ", ™ a space; soft hyphens, joiners, direction marks and variation
   selectors are removed. Then everything that is neither ASCII nor a letter, a digit or a mark that combines with them
   separates words: punctuation, emoji, lone surrogates. Letters become lower case. Python's Unicode tables define what
   is a letter. Characters assigned after them are separators, so newer Pythons may differ in newer characters.
3. **Tokens**, in lower case:

   - `sentence`: the tokenisation for sentence data of Kim, "Convolutional Neural Networks for Sentence Classification"
     (2014): letters, digits and (),!?'` are kept, all else separates; 's 've n't 're 'd 'll (if in lower case) and each
     of (),!? are separate tokens.
   - `words`: the cleaning of the article on GloVe and a CNN: backslashes and quotes (' and ") are removed, then words
     are runs of letters and digits, as Keras' tokenizer cuts them from printable ASCII.

   Kim's expression is for ASCII and would split words at every accent; Keras' list of separators would keep dashes
   and emoji within words. Hence step 2.
4. **Ids**: 0 pads on the right, 1 is a word that is not in the vocabulary, k + 2 is word k of the vocabulary.

Every step takes time linear in the text, whatever it holds. `tokenise` is the definition; frames are filled by a
compiled tokeniser (`windowing.tokeniser`), with the same result.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from windowing.compiled import first_call
from windowing.tokeniser import SEPARATES, STANDS_ALONE, VANISHES, fill_frames, make_table

MAX_LENGTH: Final = 10_000  # tokens; a batch of 64 such frames is 2.5 MB


class FramingError(ValueError):
    """A bundle's rules, or its vocabulary, are invalid for this version."""


class TextRules(BaseModel):
    """How texts become frames, as stored in a bundle.

    Attributes:
        tokens: Kim's tokenisation for sentence data, or the GloVe article's words
        html: whether texts are, or may be, HTML
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
        raise FramingError("name a bundle that was trained on texts, for this one has no text framing")
    try:
        return TextRules.model_validate(dict(framing))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ascii(".".join(str(part) for part in fault["loc"])[:64])[1:-1]
        raise FramingError(
            f"framing.{field}: {fault['msg']}; the rules are tokens (sentence or words), html (true or false), "
            f"length (1 to {MAX_LENGTH}) and keep (first or last): mend bundle.json or train the bundle anew"
        ) from None


class Framer:
    """Turns texts into frames of token ids by fixed rules and a fixed vocabulary; it stores nothing of a text.

    Raises FramingError for a vocabulary with a duplicate word.
    """

    def __init__(self, rules: TextRules, vocabulary: Sequence[str]) -> None:
        if len(set(vocabulary)) < len(vocabulary):
            raise FramingError("the vocabulary names a word twice: write vocabulary.txt with each word once")
        self.rules = rules
        self._fold = _SENTENCE_FOLD if rules.tokens == "sentence" else _WORDS_FOLD
        self._table = first_call(lambda: make_table(vocabulary), entries=1)
        first_call(lambda: self.frame([""]), entries=1)

    def frame(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Return int32[n, length], a row a text; a text without words is all padding."""
        frames = np.zeros((len(texts), self.rules.length), np.int32)
        encoded = [_clean(text, self.rules).encode() for text in texts]
        joined = np.frombuffer(b"".join(encoded), np.uint8)
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        clitics, keep_last = self.rules.tokens == "sentence", self.rules.keep == "last"
        fill_frames(joined, ends, self._fold, clitics, keep_last, *self._table, frames)
        return frames


def tokenise(text: str, rules: TextRules) -> list[str]:
    """Return all tokens of a text, before truncation; none for an empty one. Accepts any string."""
    text = _clean(text, rules)
    return _sentence_tokens(text) if rules.tokens == "sentence" else text.translate(_WORDS).split()


# --- Tokens -----------------------------------------------------------------------------------------------------------

_ASCII: Final = "".join(map(chr, range(128)))
# Tables by code point for str.translate: one text for one character, or None for nothing. Beyond ASCII, a cleaned text
# has only lower-case letters, digits and marks, which stay.
_SENTENCE: Final = re.sub(r"[^A-Za-z0-9(),!?'`]", " ", _ASCII)
_WORDS: Final = [None if c in "\\'\"" else c.lower() if c.isalnum() else " " for c in _ASCII]
_ALONE: Final = "(),!?"
_CLITIC: Final = re.compile(r"(?='(?:s|ve|re|d|ll)|n't)")


def _sentence_tokens(text: str) -> list[str]:
    text = text.translate(_SENTENCE)
    if "'" in text:
        text = _CLITIC.sub(" ", text)
    for mark in _ALONE:
        text = text.replace(mark, f" {mark} ")
    return text.lower().split()


def _fold(table: Sequence[str | None], alone: str) -> NDArray[np.uint8]:
    """Return uint8[256]: the compiled tokeniser's action for a UTF-8 byte, by `table` for ASCII."""
    kinds = {None: VANISHES, " ": SEPARATES} | dict.fromkeys(alone, STANDS_ALONE)
    ascii_bytes = [kinds[c] if c in kinds else ord(str(c).lower()) for c in table]
    return np.array([*ascii_bytes, *range(128, 256)], np.uint8)


_SENTENCE_FOLD: Final = _fold(_SENTENCE, _ALONE)
_WORDS_FOLD: Final = _fold(_WORDS, "")


# --- Cleaning ---------------------------------------------------------------------------------------------------------

# Characters that NFKC keeps and a tokeniser should not, or (™, which it turns into TM) the other way round.
_PLAIN: Final = dict.fromkeys("´‘’‚‛ʼ", "'") | dict.fromkeys("“”„‟", '"') | dict.fromkeys("™℠", " ")
# Characters without a shape of their own, found within words. The zero-width space (U+200B) separates words.
_SHAPELESS: Final = (
    "\u00ad\u061c\u180b-\u180f\u200c-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e01ef"
)
_TYPOGRAPHY: Final = re.compile(f"[{''.join(_PLAIN)}{_SHAPELESS}]")
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
# NFKC sorts each run of combining marks in quadratic time: a second for 64 KB of them. On pieces it is linear; but a
# letter is not combined with a mark on the other side of a cut.
_PIECE: Final = 1024


def _clean(text: str, rules: TextRules) -> str:
    if rules.html and ("<" in text or "&" in text):
        text = _strip_html(text)
    return text if text.isascii() else _plain_unicode(text)


def _plain_unicode(text: str) -> str:
    """Return the text with only lower-case letters, digits and marks beyond ASCII."""
    text = _TYPOGRAPHY.sub(lambda found: _PLAIN.get(found[0], ""), text)
    text = "".join(unicodedata.normalize("NFKC", text[at : at + _PIECE]) for at in range(0, len(text), _PIECE))
    text = _separators().sub(" ", text)
    return _BEYOND_ASCII.sub(lambda found: found[0].lower(), text)


@cache
def _separators() -> re.Pattern[str]:
    """Match whatever is neither ASCII nor a letter, a digit or a mark that combines with them."""
    marks = "".join(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c).startswith("M"))
    return re.compile(rf"[^\x00-\x7f\w{marks}]+")


# Tags that separate no words.
_WITHIN_WORDS: Final = "a|abbr|b|big|cite|code|em|font|i|mark|q|s|small|span|strike|strong|sub|sup|tt|u|wbr"
_OPENING: Final = re.compile(
    rf"<(?:(?P<raw>/?(?:script|style))(?=[\s/>])|(?P<within>/?)(?=(?:{_WITHIN_WORDS})[\s/>])|(?P<apart>/?)(?=[a-z])"
    r"|(?P<other>!--|!doctype|\?xml)|)",
    re.IGNORECASE | re.ASCII,
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _strip_html(text: str) -> str:
    """Return the text of a piece of HTML, read by a parser of the HTML standard (lexbor).

    The standard's tree can grow quadratically with hostile tags: 64 KB of `<font a=1><p><font a=2><p>` and so on took
    13 s and 3.5 GB. So each tag is first replaced by an end tag that keeps the tree flat: `</br`, which counts as a
    line break, or `</x`, which is ignored. The tag's name becomes an attribute.
    """
    from selectolax.lexbor import LexborHTMLParser  # most texts need none

    markup, last, rest = _SURROGATE.sub("\ufffd", text).rpartition(">")
    flat = _OPENING.sub(_flatten, markup + last) + rest.replace("<", "&lt;")
    parser = LexborHTMLParser(flat)
    if "<script>" in flat or "<style>" in flat:
        parser.strip_tags(["script", "style"], recursive=True)
    return parser.root.text(separator=" ") if parser.root else ""


def _flatten(opening: re.Match[str]) -> str:
    match opening.lastgroup:
        case "raw":  # its attributes become a part of what it holds, and go with it
            return opening[0] if opening["raw"].startswith("/") else opening[0].lower() + ">"
        case "within":
            return "</x "
        case "apart":
            return "</br "
        case "other":
            return opening[0]
    return "&lt;"  # opens nothing
