import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from ingest.contract import ActivityLabel, TextLabel
from ingest.messages import label_kernel
from ingest.messages.labels import encode_activities, encode_text_labels
from ingest.record_batches.bodies import Outgoing, unpack
from tests.ingest.label_reference import activities

LABELS = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")


def columns_of(ids: Sequence[bytes]) -> dict[str, Any]:
    """Device ids as columns; what follows an id in its row is no part of it."""
    padded = b"".join(device_id.ljust(128, b"?") for device_id in ids)
    return {
        "device_id": np.frombuffer(bytearray(padded), np.uint8).reshape(len(ids), 128),
        "id_size": np.array([len(device_id) for device_id in ids], np.int32),
    }


def arguments(probabilities: list[list[float]], **columns: Any) -> dict[str, Any]:
    """What is encoded of windows of one device, some columns given."""
    m = len(probabilities)
    defaults: dict[str, Any] = {
        **columns_of([b"phone-17"] * m),
        "start_ms": np.arange(m) * 2000 + 1_700_000_000_750,
        "familiarity": np.full(m, 0.75, np.float32),
        "smoothed": np.full(m, 5),
        "measured": np.full(m, 80, np.int32),
        "longest_gap_ms": np.full(m, 50, np.int32),
        "by_silence": np.zeros(m, bool),
        "source_offset": np.arange(m) + 17,
        "source_partition": 3,
        "labels": LABELS,
        "model": "har-cnn@1.0.0",
        "bundle_digest": "sha256:ab12",
        "probabilities": np.array(probabilities, np.float32),
    }
    return defaults | columns


def encode(probabilities: list[list[float]], **columns: Any) -> list[Outgoing]:
    return unpack(encode_activities(**arguments(probabilities, **columns)))


def test_a_label_says_what_the_contract_says() -> None:
    row = [0.021406, 0.004113, 0.000027, 0.000218, 0.042119, 0.932117]
    ((key, value, headers),) = encode(
        [row],
        measured=np.array([79], np.int32),
        longest_gap_ms=np.array([100], np.int32),
        by_silence=np.array([True]),
    )
    assert key == b"phone-17"
    assert value == (
        b'{"device_id":"phone-17","window_start":1700000000750,"window_end":1700000004750,"activity":"Walking",'
        b'"confidence":0.932117,"probabilities":{"Downstairs":0.021406,"Jogging":0.004113,"Sitting":0.000027,'
        b'"Standing":0.000218,"Upstairs":0.042119,"Walking":0.932117},"familiarity":0.75,"smoothed_activity":"Walking","coverage":0.9875,"longest_gap_ms":100,'
        b'"closed_by":"silence","model":"har-cnn@1.0.0"}'
    )
    assert sorted(headers) == [
        ("bundle-digest", b"sha256:ab12"),
        ("source-offset", b"17"),
        ("source-partition", b"3"),
    ]


def test_no_windows_have_no_labels() -> None:
    columns = arguments([]) | {"probabilities": np.empty((0, 6), np.float32)}
    assert unpack(encode_activities(**columns)) == []


def test_probabilities_keep_six_decimals_and_confidence_is_the_largest_of_them() -> None:
    ((_, value, _),) = encode([[1 / 3, 0.12345678, 4e-7, 6e-7, 0, 0.5432104]])
    label = json.loads(value)
    assert list(label["probabilities"].values()) == [0.333333, 0.123457, 0.0, 1e-06, 0.0, 0.54321]
    assert label["confidence"] == 0.54321
    assert label["activity"] == "Walking"


def test_the_first_of_equally_probable_labels_is_the_activity() -> None:
    ((_, value, _),) = encode([[0, 0.25, 0.25, 0.25, 0.25, 0]])
    assert json.loads(value)["activity"] == "Jogging"


def test_a_sum_that_float32_takes_a_little_past_one_is_still_one() -> None:
    ((_, value, _),) = encode([[1.0000001, 0, 0, 0, 0, 0]])
    assert json.loads(value)["confidence"] == 1.0


