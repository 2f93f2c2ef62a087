"""Texts: what is taken, and every kind of malformed record between good neighbours."""

import json
from typing import Any

import numpy as np
import pytest

from ingest.messages.texts import Texts, decode_texts
from ingest.rejections import MAX_DETAIL_CHARACTERS, Reason
from tests.ingest.records import BINARY, HandMade, text

DEEP = b"[" * 100_000


def read_one(value: bytes, **options: int) -> Texts:
    texts, rejections = decode_texts([HandMade(value)], **options)
    assert rejections == []
    assert texts.record.tolist() == [0]
    assert texts.record.dtype == np.int32
    return texts


def plus(more: bytes) -> HandMade:
    """A good text with one more, unknown, field of this JSON text."""
    return HandMade(text()[:-1] + b',"unknown":' + more + b"}")


def of_type(content_type: bytes | None) -> HandMade:
    return HandMade(text(), b"a", [("content-type", content_type)])


# --- What is taken -----------------------------------------------------------------------------------------------


def test_a_text_becomes_its_id_and_its_text() -> None:
    texts = read_one(b'{"id": "review-17", "text": "It\'s a deft, delightful comedy."}')
    assert texts.ids == [b"review-17"]
    assert texts.texts == ["It's a deft, delightful comedy."]


def test_no_records_become_no_texts() -> None:
    texts, rejections = decode_texts([])
    assert (texts.ids, texts.texts, texts.record.shape, rejections) == ([], [], (0,), [])


def test_ids_may_repeat_and_order_is_kept() -> None:
    records = [HandMade(text(id="b", text="1")), HandMade(text(id="a", text="2")), HandMade(text(id="b", text="1"))]
    texts, rejections = decode_texts(records)
    assert rejections == []
    assert texts.ids == [b"b", b"a", b"b"]
    assert texts.texts == ["1", "2", "1"]
    assert texts.record.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "content",
    ["", " ", "a\nb\x00c", "\x85\u2028\ufeff", "é手😀", "עִבְרִית", "a" * 65_536, "é" * 32_768, "[" * 300, '"{\\' * 99],
)
def test_any_text_within_the_limit_is_taken_as_it_is(content: str) -> None:
    assert read_one(text(text=content)).texts == [content]
    assert read_one(json.dumps({"text": content, "id": "a"}, ensure_ascii=False).encode()).texts == [content]


@pytest.mark.parametrize("content", ["\ud800", "a\udfffb", "\udc00\ud800", "\ud800" * 21_845])
def test_lone_surrogates_in_a_text_are_survived(content: str) -> None:
    assert read_one(text(text=content)).texts == [content]


@pytest.mark.parametrize("text_id", ["a", "é" * 256, "a" * 512, "\x00", "\u2028\n", "😀" * 128])
def test_an_id_is_1_to_512_bytes_of_any_utf8(text_id: str) -> None:
    assert read_one(text(id=text_id)).ids == [text_id.encode()]
    assert read_one(json.dumps({"id": text_id, "text": ""}, ensure_ascii=False).encode()).ids == [text_id.encode()]


def test_the_id_in_the_value_counts_whatever_the_key_says() -> None:
    texts, rejections = decode_texts([HandMade(text(), b"\xff"), HandMade(text(), b"another"), HandMade(text(), None)])
    assert rejections == []
    assert texts.ids == [b"review-17"] * 3


def test_how_large_a_text_may_be_is_a_setting_and_counts_bytes_of_utf8() -> None:
    records = [HandMade(text(text=content)) for content in ("éé", "abcd", "abcde", "éé!", "\ud800a", "\ud800é")]
    texts, rejections = decode_texts(records, max_bytes=4)
    assert texts.record.tolist() == [0, 1, 4]
    assert [(bad.record, bad.reason) for bad in rejections] == [(2, "too_large"), (3, "too_large"), (5, "too_large")]


def test_escapes_do_not_count_towards_the_size_of_a_text() -> None:
    value = b'{"id": "a", "text": "' + b"\\u0041" * 65_536 + b'"}'
    assert read_one(value).texts == ["A" * 65_536]


