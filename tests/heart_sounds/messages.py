"""Records of heart sounds in, ids and samples out. In the program itself it would be `ingest/messages/heart.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.contract import MAX_TEXT_ID_BYTES, check_id
from ingest.record import Record
from ingest.rejections import Reason, Refused, Rejection

SAMPLES: Final = 2_000  # one second
SOUND_BYTES: Final = 2 * SAMPLES


@dataclass(frozen=True, slots=True)
class Sounds:
    """The sounds of a batch: their ids, int16[n, 2000] samples, and int32[n] the index of each one's record."""

    ids: list[bytes]
    samples: NDArray[np.int16]
    record: NDArray[np.int32]


def decode_sounds(records: Sequence[Record]) -> tuple[Sounds, list[Rejection]]:
    """Decode a batch: a record's key is a sound's id, its value 2,000 int16, little-endian, at 2 kHz."""
    good: list[int] = []
    ids: list[bytes] = []
    values: list[bytes] = []
    rejections: list[Rejection] = []
    for index, record in enumerate(records):
        try:
            sound_id, value = _read(record)
        except Refused as refused:
            rejections.append(Rejection(index, refused.reason, refused.detail))
            continue
        good.append(index)
        ids.append(sound_id)
        values.append(value)
    samples = np.frombuffer(b"".join(values), "<i2").reshape(-1, SAMPLES)
    return Sounds(ids, samples, np.array(good, np.int32)), rejections


def _read(record: Record) -> tuple[bytes, bytes]:
    if record.value is None:
        raise Refused(Reason.NULL_VALUE, "the record has no value")
    if len(record.value) != SOUND_BYTES:
        raise Refused(Reason.BAD_BINARY, f"the value has {len(record.value)} bytes; a sound has {SOUND_BYTES}")
    return check_id(record.key or b"", "sound", MAX_TEXT_ID_BYTES), record.value
