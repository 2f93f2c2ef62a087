"""Common to the decoders of all topics: records, content types, JSON, and validation by the models.

- The header `content-type` names the format; of several, the last counts, as in Kafka's own `lastHeader`. Media types
  are compared without case and parameters, so `application/json; charset=utf-8` is JSON. Without the header, the value
  is JSON.
- If a JSON field occurs twice, the last one counts.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from pydantic import ValidationError

from ingest.contract import CONTENT_TYPE_HEADER, JSON_CONTENT_TYPE, MAX_HEADERS, MAX_NESTING, Message
from ingest.record import Headers
from ingest.rejections import Reason, Refused

# Exceptions of typed decoders and the contract's checks for a value that the models have to validate.
DOUBT: Final = (msgspec.DecodeError, UnicodeError, RecursionError, Refused)

# A JSON value this short cannot be nested deeper than the limit: each level takes two brackets.
SHALLOW_BYTES: Final = 2 * MAX_NESTING
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # the last may be unterminated

_JSON: Final = JSON_CONTENT_TYPE.encode()

_Form = TypeVar("_Form", bound=Message)
_Kind = TypeVar("_Kind")


def content_kind(headers: Headers, kinds: Mapping[bytes | None, _Kind]) -> _Kind:
    """Return the entry of `kinds` for the record's media type; raise `Refused` without one, or for bad headers.

    The media types in `kinds` are in lower case; JSON, the default without a header, is among them.
    """
    if len(headers) > MAX_HEADERS:
        raise Refused(Reason.TOO_LARGE, f"the record has more than {MAX_HEADERS} headers")
    for name, value in reversed(headers):
        if name == CONTENT_TYPE_HEADER:
            kind = kinds.get(value)
            if kind is None and value is not None:
                kind = kinds.get(value.split(b";", 1)[0].strip().lower())
            if kind is None:
                shown = (value or b"")[:64].decode(errors="backslashreplace")
                raise Refused(Reason.CONTENT_TYPE, f"content type '{shown}' is none of this topic's")
            return kind
    return kinds[_JSON]


def may_be_deep(value: bytes, rows: int = 0) -> bool:
    """Return whether so many brackets open, besides those of rows, that JSON may be nested beyond the limit."""
    return len(value) > SHALLOW_BYTES and value.count(b"[") + value.count(b"{") - rows > MAX_NESTING


def is_deep(value: bytes) -> bool:
    """Return whether JSON, valid or not, is nested beyond the limit; in linear time and constant stack."""
    if not may_be_deep(value):
        return False
    lowered = np.frombuffer(_STRINGS.sub(b"", value), np.uint8) | 0x20  # [ and ] become { and }
    steps = (lowered == ord("{")).astype(np.int32) - (lowered == ord("}"))
    return int(np.cumsum(steps).max(initial=0)) > MAX_NESTING


def read_object(value: bytes) -> dict[str, Any]:
    """Parse a JSON object of any size; raise `Refused` for anything else."""
    if not value.strip():
        raise Refused(Reason.NOT_JSON, "the value is empty")
    if is_deep(value):
        raise Refused(Reason.NOT_JSON, f"nested deeper than {MAX_NESTING} levels")
    try:
        with _no_collection():
            message = json.loads(value.decode(), parse_int=_bounded_int, parse_constant=_refuse_constant)
    except Refused:
        raise
    except ValueError as error:
        raise Refused(Reason.NOT_JSON, f"the value is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise Refused(Reason.NOT_JSON, "the value is JSON, but not an object")
    return message


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Suspend garbage collection: the lists that a parser makes are no garbage.

    For 2 MB of `[],` it took most of the time, in which no other thread ran.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _bounded_int(digits: str) -> int:
    """Parse a JSON integer; a huge one becomes another one beyond every limit, without costing time."""
    return int(digits) if len(digits) < 40 else int(digits[:40])


def _refuse_constant(name: str) -> None:
    raise Refused(Reason.NOT_JSON, f"{name} is not JSON")


def judge(message: dict[str, Any], form: type[_Form], context: dict[str, Any]) -> _Form:
    """Validate an object with one of the contract's models; raise `Refused` with its message."""
    try:
        return form.model_validate(message, context=context)
    except ValidationError as error:
        raise _refusal(error) from None


_FAULTS: Final = {
    "missing": Reason.MISSING_FIELD,
    "too_short": Reason.BAD_SHAPE,
    "too_long": Reason.BAD_SHAPE,
}
# In a producer's words rather than the validator's.
_PLAINLY: Final = {
    "missing": "the field is missing",
    "too_short": "a reading is three numbers: x, y and z",
    "too_long": "a reading is three numbers: x, y and z",
    "list_type": "not a list",
    "string_type": "not a string",
    "float_type": "not a number",
    "int_type": "neither a whole number of milliseconds nor an ISO 8601 time",
}


def _refusal(error: ValidationError) -> Refused:
    first: Any = error.errors(include_url=False, include_input=False)[0]
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    place = error.title + "".join(steps)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, Refused):
        return Refused(cause.reason, f"{place}: {cause.detail}")
    fault = first["type"]
    return Refused(_FAULTS.get(fault, Reason.WRONG_TYPE), f"{place}: {_PLAINLY.get(fault, first['msg'])}")
