"""The contract: what other programs may send and what they can rely on receiving.

Every limit, name and format that crosses Kafka is written here once. The pydantic models say what a message is;
`decode` reads ordinary messages faster than they can and hands them whatever it is unsure of, and the AsyncAPI
document is made from them.

A binary chunk has no model, for pydantic knows no packed structs. Its value is, little-endian, `BINARY_HEADER`
(version, reserved, number of readings, rate in Hz, start in epoch ms) and then three float32 a reading; its
device id is the record's key.
"""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationInfo,
    WithJsonSchema,
)

from ingest.rejections import Reason, Refused

ACCELEROMETER_TOPIC: Final = "accelerometer"
ACTIVITIES_TOPIC: Final = "activities"
ACCELEROMETER_DEAD_LETTER_TOPIC: Final = "accelerometer.dead-letters"
TEXTS_TOPIC: Final = "texts"
TEXT_LABELS_TOPIC: Final = "text-labels"
TEXTS_DEAD_LETTER_TOPIC: Final = "texts.dead-letters"

CONTENT_TYPE_HEADER: Final = "content-type"
ERROR_REASON_HEADER: Final = "error-reason"
ERROR_DETAIL_HEADER: Final = "error-detail"
SOURCE_TOPIC_HEADER: Final = "source-topic"
SOURCE_PARTITION_HEADER: Final = "source-partition"
SOURCE_OFFSET_HEADER: Final = "source-offset"
BUNDLE_DIGEST_HEADER: Final = "bundle-digest"

JSON_CONTENT_TYPE: Final = "application/json"
BINARY_CHUNK_CONTENT_TYPE: Final = "application/vnd.stridecast.chunk"

BINARY_HEADER: Final = struct.Struct("<BBHfq")
BINARY_VERSION: Final = 1
BINARY_READING_BYTES: Final = 12

MAX_DEVICE_ID_BYTES: Final = 128
MAX_TEXT_ID_BYTES: Final = 512
MAX_TEXT_BYTES: Final = 65_536  # of the text as UTF-8, whatever JSON made of it; by default
MAX_ACCELERATION: Final = 1000.0  # m/s^2, either way
MAX_RATE_HZ: Final = 1000.0
MAX_READINGS: Final = 20_000  # of one chunk
MAX_AHEAD_MS: Final = 3_600_000
# Past this a float64 no longer holds every millisecond, so the readings of a chunk could not be placed; it also
# leaves three decimal digits of int64 to whoever adds to a time. 285,000 years either way.
MAX_TIMESTAMP_MS: Final = 2**53
# The format sets no limit, but every parser has one; ours must not depend on how deep the caller's stack is.
MAX_NESTING: Final = 100
# What a parser makes of JSON is larger by up to thirty times, and other threads wait for it; and a request of kilobytes
# may stand for a value of 100 MB, if it is compressed. So a value's length is looked at before anything else is.
# A chunk of MAX_READINGS has 104 bytes for each: 17 digits an axis, and each axis on a line of its own.
MAX_JSON_BYTES: Final = 2 << 20  # of a sample or a chunk; a binary chunk is as long as it says
MAX_ESCAPED: Final = 6  # bytes of JSON for one of a text: \u0041
MAX_BESIDE_TEXT: Final = 1 << 20  # bytes of JSON; what a broker takes, by default, that isn't compressed
MAX_HEADERS: Final = 100  # of a record: each takes two bytes or more, and a hundred as an object

WINDOW_SLOTS: Final = 80

