import gzip
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from windowing import Framer, FramingError, TextRules, parse_rules, tokenise

SETTINGS = settings(max_examples=300, deadline=None)


def rules(tokens: Any = "words", *, html: bool = False, length: int = 8, keep: Any = "first") -> TextRules:
    return TextRules(tokens=tokens, html=html, length=length, keep=keep)


SENTENCE, WORDS, HTML = rules("sentence"), rules("words"), rules("words", html=True)
EVERY = [SENTENCE, WORDS, HTML, rules("sentence", html=True)]


def kims_tokens(text: str) -> list[str]:
    """The substitutions of Kim's article, one after the other; ( ) and ? without the backslashes that crept in."""
    text = re.sub(r"[^A-Za-z0-9(),!?'`]", " ", text)
    for clitic in ("'s", "'ve", "n't", "'re", "'d", "'ll"):
        text = re.sub(clitic, f" {clitic}", text)
    for mark in (r",", r"!", r"\(", r"\)", r"\?"):
        text = re.sub(mark, f" {mark[-1]} ", text)
    text = re.sub(r"\s{2,}", " ", text)
    return [token for token in text.strip().lower().split(" ") if token]


def keras_words(text: str) -> list[str]:
    """What Keras' Tokenizer makes of a text with its default filters, after backslashes and quotes are removed."""
    text = re.sub(r"[\\'\"]", "", text).lower()
    for mark in '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f':
        text = text.replace(mark, " ")
    return [word for word in text.split(" ") if word]


# --- What tokens are ---------------------------------------------------------------------------------------------


def test_a_sentence_is_cut_as_kim_cut_it() -> None:
    text = "It's a film (they've said), isn't it? We're sure he'd like `it`!"
    assert tokenise(text, SENTENCE) == [
        "it", "'s", "a", "film", "(", "they", "'ve", "said", ")", ",", "is", "n't", "it", "?",
        "we", "'re", "sure", "he", "'d", "like", "`it`", "!",
    ]  # fmt: skip


def test_a_sentence_that_was_cut_before_is_cut_alike() -> None:
    """SUBJ and MR come lower-cased and with spaces around most tokens."""
    assert tokenise("the movie does n't say it's over ; it ' s over .", SENTENCE) == [
        "the", "movie", "does", "n't", "say", "it", "'s", "over", "it", "'", "s", "over",
    ]  # fmt: skip


def test_clitics_in_capitals_stay_whole_as_they_did_for_kim() -> None:
    assert tokenise("I DON'T. IT'S", SENTENCE) == ["i", "don't", "it's"]


def test_words_lose_quotes_and_backslashes_and_are_cut_at_punctuation() -> None:
    assert tokenise('It\'s "GREAT", a\\b: well-made_2 (really!)', WORDS) == [
        "its",
        "great",
        "ab",
        "well",
        "made",
        "2",
        "really",
    ]


@SETTINGS
@given(st.text(st.sampled_from("abnstvedrlNTS'`\"(),!?.;-_ \n\t\\05"), max_size=40))
@example("'sn't'd'll're've''s")
def test_sentences_of_ascii_are_cut_exactly_as_by_kims_substitutions(text: str) -> None:
    assert tokenise(text, SENTENCE) == kims_tokens(text)


@SETTINGS
@given(st.text(st.characters(codec="ascii"), max_size=60))
def test_any_ascii_sentence_is_cut_exactly_as_by_kims_substitutions(text: str) -> None:
    assert tokenise(text, SENTENCE) == kims_tokens(text)


@SETTINGS
@given(st.text(st.characters(min_codepoint=9, max_codepoint=126).filter(lambda c: c.isprintable() or c.isspace())))
def test_printable_ascii_words_are_cut_exactly_as_by_keras(text: str) -> None:
    assert tokenise(text, WORDS) == keras_words(text)


