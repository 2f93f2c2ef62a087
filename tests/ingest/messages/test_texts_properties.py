"""The decoder of texts against a slow reference, and its fast path against the contract's model."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.contract import Text
from ingest.messages.json_objects import judge, read_object
from ingest.messages.texts import decode_texts
from ingest.rejections import MAX_DETAIL_CHARACTERS, Reason, Refused, Rejection
from tests.ingest.records import HandMade
from tests.ingest.reference import reference_decode_text

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LIMIT = 40

odd = st.text(st.one_of(st.sampled_from('ab"\\/{[\x00\n\x7fé\u2028手😀\ud800\udc00<&'), st.characters()), max_size=30)
ids = st.text(st.sampled_from('ab"\\é手😀\x00\u2028'), min_size=1, max_size=20)
any_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), odd),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd, inner, max_size=3)),
    max_leaves=4,
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A text with unknown fields, in any order, with any spacing, and characters escaped or not."""
    fields: dict[str, Any] = draw(st.dictionaries(odd, any_json, max_size=2)) | {"id": draw(ids), "text": draw(odd)}
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), ("\n,", " :\t")]))
    escaped = json.dumps(dict(draw(st.permutations(list(fields.items())))), separators=separators)
    if draw(st.booleans()):
        return escaped.encode()
    return json.dumps(json.loads(escaped), ensure_ascii=False, separators=separators).encode(errors="replace")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A message in which some bytes were flipped, put in, taken out or doubled."""
    value = bytearray(draw(messages()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        kind = draw(st.sampled_from(["flip", "set", "put", "cut", "double", "end"]))
        if kind == "flip" and at < len(value):
            value[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and at < len(value):
            value[at] = draw(st.sampled_from(b'019.-eE"[]{},:\\ntfu \x00\xff'))
        elif kind == "put":
            value[at:at] = draw(
                st.sampled_from([b"\\ud800", b"\\udc00", b"\\u00", b"\\", b"[", b"}", b"\xed\xa0\x80", b"\xc0"])
            )
        elif kind == "cut":
            del value[at : at + draw(st.integers(1, 20))]
        elif kind == "double":
            value[at:at] = value[at : at + draw(st.integers(1, 20))]
        else:
            del value[at:]
    return bytes(value)


@st.composite
def mistaken(draw: st.DrawFn) -> bytes:
    """JSON objects with the contract's names, but any values, in any number, perhaps twice."""
    near = st.one_of(any_json, odd, st.text(st.sampled_from("é😀\ud800a"), max_size=600))
    items = draw(st.lists(st.tuples(st.sampled_from(["id", "text"]), near), max_size=5))
    start = draw(st.sampled_from([b"{", b'{"id":"a",', b'{"text":"a",', b'{"id":"a","text":"b",']))
    return start + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in items).encode() + b"}"


values = st.one_of(
    messages(), damaged(), mistaken(), st.binary(), any_json.map(lambda value: json.dumps(value).encode())
)


@SETTINGS
@given(st.lists(values.map(HandMade), max_size=5))
def test_any_records_are_read_as_the_reference_reads_them(records: list[HandMade]) -> None:
    texts, rejections = decode_texts(records, max_bytes=LIMIT)
    expected = [reference_decode_text(record.value, LIMIT) for record in records]
    assert [rejection.record for rejection in rejections] == [k for k, read in enumerate(expected) if read is None]
    assert texts.record.tolist() == [k for k, read in enumerate(expected) if read is not None]
    assert list(zip(texts.ids, texts.texts, strict=True)) == [read for read in expected if read is not None]
    for rejection in rejections:
        assert len(rejection.detail) <= MAX_DETAIL_CHARACTERS
        rejection.detail.encode()


@SETTINGS
@given(st.lists(messages().map(HandMade), min_size=1, max_size=5))
def test_good_records_are_good(records: list[HandMade]) -> None:
    texts, rejections = decode_texts(records)
    assert rejections == []
    assert texts.record.tolist() == list(range(len(records)))


@SETTINGS
@given(values)
def test_the_fast_path_says_what_the_model_says(value: bytes) -> None:
    texts, rejections = decode_texts([HandMade(value)], max_bytes=LIMIT)
    rejected: list[Any] = [(rejection.reason, rejection.detail) for rejection in rejections]
    assert rejected + list(zip(texts.ids, texts.texts, strict=True)) == [what_the_model_says(value)]


def what_the_model_says(value: bytes) -> tuple[Reason, str] | tuple[bytes, str]:
    try:
        message = judge(read_object(value), Text, {"max_bytes": LIMIT})
    except Refused as refused:
        return refused.reason, Rejection(0, refused.reason, refused.detail).detail
    return message.id.encode(), message.text


@SETTINGS
@given(st.text(st.characters(), max_size=60), st.integers(0, 120))
def test_the_size_of_a_text_is_that_of_its_utf8(content: str, limit: int) -> None:
    size = len(content.encode(errors="surrogatepass"))
    for value in (
        json.dumps({"id": "a", "text": content}).encode(),
        json.dumps({"id": 5, "text": content, "ID": "a"}).replace('"id": 5', '"id": 5, "id": "a"').encode(),
    ):
        texts, rejections = decode_texts([HandMade(value)], max_bytes=limit)
        assert texts.texts == ([content] if size <= limit else [])
        assert [rejection.reason for rejection in rejections] == ([] if size <= limit else [Reason.TOO_LARGE])


@SETTINGS
@given(
    st.lists(st.one_of(messages(), st.just(None)), max_size=8),
    st.lists(
        st.tuples(st.sampled_from(["content-type", "x"]), st.one_of(st.none(), st.binary(max_size=20))), max_size=2
    ),
)
def test_as_many_texts_and_rejections_come_out_as_records_went_in(
    contents: list[bytes | None], headers: list[tuple[str, bytes | None]]
) -> None:
    records = [HandMade(value, None, headers) for value in contents]
    texts, rejections = decode_texts(records)
    assert len(texts.ids) == len(texts.texts) == len(texts.record)
    assert sorted(texts.record.tolist() + [rejection.record for rejection in rejections]) == list(range(len(records)))
    assert texts.record.tolist() == sorted(texts.record.tolist())