def test_what_is_not_known_is_null() -> None:
    ((_, value, _),) = encode([[0, 0, 0, 0, 0, 1]], familiarity=None, smoothed=np.array([-1]))
    label = json.loads(value)
    assert (label["activity"], label["familiarity"], label["smoothed_activity"]) == ("Walking", None, None)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_familiarity_that_is_no_share_is_never_published(broken: float) -> None:
    with pytest.raises(ValueError, match="familiarity"):
        encode([[0, 0, 0, 0, 0, 1]] * 2, familiarity=np.array([0.5, broken], np.float32))


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -0.1, 1.1])
def test_what_is_no_probability_is_never_published(broken: float) -> None:
    with pytest.raises(ValueError, match=r"har-cnn@1\.0\.0 gave frame 1 of the batch the probabilities \["):
        encode([[0.5, 0.5, 0, 0, 0, 0], [0.5, broken, 0, 0, 0, 0]])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=32),
            st.integers(-(2**53) // 50, 2**53 // 50),
            st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
            st.integers(1, 80),
            st.integers(1, 6),
            st.booleans(),
            st.integers(0, 2**63 - 1),
            st.integers(-1, 2),
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=3, max_size=3, unique=True),
    st.text(st.characters(codec="utf-8"), max_size=10),
)
def test_labels_are_byte_for_byte_what_the_model_writes(
    windows: list[tuple[str, int, list[float], int, int, bool, int, int]], labels: list[str], model: str
) -> None:
    ids, slots, rows, measured, gaps, silent, offsets, smoothed = (
        list(column) for column in zip(*windows, strict=True)
    )
    outgoing = encode(
        rows,
        **columns_of([text.encode() for text in ids]),
        smoothed=np.array(smoothed),
        start_ms=np.array(slots, np.int64) * 50,
        measured=np.array(measured, np.int32),
        longest_gap_ms=np.array(gaps, np.int32) * 50,
        by_silence=np.array(silent),
        source_offset=np.array(offsets, np.int64),
        labels=labels,
        model=model,
    )
    for k, (key, value, headers) in enumerate(outgoing):
        probabilities = [float(np.round(np.float64(p), 6)) for p in rows[k]]
        expected = ActivityLabel(
            device_id=ids[k],
            window_start=50 * slots[k],
            window_end=50 * slots[k] + 4000,
            activity=labels[int(np.argmax(rows[k]))],
            confidence=max(probabilities),
            probabilities=dict(zip(labels, probabilities, strict=True)),
            familiarity=0.75,
            smoothed_activity=labels[smoothed[k]] if smoothed[k] >= 0 else None,
            coverage=measured[k] / 80,
            longest_gap_ms=50 * gaps[k],
            closed_by="silence" if silent[k] else "time",
            model=model,
        )
        assert value == expected.model_dump_json().encode()
        assert key == ids[k].encode()
        assert ("source-offset", str(offsets[k]).encode()) in headers


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(0, 6), st.integers(1, 9))
def test_labels_are_byte_for_byte_what_the_slow_way_writes(data: st.DataObject, m: int, k: int) -> None:
    """Headers and their order as well, at the ends of all ranges."""

    def column(elements: st.SearchStrategy[Any], dtype: type) -> Any:
        return np.array(data.draw(st.lists(elements, min_size=m, max_size=m)), dtype)

    ids = [text.encode()[:128] for text in data.draw(st.lists(st.text(max_size=140), min_size=m, max_size=m))]
    ids = [device_id.decode(errors="ignore").encode() for device_id in ids]
    near_zero = st.floats(-(2.0**-22), 2.0**-15, width=32)
    probability = st.one_of(near_zero, st.floats(0, 1, width=32), st.sampled_from([-0.0, 1.0, 1 - 2**-24, 1e-5]))
    row = st.lists(probability, min_size=k, max_size=k)
    given_columns: dict[str, Any] = {
        **columns_of(ids),
        "start_ms": column(st.integers(-(2**53), 2**53), np.int64),
        "probabilities": np.array(data.draw(st.lists(row, min_size=m, max_size=m)), np.float32).reshape(m, k),
        "familiarity": data.draw(st.sampled_from([None, column(probability, np.float32)])),
        "smoothed": data.draw(st.sampled_from([None, column(st.integers(-1, k - 1), np.int64)])),
        "measured": column(st.integers(0, 80), np.int32),
        "longest_gap_ms": column(st.integers(50, 2**31 - 1), np.int32),
        "by_silence": column(st.booleans(), bool),
        "source_offset": column(st.integers(0, 2**63 - 1), np.int64),
        "source_partition": data.draw(st.integers(0, 2**31 - 1)),
        "labels": data.draw(st.lists(TEXTS, min_size=k, max_size=k, unique=True)),
        "model": data.draw(TEXTS),
        "bundle_digest": data.draw(TEXTS),
    }
    encoded = encode_activities(**given_columns)
    assert unpack(encoded) == activities(**given_columns)
    assert encoded.begins[-1] == len(encoded.content)


def test_each_probability_is_written_as_the_model_writes_it() -> None:
    """All 1,000,001 of them: those below 0.00001 have an exponent."""
    millionths = np.arange(1_000_001)
    out = np.empty(9, np.uint8)
    for k, value in enumerate((millionths / 1e6).tolist()):
        assert out[: label_kernel._millionths(out, 0, k, False)].tobytes() == to_json(value)


