import json
from pathlib import Path

import numpy as np
import pytest
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from inference.bundle import Bundle
from inference.core import Result
from ingest.record_batches.bodies import unpack
from ingest.record_batches.record_columns import Records
from ingest.rejections import Reason
from service.configuration.settings import TextSettings
from service.kind import OpenStream, WorkerError
from service.monitoring.metrics import Families, WorkerMetrics
from service.text_worker import TEXTS_A_BLOCK, text_kind
from tests.inference.bundles import har_bundle, text_bundle
from tests.ingest.records import HandMade, text

SOURCE = TopicPartition("texts", 3)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return text_bundle(tmp_path_factory.mktemp("bundles") / "tiny-text")


@pytest.fixture
def metrics() -> WorkerMetrics:
    return WorkerMetrics(Families(CollectorRegistry()), "text", topics=[], reasons=list(Reason), labels=[])


@pytest.fixture
def open_stream(bundle: Bundle, metrics: WorkerMetrics) -> OpenStream:
    return text_kind(TextSettings(max_bytes=100)).prepare(bundle, metrics)


def record(words: str, offset: int, text_id: str = "a") -> HandMade:
    return HandMade(text(id=text_id, text=words), offset=offset)


def test_each_text_becomes_a_frame_of_the_ids_of_its_words(open_stream: OpenStream) -> None:
    records = [record("good film", 7), record("", 8), record("bad xyzzy", 9)]
    rejections, blocks = open_stream(SOURCE).push(Records.of(records), 0.0, mute=False)
    (block,) = blocks
    assert rejections == []
    assert block.frames.dtype == np.int32
    assert block.frames[:, :3].tolist() == [[2, 4, 0], [0, 0, 0], [3, 1, 0]]
    assert block.source_timestamp_ms.tolist() == [each.timestamp for each in records]


def test_texts_that_are_refused_are_returned_with_their_reasons_and_leave_no_gap(open_stream: OpenStream) -> None:
    records = [record("good", 0), HandMade(b"not JSON", offset=1), record("x" * 101, 2), record("bad", 3)]
    rejections, blocks = open_stream(SOURCE).push(Records.of(records), 0.0, mute=False)
    refused = [(rejection.record, rejection.reason) for rejection in rejections]
    assert refused == [(1, Reason.NOT_JSON), (2, Reason.TOO_LARGE)]
    (block,) = blocks
    assert block.frames[:, 0].tolist() == [2, 3]
    assert block.columns.source_offset.tolist() == [0, 3]


def test_many_texts_are_cut_a_few_at_a_time_so_that_others_get_their_turn(open_stream: OpenStream) -> None:
    many = [record("good", offset) for offset in range(2 * TEXTS_A_BLOCK + 1)]
    _, blocks = open_stream(SOURCE).push(Records.of(many), 0.0, mute=False)
    assert [len(block.frames) for block in blocks] == [TEXTS_A_BLOCK, TEXTS_A_BLOCK, 1]


def test_nothing_is_open_between_texts(open_stream: OpenStream) -> None:
    stream = open_stream(SOURCE)
    stream.push(Records.of([record("good", 4)]), 0.0, mute=False)
    assert (len(stream), stream.rewind_to(5), list(stream.fall_silent(float("inf")))) == (0, 5, [])


def test_a_label_carries_its_texts_id_and_place(open_stream: OpenStream, bundle: Bundle) -> None:
    texts = [record("good", 40, "first"), record("bad", 41, "second"), record("dull", 42, "third")]
    (block,) = open_stream(SOURCE).push(Records.of(texts), 0.0, mute=False)[1]
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    result = Result(None, 1, 3, probabilities, bundle, 0.0, 0.0, 2, "idle", True)
    labels = unpack(text_kind(TextSettings()).encode_labels(result, block, 3))
    assert [key for key, _, _ in labels] == [b"second", b"third"]
    assert [json.loads(value)["label"] for _, value, _ in labels] == ["subjective", "objective"]
    assert [dict(headers)["source-offset"] for _, _, headers in labels] == [b"41", b"42"]
    assert {dict(headers)["source-partition"] for _, _, headers in labels} == {b"3"}


def test_a_bundle_of_recordings_is_refused_with_what_to_do(metrics: WorkerMetrics, tmp_path: Path) -> None:
    bundle = har_bundle(tmp_path / "tiny-har")
    with pytest.raises(WorkerError, match=r"^tiny-har@1.0 can't label texts: name a bundle that was trained on"):
        text_kind(TextSettings()).prepare(bundle, metrics)


def test_a_bundle_whose_framing_is_of_another_length_is_refused(metrics: WorkerMetrics, tmp_path: Path) -> None:
    framing = {"tokens": "sentence", "html": False, "length": 19, "keep": "first"}
    bundle = text_bundle(tmp_path / "tiny-text", framing=framing)
    with pytest.raises(WorkerError, match=r"takes .*int32 \[20\], and this worker makes int32 \[19\]: .* text.bundle"):
        text_kind(TextSettings()).prepare(bundle, metrics)


def test_a_bundle_with_rules_of_the_future_is_refused(metrics: WorkerMetrics, tmp_path: Path) -> None:
    bundle = text_bundle(tmp_path / "tiny-text", framing={"tokens": "syllables", "html": False, "length": 20})
    with pytest.raises(WorkerError, match=r"framing\.tokens"):
        text_kind(TextSettings()).prepare(bundle, metrics)
