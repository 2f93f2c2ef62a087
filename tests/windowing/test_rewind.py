"""What is open at a position can be built again from the records since `rewind_to`."""

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.windowing.streams import (
    DEVICE_IDS,
    PROFILE,
    Record,
    Segment,
    all_rows,
    interleave,
    let_fall_silent,
    push,
    readings_of,
    records_of,
    seeds,
    segments,
    start_times,
    straggle,
)
from windowing import Step, Windower

Row = tuple[bytes, int, bytes, int, int, bool]


@settings(PROFILE)
@given(
    scripts=st.lists(st.tuples(start_times, st.lists(segments, max_size=4)), min_size=1, max_size=3),
    straggling=st.sampled_from([0.0, 0.1, 0.4]),
    lateness_slots=st.sampled_from([0, 4, 45]),
    stop=st.floats(0, 1),
    seed=seeds,
)
def test_a_windower_rebuilt_by_a_mute_replay_closes_just_what_the_first_would_have_closed(
    scripts: list[tuple[int, list[Segment]]], straggling: float, lateness_slots: int, stop: float, seed: int
) -> None:
    rng = random.Random(seed)
    streams = [readings_of(DEVICE_IDS[i], *script, rng) for i, script in enumerate(scripts)]
    records = records_of(straggle(interleave(streams, rng), straggling, rng), rng)
    before, after = records[: round(stop * len(records))], records[round(stop * len(records)) :]
    position = before[-1].offset + 1 if before else 0

    first = Windower(lateness_slots=lateness_slots)
    push(first, before, 0.0)
    rewind = first.rewind_to(position)
    second = Windower(lateness_slots=lateness_slots)
    push(second, [record for record in before if record.offset >= rewind], 100.0)

    assert second.rewind_to(position) == rewind
    assert len(second) == len(first)
    assert _to_the_end(second, after) == _to_the_end(first, after)


def _to_the_end(windower: Windower, records: list[Record]) -> list[object]:
    """Return all there is to say of these records, and then of what they leave open, in the order of the ids."""
    steps = push(windower, records, 200.0)
    rewind = windower.rewind_to(records[-1].offset + 1 if records else 0)
    last = let_fall_silent(windower, math.inf)
    incomplete = [sum(step.incomplete for step in part) for part in (steps, last)]
    return [_rows_and_sources(steps), sorted(_rows_and_sources(last)), incomplete, rewind]


def _rows_and_sources(steps: list[Step]) -> list[tuple[Row, int]]:
    sources = [int(source) for step in steps for source in step.frames.source_offset]
    return list(zip(all_rows(steps), sources, strict=True))