def test_each_character_of_an_id_is_written_as_the_model_writes_it() -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(characters), 32):
        text = "".join(characters[start : start + 32])
        device_id, out = np.frombuffer(bytearray(text.encode()), np.uint8), np.empty(6 * 128, np.uint8)
        end = label_kernel._string(out, 0, device_id, 0, len(device_id))
        assert b'"' + out[:end].tobytes() + b'"' == to_json(text)


def test_a_label_of_very_many_classes_has_its_length_before_it() -> None:
    """Three bytes of it, where two are left free for the usual."""
    labels = [f"a class with a long name, number {number}" for number in range(1000)]
    columns = arguments([[0.001] * 1000] * 3, labels=labels)
    assert unpack(encode_activities(**columns)) == activities(**columns)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id_size": [129]},
        {"id_size": [-1]},
        {"measured": [81]},
        {"measured": [-1]},
        {"smoothed": [6]},
        {"smoothed": [-2]},
        {"id_size": [1, 1]},
    ],
)
def test_columns_that_would_be_read_beyond_their_ends_are_refused(wrong: dict[str, list[int]]) -> None:
    columns = {name: np.array(values, np.int64 if name == "smoothed" else np.int32) for name, values in wrong.items()}
    with pytest.raises(ValueError, match=r"columns of|longer than its column|none of the labels"):
        encode([[0.5, 0.5, 0, 0, 0, 0]], **columns)


def test_probabilities_of_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="of 5 labels, and there are 6"):
        encode([[0.5, 0.5, 0, 0, 0]])


def encode_texts(probabilities: list[list[float]], **columns: Any) -> list[Outgoing]:
    """Labels of texts, some columns given."""
    m = len(probabilities)
    defaults: dict[str, Any] = {
        "ids": [b"review-%d" % k for k in range(m)],
        "source_offset": np.arange(m) + 17,
        "source_partition": 3,
        "labels": ("objective", "subjective"),
        "model": "subjectivity@1.0.0",
        "bundle_digest": "sha256:ab12",
    }
    rows = np.array(probabilities, np.float32).reshape(m, -1 if m else 2)
    return unpack(encode_text_labels(**defaults | columns, probabilities=rows))


def test_a_text_label_says_what_the_contract_says() -> None:
    ((key, value, headers),) = encode_texts([[0.0087961, 0.9912039]])
    assert key == b"review-0"
    assert value == (
        b'{"id":"review-0","label":"subjective","confidence":0.991204,'
        b'"probabilities":{"objective":0.008796,"subjective":0.991204},"model":"subjectivity@1.0.0"}'
    )
    assert sorted(headers) == [
        ("bundle-digest", b"sha256:ab12"),
        ("source-offset", b"17"),
        ("source-partition", b"3"),
    ]


def test_no_texts_have_no_labels() -> None:
    assert encode_texts([]) == []


def test_texts_of_one_id_have_a_label_each() -> None:
    outgoing = encode_texts([[1, 0], [0.5, 0.5]], ids=[b"a", b"a"])
    assert [key for key, _, _ in outgoing] == [b"a", b"a"]
    assert [json.loads(value)["label"] for _, value, _ in outgoing] == ["objective", "objective"]
    assert [dict(headers)["source-offset"] for _, _, headers in outgoing] == [b"17", b"18"]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -0.1, 1.1])
def test_what_is_no_probability_of_a_text_is_never_published(broken: float) -> None:
    with pytest.raises(ValueError, match=r"subjectivity@1\.0\.0 gave frame 1 of the batch the probabilities \["):
        encode_texts([[0.5, 0.5], [0.5, broken]])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=100),
            st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
            st.integers(0, 2**63 - 1),
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=3, max_size=3, unique=True),
    st.text(st.characters(codec="utf-8"), max_size=10),
)
def test_text_labels_are_byte_for_byte_what_the_model_writes(
    texts: list[tuple[str, list[float], int]], labels: list[str], model: str
) -> None:
    ids, rows, offsets = (list(column) for column in zip(*texts, strict=True))
    outgoing = encode_texts(
        rows,
        ids=[text_id.encode() for text_id in ids],
        source_offset=np.array(offsets, np.int64),
        labels=labels,
        model=model,
    )
    for k, (key, value, headers) in enumerate(outgoing):
        probabilities = [float(np.round(np.float64(p), 6)) for p in rows[k]]
        expected = TextLabel(
            id=ids[k],
            label=labels[int(np.argmax(rows[k]))],
            confidence=max(probabilities),
            probabilities=dict(zip(labels, probabilities, strict=True)),
            model=model,
        )
        assert value == expected.model_dump_json().encode()
        assert key == ids[k].encode()
        assert ("source-offset", str(offsets[k]).encode()) in headers
