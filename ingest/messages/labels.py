"""Encodes labels: from the columns of a classified batch to the bytes that go to Kafka."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from ingest.contract import (
    BUNDLE_DIGEST_HEADER,
    SOURCE_OFFSET_HEADER,
    SOURCE_PARTITION_HEADER,
    WINDOW_SLOTS,
)
from ingest.messages import label_kernel
from ingest.record_batches.bodies import Bodies, Outgoing, pack, write_headers

# Two inference devices, or two precisions, differ in the seventh digit. Only digits on which they agree are sent.
PROBABILITY_DECIMALS: Final = 6


def encode_activities(
    *,
    device_id: NDArray[np.uint8],
    id_size: NDArray[np.int32],
    start_ms: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    familiarity: NDArray[np.float32] | None,
    smoothed: NDArray[np.int64] | None,
    measured: NDArray[np.int32],
    longest_gap_ms: NDArray[np.int32],
    by_silence: NDArray[np.bool_],
    source_offset: NDArray[np.int64],
    source_partition: int,
    labels: Sequence[str],
    model: str,
    bundle_digest: str,
) -> Bodies:
    """Encode the labels of m windows of one input partition, byte for byte as `ActivityLabel` would.

    Probabilities are rounded to `PROBABILITY_DECIMALS`; `confidence` is the largest as it is sent, and `activity`
    its label (the first of equals, judged before rounding).

    Args:
        device_id: uint8[m, 128], UTF-8, whatever after its end; also the records' keys
        id_size: int32[m], bytes of each id
        start_ms: int64[m], epoch ms of each window's first slot
        probabilities: float32[m, k], a row a window, in the order of `labels`
        familiarity: float32[m], of 0..1; None where the model can't tell
        smoothed: int64[m], index into `labels`, -1 where too little was heard; None where nothing is smoothed
        measured: int32[m], slots that were measured rather than interpolated, of 80
        longest_gap_ms: int32[m], ms
        by_silence: bool[m], whether the window was closed by silence rather than by time
        source_offset: int64[m], offset of the record that closed the window
        source_partition: the input partition of all these records
        labels: the k labels, all different
        model: `name@version` of the bundle
        bundle_digest: its digest, for the header

    Raises:
        ValueError: if a probability or a familiarity is not finite or outside [0, 1]; nothing wrong may be published
    """
    rows, width = device_id.shape
    if familiarity is None:
        familiarity = np.full(rows, np.nan, np.float32)
    elif not np.isfinite(familiarity).all():
        raise ValueError(f"{model} gave a window of the batch a familiarity that is not finite")
    if smoothed is None:
        smoothed = np.full(rows, -1, np.int64)
    columns = (
        id_size,
        start_ms,
        probabilities,
        familiarity,
        smoothed,
        measured,
        longest_gap_ms,
        by_silence,
        source_offset,
    )
    if any(len(column) != rows for column in columns):
        raise ValueError(f"columns of {[len(column) for column in columns]} rows for {rows} windows")
    if probabilities.shape[1] != len(labels):
        raise ValueError(f"probabilities of {probabilities.shape[1]} labels, and there are {len(labels)}")
    texts, places, most = _texts(tuple(labels), model, source_partition, bundle_digest)
    content = np.empty(rows * (most + width * label_kernel.BYTES_AN_ID_BYTE), np.uint8)  # most of it never touched
    begins = np.empty(rows + 1, np.int64)
    end = label_kernel.write_activities(device_id, *columns, texts, places, content, begins)
    if end < 0:
        raise _unsound(probabilities, -1 - end, model, familiarity[-1 - end])
    return Bodies(content[:end], begins)


def encode_text_labels(
    *,
    ids: Sequence[bytes],
    probabilities: NDArray[np.float32],
    source_offset: NDArray[np.int64],
    source_partition: int,
    labels: Sequence[str],
    model: str,
    bundle_digest: str,
) -> Bodies:
    """Encode the labels of m texts of one input partition, byte for byte as `TextLabel` would.

    Probabilities are rounded, and `confidence` and `label` chosen, as for activities.

    Args:
        ids: m text ids, UTF-8; also the records' keys
        probabilities: float32[m, k], a row a text, in the order of `labels`
        source_offset: int64[m], offset of each text's record
        source_partition: the input partition of all these records
        labels: the k labels
        model: `name@version` of the bundle
        bundle_digest: its digest, for the header

    Raises:
        ValueError: if a probability is not finite or outside [0, 1]; nothing wrong may be published
    """
    rounded = _rounded(probabilities, model)
    constant_headers = _constant_headers(source_partition, bundle_digest)
    outgoing: list[Outgoing] = []
    columns = zip(ids, rounded.tolist(), probabilities.argmax(axis=1).tolist(), source_offset.tolist(), strict=True)
    for text_id, row, best, offset in columns:
        value = to_json(
            {
                "id": text_id.decode(),
                "label": labels[best],
                "confidence": row[best],
                "probabilities": dict(zip(labels, row, strict=True)),
                "model": model,
            }
        )
        outgoing.append((text_id, value, [*constant_headers, (SOURCE_OFFSET_HEADER, b"%d" % offset)]))
    return pack(outgoing)


def _rounded(probabilities: NDArray[np.float32], model: str) -> NDArray[np.float64]:
    rounded = probabilities.astype(np.float64).round(PROBABILITY_DECIMALS)
    sound = ((rounded >= 0) & (rounded <= 1)).all(axis=1)
    if not sound.all():
        raise _unsound(probabilities, int(np.argmin(sound)), model)
    return rounded


def _unsound(probabilities: NDArray[np.float32], row: int, model: str, familiarity: float = math.nan) -> ValueError:
    familiar = "" if math.isnan(familiarity) else f" and the familiarity {familiarity}"
    return ValueError(
        f"{model} gave frame {row} of the batch the probabilities {probabilities[row].tolist()}{familiar}, "
        "which are not all in [0, 1]; nothing of this batch may be published"
    )


def _constant_headers(source_partition: int, bundle_digest: str) -> list[tuple[str, bytes]]:
    return [(SOURCE_PARTITION_HEADER, b"%d" % source_partition), (BUNDLE_DIGEST_HEADER, bundle_digest.encode())]


@functools.lru_cache(maxsize=1024)
def _texts(
    labels: tuple[str, ...], model: str, source_partition: int, bundle_digest: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """Return what the labels of a partition's windows have in common, as `write_activities` takes it.

    And the most bytes that a body takes beside those of its id.
    """
    names = [to_json(label) for label in labels]
    tail = b',"model":' + to_json(model) + b"}"
    headers = bytearray()
    write_headers(headers, [*_constant_headers(source_partition, bundle_digest), (SOURCE_OFFSET_HEADER, b"")])
    fixed = [
        b'{"device_id":"',
        b'","window_start":',
        b',"window_end":',
        b'},"familiarity":',
        b',"smoothed_activity":',
        b"null",
        b',"coverage":',
        b',"longest_gap_ms":',
        b',"closed_by":"time"' + tail,
        b',"closed_by":"silence"' + tail,
        bytes(headers[:-1]),  # without the length of the offset
    ]
    activities = [b',"activity":' + name + b',"confidence":' for name in names]
    probabilities = [(b"," if k else b',"probabilities":{') + name + b":" for k, name in enumerate(names)]
    coverages = [to_json(slots / WINDOW_SLOTS) for slots in range(WINDOW_SLOTS + 1)]
    pieces = [*fixed, *coverages, *activities, *probabilities, *names]
    texts = np.frombuffer(bytearray(b"".join(pieces)), np.uint8)
    places = np.array([0, *itertools.accumulate(map(len, pieces))], np.int64)
    longest = sum(map(len, fixed + probabilities)) + max(map(len, activities)) + max(map(len, coverages))
    longest += max(map(len, names))  # the smoothed activity
    numbers = label_kernel.BYTES_OF_NUMBERS + (len(labels) + 2) * label_kernel.BYTES_A_PROBABILITY
    return texts, places, longest + numbers
