import base64
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.asyncapi import document, main
from ingest.contract import ActivityLabel, Chunk, Sample, Text, TextLabel
from ingest.messages.decode import decode
from ingest.messages.texts import decode_texts
from ingest.record import Record
from ingest.rejections import Reason
from tests.ingest.records import KAFKA_MS, HandMade

ROOT = Path(__file__).parents[2]
MESSAGES: dict[str, Any] = document()["components"]["messages"]


def examples(*names: str) -> list[Any]:
    return [
        pytest.param(MESSAGES[name], example, id=f"{name}-{k}")
        for name in names
        for k, example in enumerate(MESSAGES[name]["examples"])
    ]


def record_of(example: dict[str, Any], value: bytes) -> Record:
    headers: list[tuple[str, bytes | None]] = [(name, v.encode()) for name, v in example.get("headers", {}).items()]
    return HandMade(value, b"phone-17", headers, KAFKA_MS)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_committed_document_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out
    committed = (ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
    assert printed == committed, "run `python -m ingest.asyncapi > docs/asyncapi.yaml`"
    assert yaml.safe_load(committed) == document()


def test_the_document_has_what_asyncapi_3_requires() -> None:
    made = document()
    assert made["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= made["info"].keys()
    assert made.keys() <= {"asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations"} | {
        "components"
    }
    for operation in made["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"].keys() == {"$ref"}
    for message in MESSAGES.values():
        assert message["headers"]["type"] == "object"
        assert message.keys() <= {
            "name", "title", "summary", "description", "contentType", "headers", "payload", "bindings", "examples"
        }  # fmt: skip


def test_every_reference_leads_somewhere() -> None:
    made = document()
    found = list(references(made))
    assert len(found) == 14
    for reference in found:
        node = made
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_the_channels_are_the_default_topics() -> None:
    addresses = [channel["address"] for channel in document()["channels"].values()]
    assert addresses == [
        "accelerometer", "activities", "accelerometer.dead-letters", "texts", "text-labels", "texts.dead-letters"
    ]  # fmt: skip


@pytest.mark.parametrize(("message", "example"), examples("sample", "chunk"))
def test_the_decoder_takes_each_json_example(message: dict[str, Any], example: dict[str, Any]) -> None:
    payload = example["payload"]
    readings, rejections = decode([record_of(example, json.dumps(payload).encode())])
    assert rejections == []
    assert set(readings.device_ids()) == {payload["device_id"].encode()}
    assert len(readings.xyz) == len(payload.get("samples", [None]))
    assert message["payload"]["required"] == list(payload)


@pytest.mark.parametrize(("message", "example"), examples("binaryChunk"))
def test_the_decoder_takes_each_binary_example(message: dict[str, Any], example: dict[str, Any]) -> None:
    readings, rejections = decode([record_of(example, base64.b64decode(example["payload"], validate=True))])
    assert rejections == []
    assert example["headers"]["content-type"] == message["contentType"]
    assert readings.timestamp_ms.tolist() == [1_700_000_000_000, 1_700_000_000_050]
    assert readings.xyz.tolist() == [[1.0, 9.8125, -0.5]] * 2


@pytest.mark.parametrize(("message", "example"), examples("text"))
def test_the_decoder_takes_each_example_of_a_text(message: dict[str, Any], example: dict[str, Any]) -> None:
    payload = example["payload"]
    texts, rejections = decode_texts([record_of(example, json.dumps(payload).encode())])
    assert rejections == []
    assert (texts.ids, texts.texts) == ([payload["id"].encode()], [payload["text"]])
    assert message["payload"]["required"] == list(payload)


@pytest.mark.parametrize(("message", "example"), examples("textLabel"))
def test_the_text_label_examples_are_labels_that_the_service_could_write(
    message: dict[str, Any], example: dict[str, Any]
) -> None:
    label = TextLabel.model_validate(example["payload"])
    assert label.model_dump() == example["payload"]
    assert message["payload"]["required"] == list(example["payload"])
    assert label.confidence == max(label.probabilities.values()) == label.probabilities[label.label]
    assert sum(label.probabilities.values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("message", "example"), examples("activityLabel"))
def test_the_label_examples_are_labels_that_the_service_could_write(
    message: dict[str, Any], example: dict[str, Any]
) -> None:
    label = ActivityLabel.model_validate(example["payload"])
    assert label.model_dump() == example["payload"]
    younger = {"familiarity", "smoothed_activity"}  # what was written by older workers is still a label
    assert message["payload"]["required"] == [name for name in example["payload"] if name not in younger]
    without = ActivityLabel.model_validate({k: v for k, v in example["payload"].items() if k not in younger})
    assert (without.familiarity, without.smoothed_activity) == (None, None)
    assert label.window_end == label.window_start + 4000
    assert label.window_start // 50 % 40 == zlib.crc32(label.device_id.encode()) % 40
    assert label.confidence == max(label.probabilities.values()) == label.probabilities[label.activity]
    assert sum(label.probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_the_times_that_the_schema_allows_are_the_times_that_the_decoder_takes() -> None:
    pattern = MESSAGES["sample"]["payload"]["properties"]["timestamp"]["oneOf"][1]["pattern"]
    assert re.search(pattern, "2023-11-14T22:13:20.050Z")
    assert not re.search(pattern, "2023-11-14T22:13:20.050")


def test_the_dead_letters_reasons_are_the_closed_list() -> None:
    headers = MESSAGES["deadLetter"]["headers"]["properties"]
    assert [reason["const"] for reason in headers["error-reason"]["oneOf"]] == [reason.value for reason in Reason]
    assert list(headers) == ["error-reason", "error-detail", "source-topic", "source-partition", "source-offset"]


def test_the_models_take_their_own_examples() -> None:
    for model in (Sample, Chunk, ActivityLabel, Text, TextLabel):
        for example in model.examples:
            model.model_validate(example)