@pytest.mark.parametrize(
    "value",
    [
        text(note=None, tags=["a", {"b": [1, 2.5e300, True]}], timestamp=5),
        text(note="x" * 200_000),
        text(u=1)[:-1] + b',"big":' + b"9" * 5000 + b"}",
        text(u=1)[:-1] + b',"huge":1e999}',
        text(u=1)[:-1] + b',"half":"\\ud800"}',
        text(u="é")[:-1] + ',"é":"手"}'.encode(),
        b" \t\r\n" + text() + b"\n",
        text().replace(b'"id"', b'"\\u0069d"'),
        b'{"id": 5, "text": null, ' + text()[1:],  # of a repeated field the last counts
        text(u=[[[]]] * 300),
        text()[:-1] + b',"u":' + b"[" * 99 + b"]" * 99 + b"}",
    ],
)
def test_unknown_fields_and_odd_but_legal_json_are_taken(value: bytes) -> None:
    texts = read_one(value)
    assert (texts.ids, texts.texts) == ([b"review-17"], ["It's a deft comedy."])


@pytest.mark.parametrize(
    "headers",
    [
        [("content-type", b"application/json")],
        [("content-type", b" Application/JSON ;charset=utf-8")],
        [("traceparent", None), ("content-type", b"text/plain"), ("content-type", b"application/json")],
    ],
)
def test_these_headers_say_json(headers: list[tuple[str, bytes | None]]) -> None:
    assert decode_texts([HandMade(text(), None, headers)])[1] == []


# --- What is refused ---------------------------------------------------------------------------------------------

BAD = {
    Reason.NULL_VALUE: {
        "no value": HandMade(None),
        "no value but a key": HandMade(None, b"review-17"),
        "no value of an unknown type": HandMade(None, b"a", [("content-type", b"text/plain")]),
    },
    Reason.CONTENT_TYPE: {
        "plain text": of_type(b"text/plain"),
        "a binary chunk, by its header": HandMade(text(), b"a", BINARY),
        "empty": of_type(b""),
        "null": of_type(None),
        "not UTF-8": of_type(b"\xff\xfe"),
        "long": of_type(b"x" * 10_000),
    },
    Reason.NOT_JSON: {
        "empty": HandMade(b""),
        "blank": HandMade(b" \n"),
        "the bare text": HandMade(b"It's a deft comedy."),
        "a string": HandMade(b'"It\'s a deft comedy."'),
        "an array": HandMade(b"[" + text() + b"]"),
        "null": HandMade(b"null"),
        "cut off": HandMade(text()[:-1]),
        "two objects": HandMade(text() + text()),
        "a byte too many": HandMade(text() + b"\x00"),
        "a byte order mark": HandMade(b"\xef\xbb\xbf" + text()),
        "UTF-16": HandMade(text().decode().encode("utf-16")),
        "Latin-1": HandMade('{"id": "a", "text": "café"}'.encode("latin-1")),
        "a surrogate as UTF-8 has it not": HandMade(b'{"id": "a", "text": "\xed\xa0\x80"}'),
        "a line break in the text": HandMade(b'{"id": "a", "text": "a\nb"}'),
        "an unknown escape": HandMade(b'{"id": "a", "text": "\\x41"}'),
        "half an escape": HandMade(b'{"id": "a", "text": "\\u00"}'),
        "a text without end": HandMade(b'{"id": "a", "text": "abc'),
        "NaN in an unknown field": plus(b"NaN"),
        "invalid UTF-8 in an unknown field": plus(b'"\xc0\x80"'),
        "a hundred thousand levels": HandMade(DEEP),
        "a hundred thousand levels for a text": HandMade(b'{"id":"a","text":' + DEEP + b"]" * 100_000 + b"}"),
        "a hundred and one levels": plus(b"[" * 100 + b"]" * 100),
        "many escaped quotes, unclosed": HandMade(b'{"' + b'\\"' * 500_000),
    },
    Reason.MISSING_FIELD: {
        "all": HandMade(b"{}"),
        "no id": HandMade(text(id=...), b"the-key-is-no-id"),
        "no text": HandMade(text(text=...)),
        "another case": HandMade(text().replace(b'"text"', b'"Text"')),
        "a sample": HandMade(b'{"device_id": "phone-17", "timestamp": 1, "x": 0, "y": 0, "z": 0}'),
    },
    Reason.WRONG_TYPE: {
        "the id a number": HandMade(text(id=17)),
        "the id null": HandMade(text(id=None)),
        "the id an array": HandMade(text(id=["a"])),
        "the text a number": HandMade(text(text=5)),
        "the text null": HandMade(text(text=None)),
        "the text a boolean": HandMade(text(text=True)),
        "the text a list of words": HandMade(text(text=["a", "b"])),
        "the text an object": HandMade(text(text={"en": "a"})),
        "the text first right, then wrong": HandMade(text()[:-1] + b',"text":1}'),
    },
    Reason.BAD_ID: {
        "empty": HandMade(text(id="")),
        "513 bytes": HandMade(text(id="a" * 513)),
        "257 characters of two bytes": HandMade(text(id="é" * 257)),
        "half of a surrogate pair": HandMade(text(id="\ud800")),
        "the other half": HandMade(text(id="a\udfff")),
        "a megabyte": HandMade(text(id="a" * 1_000_000)),
        "empty, with a text too large": HandMade(text(id="", text="a" * 65_537)),
    },
    Reason.TOO_LARGE: {
        "a byte": HandMade(text(text="a" * 65_537)),
        "a byte, by a character of two": HandMade(text(text="é" * 32_768 + "!")),
        "a byte, by a surrogate": HandMade(text(text="\ud800" * 21_845 + "ab")),
        "a byte, escaped": HandMade(b'{"id": "a", "text": "' + b"\\u0041" * 65_537 + b'"}'),
        "a megabyte": HandMade(text(text="word " * 200_000)),
        "a megabyte of brackets": HandMade(text(text="[" * 1_000_000)),
        "the value": HandMade(text().ljust(1_441_793)),
        "the value, which is no JSON": HandMade(b"[" * 1_441_793),
        "headers": HandMade(text(), None, [("a", b"")] * 101),
    },
}  # fmt: skip
CASES = [
    pytest.param(record, reason, id=f"{reason}: {name}")
    for reason, records in BAD.items()
    for name, record in records.items()
]


