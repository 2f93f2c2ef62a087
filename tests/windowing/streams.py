"""Streams as phones really send them, and worse; and ways to feed them to a Windower."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.windowing.reference import Reading
from windowing import Frames, Step, Windower

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
_SAME_EACH_TIME = settings(
    max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=_SLOW
)
_DEEP = settings(_SAME_EACH_TIME, max_examples=5000, derandomize=False, print_blob=True)

# WINDOWING_EXAMPLES=deep looks at many new examples instead of the same few.
PROFILE = _DEEP if os.environ.get("WINDOWING_EXAMPLES") == "deep" else _SAME_EACH_TIME


@dataclass(frozen=True)
class Segment:
    """A stretch of readings at one rate, and what the clock does after it."""

    rate_hz: float
    readings: int
    jitter_ms: int
    dropped: float
    stands_still_for: int
    then_jumps_ms: int


@dataclass(frozen=True)
class Record:
    """Readings that share an offset."""

    offset: int
    readings: list[Reading]


segments = st.builds(
    Segment,
    rate_hz=st.sampled_from([9.0, 19.7, 20.0, 20.3, 50.0, 100.0]),
    readings=st.integers(0, 170),
    jitter_ms=st.sampled_from([0, 5, 20, 60]),
    dropped=st.sampled_from([0.0, 0.0, 0.03, 0.3]),
    stands_still_for=st.sampled_from([0, 0, 0, 3]),
    then_jumps_ms=st.sampled_from(
        [0, 0, 50, 150, 200, 250, 300, 1000, 3900, 4000, 4250, 20_000, 10**9, -50, -200, -250, -1900, -9000, -(10**9)]
    ),
)
gentle_segments = st.builds(
    Segment,
    rate_hz=st.sampled_from([9.0, 19.7, 20.0, 20.3, 50.0, 100.0]),
    readings=st.integers(0, 170),
    jitter_ms=st.sampled_from([0, 5, 20, 60]),
    dropped=st.sampled_from([0.0, 0.0, 0.03, 0.3]),
    stands_still_for=st.just(0),
    then_jumps_ms=st.sampled_from([0, 50, 150, 200, 250, 300, 1000, 3900, 4250, 10**9]),
)
seeds = st.integers(0, 2**32 - 1)
start_times = st.sampled_from([0, 1_700_000_000_000, -123_456_789, 2**61, -(2**61)])
DEVICE_IDS = [b"phone-17", b"", "жук-3".encode(), b"x" * 128]


def readings_of(device_id: bytes, start_ms: int, script: Sequence[Segment], rng: random.Random) -> list[Reading]:
    """Play the script. Values are often equal, and zero of either sign, so that ties happen."""
    readings: list[Reading] = []
    clock_ms = float(start_ms % 100_000)
    base_ms = start_ms - start_ms % 100_000
    for segment in script:
        for _ in range(segment.readings):
            clock_ms += 1000 / segment.rate_hz
            if rng.random() < segment.dropped:
                continue
            timestamp_ms = base_ms + round(clock_ms + rng.uniform(-1, 1) * segment.jitter_ms)
            readings.append(Reading(device_id, timestamp_ms, *(_value(rng) for _ in range(3))))
        if readings:
            readings += [readings[-1]._replace(x=_value(rng)) for _ in range(segment.stands_still_for)]
        clock_ms += segment.then_jumps_ms
    return readings


def _value(rng: random.Random) -> float:
    if rng.random() < 0.3:
        return rng.choice([0.0, -0.0, 1.0])
    return float(np.float32(rng.gauss(0, 10)))


def interleave(streams: Sequence[Sequence[Reading]], rng: random.Random) -> list[Reading]:
    """Mix the streams, each keeping its own order."""
    turns = [i for i, stream in enumerate(streams) for _ in stream]
    rng.shuffle(turns)
    feeds = [iter(stream) for stream in streams]
    return [next(feeds[i]) for i in turns]


def straggle(readings: list[Reading], share: float, rng: random.Random) -> list[Reading]:
    """Send some of the readings again, or instead, up to a few hundred places later."""
    places: list[tuple[float, Reading]] = []
    for place, reading in enumerate(readings):
        if rng.random() < share:
            places.append((place + rng.choice([1, 3, 10, 400]) * rng.random(), reading))
        if rng.random() >= share / 2:
            places.append((place, reading))
    return [reading for _, reading in sorted(places, key=lambda pair: pair[0])]


def disorder(readings: list[Reading], lateness_slots: int, rng: random.Random) -> list[Reading]:
    """Reorder, and repeat some, such that none comes more than the lateness behind its device's newest.

    Each reading is put off by up to `lateness_slots`: one that comes after a newer one is then no more behind it.
    """
    copies = [reading for reading in readings for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    rng.shuffle(copies)
    return sorted(copies, key=lambda reading: (reading.timestamp_ms + 25) // 50 + rng.randint(0, lateness_slots))


def records_of(readings: Sequence[Reading], rng: random.Random, offset: int = 1000) -> list[Record]:
    """Gather the readings into records of one to five, at offsets with gaps, as a real log has them."""
    records = []
    taken = 0
    while taken < len(readings):
        size = rng.randint(1, 5)
        records.append(Record(offset, list(readings[taken : taken + size])))
        taken += size
        offset += rng.choice([1, 1, 1, 2, 7])
    return records


def spell(device_ids: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write ids one after the other: the bytes, and where each begins and ends."""
    ends = np.cumsum([len(device_id) for device_id in device_ids], dtype=np.int64)
    at = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]
    return np.frombuffer(b"".join(device_ids), np.uint8), at, ends


def push(windower: Windower, records: Sequence[Record], processed_at: float) -> list[Step]:
    """Push the records' readings as one batch, as often as it takes."""
    readings = [reading for record in records for reading in record.readings]
    columns = (
        *spell([reading.device_id for reading in readings]),
        np.array([reading.timestamp_ms for reading in readings], dtype=np.int64),
        np.array([reading[2:] for reading in readings], dtype=np.float32).reshape(-1, 3),
        np.array([record.offset for record in records for _ in record.readings], dtype=np.int64),
    )
    steps = [windower.push(*columns, processed_at)]
    while steps[-1].more:
        steps.append(windower.push(*columns, processed_at, start=steps[-1].consumed))
    assert steps[-1].consumed == len(readings)
    return steps


def let_fall_silent(windower: Windower, caught_up_at: float) -> list[Step]:
    """Have the windower close what silent devices hold, in as many calls as it takes."""
    steps = [windower.fall_silent(caught_up_at)]
    while steps[-1].more:
        steps.append(windower.fall_silent(caught_up_at))
    return steps


def rows(frames: Frames) -> list[tuple[bytes, int, bytes, int, int, bool]]:
    """Return a frame's identity, its values bit by bit, and its figures: all that must not depend on arrival."""
    device_ids = frames.device_ids()
    return [
        (
            device_ids[i],
            int(frames.start_ms[i]),
            frames.values[i].tobytes(),
            int(frames.measured[i]),
            int(frames.longest_gap_ms[i]),
            bool(frames.by_silence[i]),
        )
        for i in range(len(frames))
    ]


def all_rows(steps: Sequence[Step]) -> list[tuple[bytes, int, bytes, int, int, bool]]:
    return [row for step in steps for row in rows(step.frames)]
