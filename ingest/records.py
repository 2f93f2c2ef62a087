"""What the decoders of all topics have in common: a record, its content type, its JSON, and the models' judgement.

- The header `content-type` names the format; where there are several, the last counts, as in Kafka's own
  `lastHeader`. Media types are compared without case and without their parameters, so
  `application/json; charset=utf-8` is JSON. Without the header the value is JSON.
- Of a JSON field that is given twice the last counts.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
import numpy as np
from pydantic import ValidationError

from ingest.contract import CONTENT_TYPE_HEADER, JSON_CONTENT_TYPE, MAX_HEADERS, MAX_NESTING, Message
from ingest.rejections import Reason, Refused

# What typed decoders and the contract's checks raise at a value that the models have to judge.
DOUBT: Final = (msgspec.DecodeError, UnicodeError, RecursionError, Refused)

# A JSON value this short cannot be nested deeper than the limit: each level takes two brackets.
SHALLOW_BYTES: Final = 2 * MAX_NESTING
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # the last may lack its end

_JSON: Final = JSON_CONTENT_TYPE.encode()

Headers = Sequence[tuple[str, bytes | None]]
_Form = TypeVar("_Form", bound=Message)
_Kind = TypeVar("_Kind")


class Record(Protocol):
    """What decoding needs of a Kafka record; kafka-python's `ConsumerRecord` has it."""

    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Headers: ...  # noqa: D102
    @property
    def timestamp(self) -> int:
        """Kafka's own, in epoch ms."""
        ...


def content_kind(headers: Headers, kinds: Mapping[bytes | None, _Kind]) -> _Kind:
    """Return what `kinds` has for the record's media type, or raise `Refused` where it has nothing, or for the headers.

    The media types in `kinds` are in lower case; JSON, which no header means, is among them.
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
    """Tell whether so many brackets open, those of the rows aside, that JSON may be nested beyond the limit."""
    return len(value) > SHALLOW_BYTES and value.count(b"[") + value.count(b"{") - rows > MAX_NESTING


def is_deep(value: bytes) -> bool:
    """Tell whether JSON, valid or not, is nested beyond the limit; in linear time and constant stack."""
    if not may_be_deep(value):
        return False
    lowered = np.frombuffer(_STRINGS.sub(b"", value), np.uint8) | 0x20  # [ and ] become { and }
    steps = (lowered == ord("{")).astype(np.int32) - (lowered == ord("}"))
    return int(np.cumsum(steps).max(initial=0)) > MAX_NESTING


def read_object(value: bytes) -> dict[str, Any]:
    """Return the object that any JSON value holds, or raise `Refused`."""
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
    """Keep garbage from being looked for: among the lists that a parser makes there is none.

    Of 2 MB of `[],` it took most of the time, in which no other thread ran.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _bounded_int(digits: str) -> int:
    """Parse a JSON integer; one beyond every limit becomes another that is, at no cost in time."""
    return int(digits) if len(digits) < 40 else int(digits[:40])


def _refuse_constant(name: str) -> None:
    raise Refused(Reason.NOT_JSON, f"{name} is not JSON")


def judge(message: dict[str, Any], form: type[_Form], context: dict[str, Any]) -> _Form:
    """Let one of the contract's models read an object; raise `Refused` with what it says."""
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