# --- HTML --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("great<br />movie", ["great", "movie"]),
        ("<p>One</p><p>two</p>", ["one", "two"]),
        ("un<b>believ</b>able <i>Hamlet</i>'s", ["unbelievable", "hamlets"]),
        ("caf&eacute; &amp; r&#233;sum&#xe9; &copy 5", ["café", "résumé", "5"]),
        ("don&rsquo;t &quot;say&quot;", ["dont", "say"]),
        ("&lt;b&gt; &amp;lt;", ["b", "lt"]),
        ("a<!-- hidden <b> -->b", ["a", "b"]),
        ("a<script src='x'>if (a<b) {}</script>b", ["a", "b"]),
        ("a<STYLE>p{}</Style >b<style>", ["a", "b"]),
        ("<!doctype html><html><head><title>T</title></head><body class=x>u</body></html>v", ["t", "u", "v"]),
        ("<?xml version='1.0'?><a href='x>y' title=\"a<b\">link</a>", ["link"]),
        ("<template>a</template><textarea>b</textarea><noscript>c</noscript>", ["a", "b", "c"]),
        ("<table>a<tr><td>b<td>c</table>d", ["a", "b", "c", "d"]),
        ("<plaintext>a<frameset>b<select>c<option>d", ["a", "b", "c", "d"]),
        ("x < 3 and y > 4", ["x", "3", "and", "y", "4"]),
        ("I <3 you, I </3 you <!> <?> AT&T", ["i", "3", "you", "i", "3", "you", "at", "t"]),
        ("if a <b then", ["if", "a", "b", "then"]),
        ("<", []),
        ("</", []),
        ("&", []),
        ("<p>", []),
        ("a&#xd800;b&#0;c", ["a", "b", "c"]),
        ("a<p>\ud800b</p>\udfff", ["a", "b"]),
    ],
)
def test_html_is_stripped_to_the_words_that_a_reader_would_see(text: str, tokens: list[str]) -> None:
    assert tokenise(text, HTML) == tokens


def test_without_the_html_rule_tags_are_punctuation_and_words() -> None:
    assert tokenise("a<br />b &amp; c", WORDS) == ["a", "br", "b", "amp", "c"]


# --- Unicode -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("naïve café", ["naïve", "café"]),
        ("cafe\u0301", ["café"]),
        ("ＦＵＬＬ ﬁne ½", ["full", "fine", "1", "2"]),
        ("good—bad…worse", ["good", "bad", "worse"]),
        ("हिन्दी עִבְרִית", ["हिन्दी", "עִבְרִית"]),
        ("co\u00adoperate \u200fשלום\u200e", ["cooperate", "שלום"]),
        ("good😀film ❤️", ["good", "film"]),
        ("a\x00b\x85c\u2028d\u00a0e\u200bf\ufeff", ["a", "b", "c", "d", "e", "f"]),
        ("a\ud800b\udc00", ["a", "b"]),
        ("١٢٣ 東京", ["١٢٣", "東京"]),
        ("ΟΔΟΣ", ["οδος"]),
        ("Lego™bricks® 葛\U000e0100城", ["lego", "bricks", "葛城"]),
    ],
)
def test_letters_digits_and_marks_of_any_script_make_words(text: str, tokens: list[str]) -> None:
    assert tokenise(text, WORDS) == tokens
    assert tokenise(text, SENTENCE) == tokens


def test_typographic_quotes_count_as_plain_ones() -> None:
    assert tokenise("“don’t” it´s", SENTENCE) == tokenise("\"don't\" it's", SENTENCE) == ["do", "n't", "it", "'s"]
    assert tokenise("“don’t” it´s", WORDS) == ["dont", "its"]


_ODDMENTS = [
    *[
        "<",
        ">",
        "</",
        "<b>",
        "<br/>",
        "<!--",
        "-->",
        "<script>",
        "</script ",
        '<a href="',
        "<x ",
        "&",
        "&amp",
        ";",
        "&#",
    ],
    *["x1F600", "n't", "'s", "'", "\\", " ", "\x00", "\ud800", "\u0301", "İ", "\ufb01", "\u200d", "é"],
]
anything = st.text(st.characters(), max_size=200)  # with lone surrogates
pieces = st.lists(
    st.one_of(
        st.sampled_from(_ODDMENTS),
        st.text(max_size=3),
    ),
    max_size=30,
).map("".join)


@SETTINGS
@given(st.one_of(anything, pieces))
def test_any_text_has_tokens_that_are_not_empty_and_hold_no_space_or_capital(text: str) -> None:
    for every in EVERY:
        for token in tokenise(text, every):
            assert token
            assert token == token.lower()
            assert token.split() == [token]


