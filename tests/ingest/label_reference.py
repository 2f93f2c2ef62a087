"""The slow, obvious way to write labels: a Python object for each, and pydantic's own JSON."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from ingest.contract import BUNDLE_DIGEST_HEADER, SOURCE_OFFSET_HEADER, SOURCE_PARTITION_HEADER
from ingest.record_batches.bodies import Outgoing


def activities(
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
) -> list[Outgoing]:
    """Return what `encode_activities` writes."""
    rounded = probabilities.astype(np.float64).round(6)
    outgoing = []
    for row, size in enumerate(id_size.tolist()):
        key = device_id[row, :size].tobytes()
        best = int(probabilities[row].argmax())
        label = {
            "device_id": key.decode(),
            "window_start": int(start_ms[row]),
            "window_end": int(start_ms[row]) + 4000,
            "activity": labels[best],
            "confidence": rounded[row, best].item(),
            "probabilities": dict(zip(labels, rounded[row].tolist(), strict=True)),
            "familiarity": None if familiarity is None else familiarity[row].astype(np.float64).round(6).item(),
            "smoothed_activity": None if smoothed is None or smoothed[row] < 0 else labels[smoothed[row]],
            "coverage": int(measured[row]) / 80,
            "longest_gap_ms": int(longest_gap_ms[row]),
            "closed_by": "silence" if by_silence[row] else "time",
            "model": model,
        }
        headers = [
            (SOURCE_PARTITION_HEADER, b"%d" % source_partition),
            (BUNDLE_DIGEST_HEADER, bundle_digest.encode()),
            (SOURCE_OFFSET_HEADER, b"%d" % source_offset[row]),
        ]
        outgoing.append((key, to_json(label), headers))
    return outgoing
