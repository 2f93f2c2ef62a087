"""The rings against the slow reference, step by step."""

import math
import random
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.windowing.reference import Reference, Window, everything
from tests.windowing.streams import (
    DEVICE_IDS,
    PROFILE,
    Record,
    Segment,
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


def assert_same_windows(steps: list[Step], windows: list[Window], readings: int) -> None:
    frames = [(step.frames, i) for step in steps for i in range(len(step.frames))]
    assert [(f.device_ids()[i], f.start_ms[i]) for f, i in frames] == [(w.device_id, w.start_ms) for w in windows]
    for (f, i), window in zip(frames, windows, strict=True):
        assert np.array_equal(f.values[i], np.array(window.values, dtype=np.float32)), window
        assert f.measured[i] == window.measured
        assert f.longest_gap_ms[i] == window.longest_gap_ms
        assert f.by_silence[i] == (window.closed_by == "silence")
        assert f.source_offset[i] == window.source_offset
        if f.by_silence[i]:
            assert f.reading[i] == -1
        else:
            assert 0 <= f.reading[i] < readings


def assert_same_counts(steps: list[Step], joined: list[bytes], reference: Reference) -> None:
    assert sum(step.incomplete for step in steps) == reference.incomplete
    assert sum(step.superseded for step in steps) == reference.superseded
    assert [late for step in steps for late in step.late.tolist()] == reference.late
    assert sorted(joined) == sorted(reference.joined)
    assert sorted(d for step in steps for d in step.forgotten) == sorted(reference.forgotten)


def by_device(steps: list[Step]) -> list[Step]:
    """Return steps of one frame each, ordered by device: which silent device comes first is nobody's business."""
    singles = []
    for step in steps:
        for i in range(len(step.frames)):
            columns = {name: getattr(step.frames, name)[i : i + 1] for name in step.frames.__slots__}
            singles.append(Step(type(step.frames)(**columns)))
    return sorted(singles, key=lambda step: (step.frames.device_ids()[0], step.frames.start_ms[0]))


def compare(
    batches: list[tuple[list[Record], float, float]],
    *,
    lateness_slots: int,
    max_gap_ms: int,
    idle_timeout_s: float,
    max_frames: int,
) -> None:
    """Feed both the batches of (records, processed at, caught up at), and compare the two all along."""
    windower = Windower(
        lateness_slots=lateness_slots, max_gap_ms=max_gap_ms, idle_timeout_s=idle_timeout_s, max_frames=max_frames
    )
    reference = Reference(lateness_slots, max_gap_ms, idle_timeout_s)
    all_steps: list[Step] = []
    joined: list[bytes] = []
    position = 0
    for records, processed_at, caught_up_at in batches:
        steps = push(windower, records, processed_at)
        all_steps += steps
        joined += [device_id for step in steps for device_id in windower.device_ids(step.new_rows)]
        expected = [
            window
            for record in records
            for reading in record.readings
            for window in reference.read(reading, record.offset, processed_at)
        ]
        assert_same_windows(steps, expected, sum(len(record.readings) for record in records))
        silences = let_fall_silent(windower, caught_up_at)
        all_steps += silences
        expected = sorted(reference.hear(caught_up_at), key=lambda window: (window.device_id, window.start_ms))
        assert_same_windows(by_device(silences), expected, 0)
        assert_same_counts(all_steps, joined, reference)
        position = records[-1].offset + 1 if records else position
        assert windower.rewind_to(position) == reference.rewind_to(position)
        assert len(windower) == len(reference.devices)
        assert all(device_id in windower for device_id in reference.devices)
        assert all(len(step.frames) <= max_frames for step in steps + silences)
    expected = sorted(everything(reference), key=lambda window: (window.device_id, window.start_ms))
    assert_same_windows(by_device(let_fall_silent(windower, math.inf)), expected, 0)
    assert len(windower) == 0


@settings(PROFILE)
@given(
    scripts=st.lists(st.tuples(start_times, st.lists(segments, max_size=5)), min_size=1, max_size=4),
    straggling=st.sampled_from([0.0, 0.02, 0.3]),
    pauses_s=st.lists(st.sampled_from([0, 1, 5, 20, 59, 60, 61]), max_size=7),
    deaf_for_s=st.lists(st.sampled_from([0, 0, 1, 40, math.inf]), min_size=8, max_size=8),
    lateness_slots=st.sampled_from([0, 1, 4, 20, 45, 120]),
    max_gap_ms=st.sampled_from([50, 99, 250, 1000, 4000]),
    idle_timeout_s=st.sampled_from([1.0, 60.0]),
    spare_frames=st.sampled_from([0, 1, 500]),
    seed=seeds,
)
def test_any_stream_gives_the_reference_s_windows(
    scripts: list[tuple[int, list[Segment]]],
    straggling: float,
    pauses_s: list[int],
    deaf_for_s: list[float],
    lateness_slots: int,
    max_gap_ms: int,
    idle_timeout_s: float,
    spare_frames: int,
    seed: int,
) -> None:
    rng = random.Random(seed)
    streams = [readings_of(DEVICE_IDS[i], *script, rng) for i, script in enumerate(scripts)]
    records = records_of(straggle(interleave(streams, rng), straggling, rng), rng)
    cuts = sorted(rng.randint(0, len(records)) for _ in pauses_s)
    processed_at, batches = 0.0, []
    for i, (begin, end) in enumerate(pairwise([0, *cuts, len(records)])):
        processed_at += pauses_s[i - 1] if i else 0
        batches.append((records[begin:end], processed_at, processed_at - deaf_for_s[i]))
    compare(
        batches,
        lateness_slots=lateness_slots,
        max_gap_ms=max_gap_ms,
        idle_timeout_s=idle_timeout_s,
        max_frames=-(-(80 + lateness_slots) // 40) + spare_frames,
    )