@SETTINGS
@given(pieces)
@example("A\\\u0301")
def test_a_sentence_or_word_cut_again_stays_as_it_is(text: str) -> None:
    """Up to composition: a letter and an accent compose only once the backslash or quote between them is gone.

    It goes after NFKC, and the names of rules are frozen: tokens of bundles must not change.
    """
    for every in (SENTENCE, WORDS):
        tokens = tokenise(text, every)
        composed = [unicodedata.normalize("NFKC", token) for token in tokens]
        assert tokenise(" ".join(tokens), every) == composed
        if every is SENTENCE or not re.search(r"[\\'\"´‘’‚‛ʼ“”„‟]", text + unicodedata.normalize("NFKC", text)):
            assert composed == tokens


HOSTILE = {
    "a word": "a" * 65_536,
    "opening brackets": "<" * 65_536,
    "closed at the end": "<" * 65_535 + ">",
    "ampersands": "&" * 65_536,
    "entities": "&amp;" * 13_107,
    "half an entity": "&CounterClockwiseContourIntegra" * 2_114,
    "a long number": "&#" + "9" * 65_534,
    "nested blocks": "<div>" * 13_107,
    "nested formatting": "<b><i>" * 10_922,
    "formatting to reconstruct": "".join(f"<font a={k}><p>" for k in range(4_000)),
    "lists": "<ul><li>" * 8_192,
    "tables": "<table><td>" * 5_957,
    "attributes": "<a " + " ".join(f"{k:x}" for k in range(13_000)) + ">",
    "attributes of a script": "<script " + " ".join(f"{k:x}" for k in range(13_000)) + ">",
    "open quotes": '<a "' * 16_384 + ">",
    "comments": "<!--" * 16_383 + ">",
    "scripts": "<script></script>" * 3_855,
    "combining marks": "a" + "\u0300\u0316" * 16_383,
    "halfwidth voiced marks": "\u0316\uff9e" * 13_107,
    "what normalising lengthens": "\ufdfa" * 21_845,
    "clitics": "'" * 65_536,
    "negations": "n't" * 21_845,
    "surrogates": "\ud800" * 21_845,
    "zeros": "\x00<" * 32_768,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", HOSTILE)
def test_64_kb_of_anything_take_no_time_to_speak_of(name: str) -> None:
    for every in EVERY:
        tokenise(HOSTILE[name], every)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("made", EVERY)
def test_64_kb_of_anything_are_framed_as_the_definition_says(made: TextRules) -> None:
    frames = Framer(made, ["a", "b", "n't", "(", "amp"]).frame(list(HOSTILE.values()))
    ids = {"a": 2, "b": 3, "n't": 4, "(": 5, "amp": 6}
    for frame, text in zip(frames.tolist(), HOSTILE.values(), strict=True):
        first = [ids.get(token, 1) for token in tokenise(text, made)[: made.length]]
        assert frame == first + [0] * (made.length - len(first))


# --- Frames ------------------------------------------------------------------------------------------------------


def test_ids_are_0_for_padding_1_for_an_unknown_word_and_from_2_on_those_of_the_vocabulary() -> None:
    framer = Framer(rules(length=4), ["great", "movie"])
    frames = framer.frame(["A great movie", "", "movie movie movie movie great great", "?!"])
    assert frames.tolist() == [[1, 2, 3, 0], [0, 0, 0, 0], [3, 3, 3, 3], [0, 0, 0, 0]]
    assert frames.dtype == np.int32


def test_a_longer_text_keeps_its_end_where_the_rules_say_so() -> None:
    framer = Framer(rules(length=2, keep="last"), ["a", "b", "c"])
    assert framer.frame(["a b c", "a", "b c"]).tolist() == [[3, 4], [2, 0], [3, 4]]


def test_an_empty_vocabulary_knows_no_word() -> None:
    assert Framer(rules(length=3), []).frame(["a b"]).tolist() == [[1, 1, 0]]


def test_a_word_is_known_whole_or_not_at_all() -> None:
    framer = Framer(rules("sentence", length=9), ["abcd", "ab", "é", "!", "n't", "'"])
    assert framer.frame(["ab abc ABCD abcde a É é́ e"]).tolist() == [[3, 1, 2, 1, 1, 4, 1, 1, 0]]
    assert framer.frame(["ABn't! ' n'T 'tis"]).tolist() == [[3, 6, 5, 7, 6, 1, 0, 0, 0]]


def test_no_texts_make_no_frames() -> None:
    assert Framer(rules(length=3), ["a"]).frame([]).shape == (0, 3)


def test_a_frame_depends_on_no_text_beside_it() -> None:
    framer = Framer(rules("sentence", length=5), ["a", "b", "é"])
    texts = ["a b", "é a", "", "x\x00\n\nb", "b" * 1000, "(a)"]
    together = framer.frame(texts)
    assert together.tolist() == [framer.frame([text])[0].tolist() for text in texts]


kim_like = st.text(st.sampled_from("abnstvedrlNTS'`\"(),!?.;-_ \n\\5éÉΣ—"), max_size=60)


@SETTINGS
@given(
    st.lists(st.one_of(anything, pieces, kim_like), max_size=5),
    st.sampled_from(["sentence", "words"]),
    st.booleans(),
    st.integers(1, 12),
    st.sampled_from(["first", "last"]),
    st.data(),
)
def test_frames_are_what_the_definition_says(
    texts: list[str], tokens: str, html: bool, length: int, keep: str, data: st.DataObject
) -> None:
    made = rules(tokens, html=html, length=length, keep=keep)
    known = sorted({token for text in texts for token in tokenise(text, made)} | {"a", "b"})
    vocabulary = data.draw(st.lists(st.sampled_from(known), unique=True))
    frames = Framer(made, vocabulary).frame(texts)
    for frame, text in zip(frames.tolist(), texts, strict=True):
        ids = [vocabulary.index(token) + 2 if token in vocabulary else 1 for token in tokenise(text, made)]
        ids = ids[:length] if keep == "first" else ids[max(0, len(ids) - length) :]
        assert frame == ids + [0] * (length - len(ids))


@pytest.mark.recordings
@pytest.mark.parametrize("made", [rules("sentence", length=20), rules(html=True, length=20, keep="last")])
def test_sentences_as_people_write_them_are_framed_as_the_definition_says(
    recordings_folder: Path, made: TextRules
) -> None:
    texts = gzip.decompress((recordings_folder / "subj.subjective.gz").read_bytes()).decode("latin-1").split("\n")
    tokens = [tokenise(text, made) for text in texts]
    ids = {word: k + 2 for k, word in enumerate(sorted({token for row in tokens for token in row})[::2])}
    expected = np.zeros((len(texts), 20), np.int32)
    for row, found in zip(expected, tokens, strict=True):
        kept = found[:20] if made.keep == "first" else found[-20:]
        row[: len(kept)] = [ids.get(token, 1) for token in kept]
    np.testing.assert_array_equal(Framer(made, list(ids)).frame(texts), expected)


def test_a_vocabulary_with_a_word_twice_is_refused() -> None:
    with pytest.raises(FramingError, match=r"vocabulary\.txt"):
        Framer(WORDS, ["a", "b", "a"])


# --- Rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", EVERY)
def test_rules_come_back_from_a_bundle_as_they_went_in(made: TextRules) -> None:
    assert parse_rules(made.model_dump()) == made


@pytest.mark.parametrize(
    ("framing", "message"),
    [
        (None, "name a bundle that was trained on texts"),
        ({}, r"framing\.tokens: Field required"),
        (WORDS.model_dump() | {"tokens": "characters"}, r"framing\.tokens: .*'sentence' or 'words'"),
        (WORDS.model_dump() | {"html": 1}, r"framing\.html: "),
        (WORDS.model_dump() | {"length": 0}, r"framing\.length: "),
        (WORDS.model_dump() | {"length": True}, r"framing\.length: "),
        (WORDS.model_dump() | {"length": 10_001}, r"framing\.length: "),
        (WORDS.model_dump() | {"keep": None}, r"framing\.keep: "),
        (WORDS.model_dump() | {"stem": True}, r"framing\.stem: "),
        (WORDS.model_dump() | {"a\nb" * 50: True}, r"framing\.a\\nba"),
    ],
)
def test_wrong_rules_are_refused_by_name_with_the_remedy(framing: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(FramingError, match=message) as refused:
        parse_rules(framing)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