ISO_8601: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
    r"(Z|[+-][0-9]{2}(:?[0-5][0-9])?)"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def epoch_ms(text: str) -> int:
    """Return the epoch milliseconds of an ISO 8601 time with an offset.

    Accepted is the extended calendar form, `YYYY-MM-DD`, `T` or a space, `hh:mm`, optionally `:ss` and a fraction
    of any length after a point or a comma, then `Z`, `±hh`, `±hhmm` or `±hh:mm`; RFC 3339 in capitals is a part
    of that. Digits finer than a millisecond are cut off as written, which before 1970 as after it gives the
    millisecond that the moment lies in. Leap seconds (`:60`) and `24:00` are refused, for epoch time has no
    place of their own for them.

    Raises:
        Refused: `bad_timestamp` for any other text, and for dates and hours that do not exist.
    """
    if not ISO_8601.fullmatch(text):
        raise Refused(Reason.BAD_TIMESTAMP, f"{text[:64]!r} is not an ISO 8601 time with an offset")
    try:
        # fromisoformat cuts off all digits after the sixth, and // rounds down: together, the digits are cut.
        # It refuses days and seconds that do not exist; hour 24 it takes from Python 3.13 on, hence the pattern.
        return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except ValueError as error:
        raise Refused(Reason.BAD_TIMESTAMP, f"{text[:64]!r} is not a time that exists: {error}") from None


def check_timestamp(milliseconds: int) -> int:
    """Return the time unchanged, or raise `Refused` where the arithmetic on times would not be exact."""
    if not -MAX_TIMESTAMP_MS <= milliseconds <= MAX_TIMESTAMP_MS:
        raise Refused(Reason.BAD_TIMESTAMP, f"the time is beyond ±{MAX_TIMESTAMP_MS} ms of the epoch")
    return milliseconds


def check_device_id(device_id: bytes) -> bytes:
    """Return the id unchanged, or raise `Refused` unless it is 1 to 128 bytes of UTF-8."""
    return check_id(device_id, "device", MAX_DEVICE_ID_BYTES)


def check_text_id(text_id: bytes) -> bytes:
    """Return the id unchanged, or raise `Refused` unless it is 1 to 512 bytes of UTF-8."""
    return check_id(text_id, "text", MAX_TEXT_ID_BYTES)


def check_id(encoded: bytes, whose: str, limit: int) -> bytes:
    """Return an id unchanged, or raise `Refused` unless it is 1 to `limit` bytes of UTF-8; `whose` says of what."""
    if not encoded:
        raise Refused(Reason.BAD_ID, f"the {whose} id is empty")
    if len(encoded) > limit:
        raise Refused(Reason.BAD_ID, f"the {whose} id has {len(encoded)} bytes; {limit} is the limit")
    try:
        encoded.decode()
    except UnicodeDecodeError as error:
        raise Refused(Reason.BAD_ID, f"the {whose} id is not UTF-8: {error}") from None
    return encoded


def check_text(text: str, max_bytes: int) -> str:
    """Return the text unchanged, or raise `Refused` if it is longer; half of a surrogate pair counts as 3 bytes."""
    size = len(text.encode(errors="surrogatepass"))
    if size > max_bytes:
        raise Refused(Reason.TOO_LARGE, f"the text has {size} bytes; {max_bytes} is the limit")
    return text


def check_size(size: int, limit: int) -> None:
    """Raise `Refused` if a value is longer than it may be."""
    if size > limit:
        raise Refused(Reason.TOO_LARGE, f"the value has {size} bytes; {limit} is the limit")


def max_text_value(max_bytes: int) -> int:
    """Return how many bytes a record's value may have whose text may have `max_bytes`."""
    return MAX_ESCAPED * max_bytes + MAX_BESIDE_TEXT


def check_rate(rate_hz: float) -> float:
    """Return the rate unchanged, or raise `Refused` unless it is in (0, 1000] Hz."""
    if not 0 < rate_hz <= MAX_RATE_HZ:
        raise Refused(Reason.OUT_OF_RANGE, f"a rate of {rate_hz} Hz is not above 0 and at most {MAX_RATE_HZ:g}")
    return rate_hz


def check_acceleration(metres_per_second_squared: float) -> float:
    """Return the value unchanged, or raise `Refused` unless it is finite and within ±1000 m/s^2."""
    if not abs(metres_per_second_squared) <= MAX_ACCELERATION:
        raise Refused(Reason.OUT_OF_RANGE, f"{metres_per_second_squared} is not within ±{MAX_ACCELERATION:g} m/s^2")
    return metres_per_second_squared


