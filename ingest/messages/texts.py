"""Decodes records of texts into ids and texts; bad records become rejections.

A typed decoder reads a record, or the contract's own model if the decoder is unsure. So the fast decoder may leave any
record, but it must never accept one that the model would refuse, nor read it differently. In a record of a text, the
value's `id` counts, whatever the record's key is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.contract import (
    JSON_CONTENT_TYPE,
    MAX_TEXT_BYTES,
    Text,
    check_size,
    check_text,
    check_text_id,
    max_text_value,
)
from ingest.messages.json_objects import DOUBT, content_kind, is_deep, judge, read_object
from ingest.record import Record
from ingest.rejections import Reason, Refused, Rejection

_ONLY_JSON: Final[dict[bytes | None, bool]] = {JSON_CONTENT_TYPE.encode(): True}


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a batch as columns, in record order.

    Attributes:
        ids: n text ids, UTF-8; they may repeat
        texts: n texts; any string, with lone surrogates where the JSON escaped them
        record: int32[n], index of the text's record in the batch
    """

    ids: list[bytes]
    texts: list[str]
    record: NDArray[np.int32]


def decode_texts(records: Sequence[Record], *, max_bytes: int = MAX_TEXT_BYTES) -> tuple[Texts, list[Rejection]]:
    """Decode a batch; never raises, whatever a record contains.

    Args:
        records: in the order of the log
        max_bytes: how many bytes of UTF-8 a text may have

    Returns:
        the texts of the good records, and the bad records in order
    """
    ids: list[bytes] = []
    texts: list[str] = []
    good: list[int] = []
    rejections: list[Rejection] = []
    for index, record in enumerate(records):
        try:
            text_id, text = _read(record, max_bytes)
        except Refused as refused:
            rejections.append(Rejection(index, refused.reason, refused.detail))
            continue
        ids.append(text_id)
        texts.append(text)
        good.append(index)
    return Texts(ids, texts, np.array(good, np.int32)), rejections


class _PlainText(msgspec.Struct, gc=False):
    id: str
    text: str


_decode_text: Final = msgspec.json.Decoder(_PlainText).decode


def _read(record: Record, max_bytes: int) -> tuple[bytes, str]:
    """Return the id and the text of a record, or raise `Refused`."""
    value = record.value
    if value is None:
        raise Refused(Reason.NULL_VALUE, "the record has no value")
    if record.headers:
        content_kind(record.headers, _ONLY_JSON)
    check_size(len(value), max_text_value(max_bytes))
    try:
        return _read_plain(value, max_bytes)
    except DOUBT:
        message = judge(read_object(value), Text, {"max_bytes": max_bytes})
    return message.id.encode(), message.text


def _read_plain(value: bytes, max_bytes: int) -> tuple[bytes, str]:
    """Read an ordinary text fast, or raise one of `DOUBT`."""
    if is_deep(value):
        raise Refused(Reason.NOT_JSON, "nested deeply")
    if not value.isascii():
        value.decode()  # the typed decoder skips unknown fields without looking at their UTF-8
    plain = _decode_text(value)
    if len(value) > max_bytes:  # JSON is never shorter than the text that it holds
        check_text(plain.text, max_bytes)
    return check_text_id(plain.id.encode()), plain.text
