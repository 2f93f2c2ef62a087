"""Windows are a function of which readings exist, not of how they arrive."""

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.windowing.reference import Reading
from tests.windowing.streams import (
    DEVICE_IDS,
    PROFILE,
    Segment,
    all_rows,
    disorder,
    gentle_segments,
    interleave,
    let_fall_silent,
    push,
    readings_of,
    records_of,
    seeds,
    start_times,
)
from windowing import Step, Windower

Row = tuple[bytes, int, bytes, int, int, bool]


def windows_of(readings: list[Reading], lateness_slots: int, batch: int, rng: random.Random) -> list[Row]:
    """Return all windows, sorted, with their values as bits; and hold that no reading was late."""
    windower = Windower(lateness_slots=lateness_slots)
    records = records_of(readings, rng)
    steps: list[Step] = []
    while records:
        size = rng.randint(1, batch)
        steps += push(windower, records[:size], 0.0)
        records = records[size:]
    steps += let_fall_silent(windower, math.inf)
    assert sum(len(step.late) for step in steps) == 0
    return sorted(all_rows(steps))


def in_order(readings: list[Reading]) -> list[Reading]:
    """Return each reading once, a device at a time, by slot and the slot's best first."""
    return sorted(set(readings), key=lambda r: (r.device_id, r.timestamp_ms, r[2:]))


@settings(PROFILE)
@given(
    scripts=st.lists(st.tuples(start_times, st.lists(gentle_segments, max_size=4)), min_size=1, max_size=3),
    lateness_slots=st.sampled_from([0, 1, 4, 30]),
    batch=st.sampled_from([1, 20, 10_000]),
    seed=seeds,
)
def test_duplicates_batches_interleaving_and_reordering_within_lateness_change_nothing(
    scripts: list[tuple[int, list[Segment]]], lateness_slots: int, batch: int, seed: int
) -> None:
    rng = random.Random(seed)
    streams = [readings_of(DEVICE_IDS[i], *script, rng) for i, script in enumerate(scripts)]
    expected = windows_of(in_order([reading for stream in streams for reading in stream]), lateness_slots, 10_000, rng)
    arrivals = interleave([disorder(stream, lateness_slots, rng) for stream in streams], rng)
    assert windows_of(arrivals, lateness_slots, batch, rng) == expected


def test_zeros_of_either_sign_are_one_reading_whichever_comes_first() -> None:
    """-0.0 equals 0.0, so neither beats the other: without one form for both, the first to come would stay."""
    rng = random.Random(0)
    zeros = [Reading(b"a", 50 * k, 0.0, 0.0, 0.0) for k in range(120)]
    negative = [reading._replace(y=-0.0) for reading in zeros]
    mixed = [reading for pair in zip(zeros, negative, strict=True) for reading in pair]
    swapped = [reading for pair in zip(negative, zeros, strict=True) for reading in pair]
    rows = windows_of(mixed, 4, 7, rng)
    assert len(rows) == 1
    assert rows == windows_of(swapped, 4, 7, rng) == windows_of(negative, 4, 7, rng)
