"""Labels, from the columns of a classified batch to the bytes that go to Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from ingest.contract import (
    BUNDLE_DIGEST_HEADER,
    SOURCE_OFFSET_HEADER,
    SOURCE_PARTITION_HEADER,
    WINDOW_MS,
    WINDOW_SLOTS,
)

# Two devices, or two precisions of one, differ in the seventh digit; what they agree on is worth sending.
PROBABILITY_DECIMALS: Final = 6

Outgoing = tuple[bytes, bytes, list[tuple[str, bytes]]]
"""Key, value and headers of one record."""


def encode_activities(
    *,
    device_id: NDArray[np.object_],
    start_ms: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    measured: NDArray[np.int32],
    longest_gap_ms: NDArray[np.int32],
    by_silence: NDArray[np.bool_],
    source_offset: NDArray[np.int64],
    source_partition: int,
    labels: Sequence[str],
    model: str,
    bundle_digest: str,
) -> list[Outgoing]:
    """Encode the labels of m windows of one input partition, byte for byte as `ActivityLabel` would.

    Probabilities are rounded to `PROBABILITY_DECIMALS`; `confidence` is the largest as it is sent, and `activity`
    its label (the first of equals, judged before rounding).

    Args:
        device_id: object[m] of bytes, UTF-8; also the records' keys
        start_ms: int64[m], epoch ms of each window's first slot
        probabilities: float32[m, k], a row a window, in the order of `labels`
        measured: int32[m], slots that were measured rather than interpolated, of 80
        longest_gap_ms: int32[m], ms
        by_silence: bool[m], whether the window was closed by silence rather than by time
        source_offset: int64[m], offset of the record that closed the window
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
    columns = zip(
        device_id.tolist(),
        start_ms.tolist(),
        rounded.tolist(),
        probabilities.argmax(axis=1).tolist(),
        (measured / WINDOW_SLOTS).tolist(),
        longest_gap_ms.tolist(),
        by_silence.tolist(),
        source_offset.tolist(),
        strict=True,
    )
    for device, start, row, best, coverage, gap, silent, offset in columns:
        value = to_json(
            {
                "device_id": device.decode(),
                "window_start": start,
                "window_end": start + WINDOW_MS,
                "activity": labels[best],
                "confidence": row[best],
                "probabilities": dict(zip(labels, row, strict=True)),
                "coverage": coverage,
                "longest_gap_ms": gap,
                "closed_by": "silence" if silent else "time",
                "model": model,
            }
        )
        outgoing.append((device, value, [*constant_headers, (SOURCE_OFFSET_HEADER, b"%d" % offset)]))
    return outgoing


def encode_text_labels(
    *,
    ids: Sequence[bytes],
    probabilities: NDArray[np.float32],
    source_offset: NDArray[np.int64],
    source_partition: int,
    labels: Sequence[str],
    model: str,
    bundle_digest: str,
) -> list[Outgoing]:
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
    return outgoing


def _rounded(probabilities: NDArray[np.float32], model: str) -> NDArray[np.float64]:
    rounded = probabilities.astype(np.float64).round(PROBABILITY_DECIMALS)
    sound = ((rounded >= 0) & (rounded <= 1)).all(axis=1)
    if not sound.all():
        row = int(np.argmin(sound))
        raise ValueError(
            f"{model} gave frame {row} of the batch the probabilities {probabilities[row].tolist()}, "
            "which are not all in [0, 1]; nothing of this batch may be published"
        )
    return rounded


def _constant_headers(source_partition: int, bundle_digest: str) -> list[tuple[str, bytes]]:
    return [(SOURCE_PARTITION_HEADER, b"%d" % source_partition), (BUNDLE_DIGEST_HEADER, bundle_digest.encode())]
