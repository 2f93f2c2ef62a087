"""Why a record is refused, and the value that says so.

A bad record is a value here, never an exception that leaves the room: `decode` answers with the good readings
and a list of `Rejection`. Inside the room one exception carries a refusal from where it is found to there::

    ValueError
    └── Refused      a record breaks the contract; `reason` says which part of it
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

MAX_DETAIL_CHARACTERS: Final = 200


class Reason(enum.StrEnum):
    """The closed list of refusals: the `error-reason` header and the metric's `reason` label.

    Each member's `meaning` is its documentation, here and in the AsyncAPI document.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Reason:  # noqa: D102
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    NULL_VALUE = "null_value", "the record has no value (a tombstone)"
    CONTENT_TYPE = "content_type", "the content-type header names no format that the topic carries"
    NOT_JSON = "not_json", "the value is not one JSON object in UTF-8, or it is nested too deeply"
    MISSING_FIELD = "missing_field", "a field that the form requires is absent"
    WRONG_TYPE = "wrong_type", "a field has another JSON type, such as a string or a boolean for a number"
    BAD_ID = "bad_id", "the id is empty, too long or not UTF-8"
    BAD_TIMESTAMP = "bad_timestamp", "the time is no ISO 8601 time with an offset, or outside the usable range"
    TOO_FAR_AHEAD = "too_far_ahead", "a reading lies too far after the Kafka timestamp of its record"
    OUT_OF_RANGE = "out_of_range", "a number is not finite or beyond its limit"
    BAD_SHAPE = "bad_shape", "a chunk has no readings, too many, or a row that is not three numbers"
    TOO_LARGE = "too_large", "the value, or the text in it, has too many bytes, or the record too many headers"
    TOO_MANY_DEVICES = "too_many_devices", "as many other devices of the partition have an open window as may have one"
    BAD_BINARY = "bad_binary", "a binary value has an unknown version or is not as long as it says"


class Refused(ValueError):
    """A record, or a part of it, breaks the contract."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Rejection:
    """One refused record of a batch.

    `detail` is for a person who looks for the bad producer. It may quote the record, so it is cut to
    `MAX_DETAIL_CHARACTERS` and kept printable, and it always encodes as UTF-8.
    """

    record: int
    reason: Reason
    detail: str

    def __post_init__(self) -> None:
        printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in self.detail[:MAX_DETAIL_CHARACTERS])
        if max(len(self.detail), len(printable)) > MAX_DETAIL_CHARACTERS:
            printable = printable[: MAX_DETAIL_CHARACTERS - 1] + "…"
        object.__setattr__(self, "detail", printable)
