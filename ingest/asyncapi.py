"""The AsyncAPI 3 document of all topics, made from the contract's models.

`python -m ingest.asyncapi > docs/asyncapi.yaml` writes it anew; a test holds that the file is current and that
the decoder takes every example in it. The specification is at https://www.asyncapi.com/docs/reference/specification/v3.0.0.
"""

from __future__ import annotations

import base64
import sys
from typing import Any, Final

from ingest.contract import (
    ACCELEROMETER_DEAD_LETTER_TOPIC,
    ACCELEROMETER_TOPIC,
    ACTIVITIES_TOPIC,
    BINARY_CHUNK_CONTENT_TYPE,
    BINARY_HEADER,
    BINARY_VERSION,
    BUNDLE_DIGEST_HEADER,
    CONTENT_TYPE_HEADER,
    ERROR_DETAIL_HEADER,
    ERROR_REASON_HEADER,
    JSON_CONTENT_TYPE,
    MAX_ACCELERATION,
    MAX_DEVICE_ID_BYTES,
    MAX_HEADERS,
    MAX_JSON_BYTES,
    MAX_NESTING,
    MAX_RATE_HZ,
    MAX_READINGS,
    MAX_TEXT_BYTES,
    SOURCE_OFFSET_HEADER,
    SOURCE_PARTITION_HEADER,
    SOURCE_TOPIC_HEADER,
    TEXT_LABELS_TOPIC,
    TEXTS_DEAD_LETTER_TOPIC,
    TEXTS_TOPIC,
    ActivityLabel,
    Chunk,
    Message,
    Sample,
    Text,
    TextLabel,
    max_text_value,
)
from ingest.rejections import MAX_DETAIL_CHARACTERS, Reason

CONTRACT_VERSION: Final = "1.4.0"

Schema = dict[str, Any]

_INTRODUCTION: Final = f"""\
What Stridecast reads from Kafka and what it writes. Topic names are settings; these are the defaults.

JSON is UTF-8 as RFC 8259 has it, nested at most {MAX_NESTING} levels deep. Of a field that is given twice the last
counts; unknown fields are ignored. On the topic of readings a JSON value with a field `samples` is a chunk, any other
a sample, and it has at most {MAX_JSON_BYTES:,} bytes. On the topic of texts a value has at most
{max_text_value(MAX_TEXT_BYTES):,}: six for each of the longest text, which is a setting, and a megabyte for all else.
A record has at most {MAX_HEADERS} headers; of several of one name the last counts. A record that breaks any of this
goes whole to the dead letters of its topic.
"""

_BINARY_CHUNK: Final = f"""\
Many readings of one device, packed little-endian: `u8 version = {BINARY_VERSION}`, `u8 reserved = 0`, `u16 n`,
`f32 rate_hz`, `i64 start_ms`, then `n * 3 f32`: x, y, z of each reading. The device id is the record's key, 1 to
{MAX_DEVICE_ID_BYTES} bytes of UTF-8. n is 1 to {MAX_READINGS}, the rate in (0, {MAX_RATE_HZ:g}] Hz, each axis finite
and within ±{MAX_ACCELERATION:g} m/s^2, gravity included. Reading k is at floor(start_ms + k * 1000 / rate_hz + 0.5).
Examples are given in base64.
"""