def check_readings(count: int) -> int:
    """Return the number of readings unchanged, or raise `Refused` unless a chunk may have so many."""
    if not 1 <= count <= MAX_READINGS:
        raise Refused(Reason.BAD_SHAPE, f"{count} readings in a chunk; it may have 1 to {MAX_READINGS}")
    return count


def _check_json_device_id(device_id: str) -> str:
    check_device_id(_utf8(device_id, "device"))
    return device_id


def _check_json_text_id(text_id: str) -> str:
    check_text_id(_utf8(text_id, "text"))
    return text_id


def _utf8(text: str, whose: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Refused(Reason.BAD_ID, f"the {whose} id has half of a surrogate pair, which is no UTF-8") from None


def _check_json_text(text: str, info: ValidationInfo) -> str:
    return check_text(text, (info.context or {}).get("max_bytes", MAX_TEXT_BYTES))


def _from_iso_8601(value: object) -> object:
    return epoch_ms(value) if isinstance(value, str) else value


def _to_metres_per_second_squared(value: float, info: ValidationInfo) -> float:
    return check_acceleration(value * (info.context or {}).get("scale", 1.0))


def _check_rows(rows: object) -> object:
    if isinstance(rows, list):
        check_readings(len(rows))
    return rows


DeviceId = Annotated[
    str,
    AfterValidator(_check_json_device_id),
    Field(
        description=f"1 to {MAX_DEVICE_ID_BYTES} bytes of UTF-8",
        json_schema_extra={"minLength": 1, "maxLength": MAX_DEVICE_ID_BYTES},
    ),
]
TextId = Annotated[
    str,
    AfterValidator(_check_json_text_id),
    Field(
        description=f"1 to {MAX_TEXT_ID_BYTES} bytes of UTF-8",
        json_schema_extra={"minLength": 1, "maxLength": MAX_TEXT_ID_BYTES},
    ),
]
Timestamp = Annotated[
    int,
    BeforeValidator(_from_iso_8601),
    AfterValidator(check_timestamp),
    WithJsonSchema(
        {
            "description": "epoch milliseconds, or an ISO 8601 time with an offset, cut off to milliseconds",
            "oneOf": [
                {
                    "type": "integer",
                    "format": "int64",
                    "minimum": -MAX_TIMESTAMP_MS,
                    "maximum": MAX_TIMESTAMP_MS,
                },
                {"type": "string", "pattern": f"^{ISO_8601.pattern}$"},
            ],
        }
    ),
]
# A validation context `{"scale": s}` multiplies the axes by s before the limits apply.
Acceleration = Annotated[
    float,
    AfterValidator(_to_metres_per_second_squared),
    Field(json_schema_extra={"minimum": -MAX_ACCELERATION, "maximum": MAX_ACCELERATION}),
]
Reading = Annotated[list[Acceleration], FailFast(), Field(min_length=3, max_length=3)]
Rate = Annotated[
    float,
    AfterValidator(check_rate),
    Field(json_schema_extra={"exclusiveMinimum": 0, "maximum": MAX_RATE_HZ}),
]
Probability = Annotated[float, Field(ge=0, le=1)]
EpochMilliseconds = Annotated[int, Field(json_schema_extra={"format": "int64"})]


class Message(BaseModel):
    """What all messages have in common: strict JSON types, unknown fields ignored, values that never change."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    examples: ClassVar[list[dict[str, Any]]]


class Sample(Message):
    """One reading of one device: acceleration with gravity included, by default in m/s^2."""

    examples: ClassVar[list[dict[str, Any]]] = [
        {"device_id": "phone-17", "timestamp": 1700000000050, "x": -0.6946, "y": 12.6805, "z": 0.5039},
        {"device_id": "手表-3", "timestamp": "2023-11-14T23:13:20.050+01:00", "x": 0, "y": 9.81, "z": 0},
    ]

    device_id: DeviceId
    timestamp: Timestamp
    x: Acceleration
    y: Acceleration
    z: Acceleration


class Chunk(Message):
    """Many readings of one device, evenly spaced: reading k is at floor(start + k * 1000 / rate_hz + 0.5)."""

    examples: ClassVar[list[dict[str, Any]]] = [
        {
            "device_id": "phone-17",
            "start": 1700000000000,
            "rate_hz": 20,
            "samples": [[-0.6946, 12.6805, 0.5039], [5.012, 11.264, 0.9534], [4.9039, 10.8827, -0.0817]],
        },
        {
            "device_id": "phone-17",
            "start": "2023-11-14T22:13:20.150Z",
            "rate_hz": 99.5,
            "samples": [[-0.6129, 18.4964, 3.0237]],
        },
    ]

    device_id: DeviceId
    start: Timestamp
    rate_hz: Rate
    samples: Annotated[
        list[Reading],
        FailFast(),
        BeforeValidator(_check_rows),
        Field(
            description="rows of x, y, z",
            json_schema_extra={"minItems": 1, "maxItems": MAX_READINGS},
        ),
    ]


class ActivityLabel(Message):
    """What the wearer of one device did in one window of four seconds.

    A label's identity is `(device_id, window_start)`.
    """

    examples: ClassVar[list[dict[str, Any]]] = [
        {
            "device_id": "phone-17",
            "window_start": 1700000000750,
            "window_end": 1700000004750,
            "activity": "Walking",
            "confidence": 0.932117,
            "probabilities": {
                "Downstairs": 0.021406,
                "Jogging": 0.004113,
                "Sitting": 0.000027,
                "Standing": 0.000218,
                "Upstairs": 0.042119,
                "Walking": 0.932117,
            },
            "familiarity": 0.981204,
            "smoothed_activity": "Walking",
            "coverage": 0.9875,
            "longest_gap_ms": 100,
            "closed_by": "time",
            "model": "har-cnn@1.0.0",
        }
    ]

    device_id: DeviceId
    window_start: EpochMilliseconds
    window_end: Annotated[EpochMilliseconds, Field(description="exclusive: window_start + 4000")]
    activity: Annotated[str, Field(description="the most probable label")]
    confidence: Annotated[Probability, Field(description="its probability")]
    probabilities: dict[str, Probability]
    familiarity: Annotated[
        Probability | None,
        Field(
            default=None,
            description="how much the window is like those that the model knows: near 0 for noise and other units, but "
            "a phone that lies still is like one whose wearer does; null where the model can't tell",
        ),
    ]
    smoothed_activity: Annotated[
        str | None,
        Field(
            default=None,
            description="the label by this window and the three before it; null for a device's first three, after a "
            "gap or a handover to another worker, where the model tells no transitions, and with smoothing turned off",
        ),
    ]
    coverage: Annotated[Probability, Field(description="share of the 80 slots measured rather than interpolated")]
    longest_gap_ms: Annotated[
        int, Field(ge=50, description="50 (n + 1) for the longest run of n empty slots; 50 without any")
    ]
    closed_by: Literal["time", "silence"]
    model: Annotated[str, Field(description="name@version")]


class Text(Message):
    """One text to be labelled."""

    examples: ClassVar[list[dict[str, Any]]] = [
        {"id": "review-17", "text": "It's a deft, delightful comedy."},
        {"id": "レビュー-3", "text": "The film opens in Paris, in 1912 …"},
        {"id": "review-18", "text": ""},
    ]

    id: TextId
    # A validation context `{"max_bytes": n}` sets another limit.
    text: Annotated[
        str,
        AfterValidator(_check_json_text),
        Field(
            description=f"at most {MAX_TEXT_BYTES} bytes of UTF-8 (a setting); it may be empty",
            json_schema_extra={"maxLength": MAX_TEXT_BYTES},
        ),
    ]


class TextLabel(Message):
    """What one text is.

    A label's identity is its source partition and offset, for the ids of texts may repeat.
    """

    examples: ClassVar[list[dict[str, Any]]] = [
        {
            "id": "review-17",
            "label": "subjective",
            "confidence": 0.991204,
            "probabilities": {"objective": 0.008796, "subjective": 0.991204},
            "model": "subjectivity@1.0.0",
        }
    ]

    id: TextId
    label: Annotated[str, Field(description="the most probable label")]
    confidence: Annotated[Probability, Field(description="its probability")]
    probabilities: dict[str, Probability]
    model: Annotated[str, Field(description="name@version")]