@pytest.mark.parametrize(("bad", "reason"), CASES)
def test_a_bad_record_is_refused_and_its_neighbours_are_not(bad: HandMade, reason: Reason) -> None:
    texts, rejections = decode_texts([HandMade(text(id="before")), bad, HandMade(text(id="after", text="2"))])
    assert [(rejection.record, rejection.reason) for rejection in rejections] == [(1, reason)]
    assert texts.record.tolist() == [0, 2]
    assert texts.ids == [b"before", b"after"]
    assert texts.texts == ["It's a deft comedy.", "2"]
    detail = rejections[0].detail
    assert 5 < len(detail) <= MAX_DETAIL_CHARACTERS
    assert detail.isprintable()
    detail.encode()


def test_the_table_covers_every_reason_that_texts_have() -> None:
    of_readings = {Reason.BAD_TIMESTAMP, Reason.TOO_FAR_AHEAD, Reason.OUT_OF_RANGE, Reason.BAD_SHAPE, Reason.BAD_BINARY}
    assert set(BAD) == set(Reason) - of_readings - {Reason.TOO_MANY_DEVICES}


def test_all_the_bad_records_of_the_table_among_as_many_good_ones() -> None:
    bad = [record for records in BAD.values() for record in records.values()]
    reasons = [reason for reason, records in BAD.items() for _ in records]
    mixed = [record for k, worst in enumerate(bad) for record in (HandMade(text(id=f"{k}")), worst)]
    texts, rejections = decode_texts(mixed)
    assert texts.record.tolist() == list(range(0, 2 * len(bad), 2))
    assert texts.ids == [b"%d" % k for k in range(len(bad))]
    assert [rejection.record for rejection in rejections] == list(range(1, 2 * len(bad), 2))
    assert [rejection.reason for rejection in rejections] == reasons


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"{}", "Text.id: the field is missing"),
        (text(text=...), "Text.text: the field is missing"),
        (text(id=5), "Text.id: not a string"),
        (text(id=""), "Text.id: the text id is empty"),
        (text(id="a" * 513), "Text.id: the text id has 513 bytes; 512 is the limit"),
        (text(text="é" * 40_000), "Text.text: the text has 80000 bytes; 65536 is the limit"),
    ],
)
def test_the_detail_says_where_and_what_and_quotes_no_text(value: bytes, detail: str) -> None:
    assert [rejection.detail for rejection in decode_texts([HandMade(value)])[1]] == [detail]


def test_a_batch_of_bad_records_alone_has_no_texts() -> None:
    texts, rejections = decode_texts([HandMade(b"{"), HandMade(None), HandMade(text(id=5))])
    assert (texts.ids, texts.texts, texts.record.tolist()) == ([], [], [])
    assert [rejection.reason for rejection in rejections] == ["not_json", "null_value", "wrong_type"]


def test_content_of_any_type_but_str_is_never_taken_for_a_text() -> None:
    odd: list[Any] = [0, 1.5, False, [], {}, None]
    texts, rejections = decode_texts([HandMade(text(text=value)) for value in odd])
    assert texts.texts == []
    assert [rejection.reason for rejection in rejections] == ["wrong_type"] * 6