def document() -> Schema:
    """Return the document as plain dictionaries and lists."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Stridecast",
            "version": CONTRACT_VERSION,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON_CONTENT_TYPE,
        "channels": {
            "accelerometer": _channel(
                ACCELEROMETER_TOPIC,
                "Acceleration of devices in three forms, which may be mixed. The key is the device id, so that "
                "a device's records keep their order.",
                "sample",
                "chunk",
                "binaryChunk",
            ),
            "activities": _channel(
                ACTIVITIES_TOPIC, "One label for each complete window of each device.", "activityLabel"
            ),
            "accelerometerDeadLetters": _dead_letters(ACCELEROMETER_DEAD_LETTER_TOPIC),
            "texts": _channel(
                TEXTS_TOPIC, "Texts to be labelled. The key is the text id; the id in the value counts.", "text"
            ),
            "textLabels": _channel(TEXT_LABELS_TOPIC, "One label for each text.", "textLabel"),
            "textsDeadLetters": _dead_letters(TEXTS_DEAD_LETTER_TOPIC),
        },
        "operations": {
            "readAccelerometer": _operation("receive", "accelerometer"),
            "writeActivities": _operation("send", "activities"),
            "writeAccelerometerDeadLetters": _operation("send", "accelerometerDeadLetters"),
            "readTexts": _operation("receive", "texts"),
            "writeTextLabels": _operation("send", "textLabels"),
            "writeTextsDeadLetters": _operation("send", "textsDeadLetters"),
        },
        "components": {
            "messages": {
                "sample": _json_message(Sample, _content_type(JSON_CONTENT_TYPE), "the device id"),
                "chunk": _json_message(Chunk, _content_type(JSON_CONTENT_TYPE), "the device id"),
                "binaryChunk": _binary_chunk(),
                "activityLabel": _json_message(ActivityLabel, _label_headers(_CLOSING), "the device id"),
                "text": _json_message(Text, _content_type(JSON_CONTENT_TYPE), "the text id"),
                "textLabel": _json_message(TextLabel, _label_headers("of the text's record"), "the text id"),
                "deadLetter": _dead_letter(),
            }
        },
    }


def _channel(topic: str, description: str, *messages: str) -> Schema:
    return {
        "address": topic,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _dead_letters(topic: str) -> Schema:
    return _channel(topic, "Rejected records, byte for byte, with the reason.", "deadLetter")


def _operation(action: str, channel: str) -> Schema:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def _json_message(model: type[Message], headers: Schema, key: str) -> Schema:
    schema = model.model_json_schema()
    properties = {
        name: {key: value for key, value in field.items() if key != "title"}
        for name, field in schema["properties"].items()
    }
    return {
        "name": model.__name__,
        "title": model.__name__,
        "description": schema["description"],
        "contentType": JSON_CONTENT_TYPE,
        "headers": headers,
        "payload": {"type": "object", "properties": properties, "required": schema["required"]},
        "bindings": _key(key),
        "examples": [{"payload": example} for example in model.examples],
    }


def _binary_chunk() -> Schema:
    floats = b"\x00\x00\x80\x3f\x00\x00\x1d\x41\x00\x00\x00\xbf"  # 1.0, 9.8125, -0.5
    example = BINARY_HEADER.pack(BINARY_VERSION, 0, 2, 20.0, 1_700_000_000_000) + 2 * floats
    return {
        "name": "BinaryChunk",
        "title": "BinaryChunk",
        "description": _BINARY_CHUNK,
        "contentType": BINARY_CHUNK_CONTENT_TYPE,
        "headers": _content_type(BINARY_CHUNK_CONTENT_TYPE) | {"required": [CONTENT_TYPE_HEADER]},
        "payload": {
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": BINARY_CHUNK_CONTENT_TYPE,
        },
        "bindings": _key("the device id, which is nowhere else"),
        "examples": [
            {
                "headers": {CONTENT_TYPE_HEADER: BINARY_CHUNK_CONTENT_TYPE},
                "payload": base64.b64encode(example).decode(),
            }
        ],
    }


def _dead_letter() -> Schema:
    reasons = [{"const": reason.value, "description": reason.meaning} for reason in Reason]
    return {
        "name": "DeadLetter",
        "title": "DeadLetter",
        "description": "A rejected record: its value, key and timestamp as they came, its headers (of more than "
        f"{MAX_HEADERS} the first {MAX_HEADERS}), and these after them. Where a record was rejected more than once, "
        "the last header of each name counts.",
        "contentType": "application/octet-stream",
        "headers": _headers(
            {
                ERROR_REASON_HEADER: {"type": "string", "oneOf": reasons},
                ERROR_DETAIL_HEADER: {"type": "string", "maxLength": MAX_DETAIL_CHARACTERS},
                SOURCE_TOPIC_HEADER: {"type": "string"},
                SOURCE_PARTITION_HEADER: _DECIMAL,
                SOURCE_OFFSET_HEADER: _DECIMAL,
            }
        ),
        "payload": {"description": "the rejected value, byte for byte; null where it was null"},
        "bindings": _key("the rejected record's key, byte for byte"),
    }


_DECIMAL: Final = {"type": "string", "pattern": "^[0-9]+$"}
_CLOSING: Final = "of the record that closed the window, or of the device's last one before the silence"


def _label_headers(source: str) -> Schema:
    return _headers(
        {
            SOURCE_PARTITION_HEADER: _DECIMAL | {"description": f"input partition {source}"},
            SOURCE_OFFSET_HEADER: _DECIMAL | {"description": f"offset {source}"},
            BUNDLE_DIGEST_HEADER: {"type": "string", "description": "digest of the model bundle"},
        }
    )


def _headers(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _content_type(content_type: str) -> Schema:
    described = {"type": "string", "const": content_type, "description": "compared without case and parameters"}
    return {"type": "object", "properties": {CONTENT_TYPE_HEADER: described}}


def _key(description: str) -> Schema:
    return {"kafka": {"key": {"type": "string", "description": description}, "bindingVersion": "0.5.0"}}


def main() -> None:
    """Print the document as YAML."""
    import yaml  # a tool of development, which the service does not need

    class Plain(yaml.SafeDumper):
        """Writes texts of several lines as such, and what occurs twice twice."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Plain.add_representer(str, text)
    yaml.dump(document(), sys.stdout, Dumper=Plain, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    main()
