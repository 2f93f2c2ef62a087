"""The rules of windows one by one, with literal times.

Device id b"" has phase 0: its windows start at slots 0, 40, 80, that is at 0, 2000, 4000 ms.
"""

import math

import numpy as np
import pytest

from tests.windowing.reference import Reading
from tests.windowing.streams import Record, let_fall_silent, push, spell
from windowing import Step, Windower

PHASE_0 = b""


def at(timestamp_ms: int, x: float = 0.0, y: float = 0.0, z: float = 0.0, device_id: bytes = PHASE_0) -> Reading:
    return Reading(device_id, timestamp_ms, x, y, z)


def steady(begin_ms: int, end_ms: int, device_id: bytes = PHASE_0) -> list[Reading]:
    """Return readings on the grid, both ends included, whose x is their time in seconds."""
    return [at(t, t / 1000, device_id=device_id) for t in range(begin_ms, end_ms + 1, 50)]


def send(windower: Windower, readings: list[Reading], offset: int = 0, processed_at: float = 0.0) -> Step:
    """Push the readings, one a record, in one step."""
    (step,) = push(windower, [Record(offset + i, [r]) for i, r in enumerate(readings)], processed_at)
    return step


def starts(step: Step) -> list[int]:
    return [int(start) for start in step.frames.start_ms]


# slots


@pytest.mark.parametrize(
    ("timestamp_ms", "slot"), [(-2000, 0), (-1976, 0), (-1975, 1), (-26, 39), (-25, 40), (24, 40), (25, 41), (1924, 78)]
)
def test_a_slot_reaches_from_25_ms_before_its_centre_to_24_after(timestamp_ms: int, slot: int) -> None:
    windower = Windower(max_gap_ms=4000)
    send(windower, [at(-2025, 1.0), at(1949, 1.0), at(timestamp_ms, -7.0)])
    (silence,) = let_fall_silent(windower, math.inf)
    assert starts(silence)[0] == -2000
    frame = silence.frames.values[0, :, 0]
    assert frame.argmin() == slot
    assert frame[slot] == -7.0


@pytest.mark.parametrize(
    ("kept", "lost"),
    [
        (at(1001, x=9.0), at(998, x=1.0)),  # nearer
        (at(998, x=9.0), at(1002, x=1.0)),  # earlier
        (at(998, x=1.0, y=5.0), at(998, x=2.0, y=1.0)),  # smaller x
        (at(998, x=1.0, y=1.0, z=5.0), at(998, x=1.0, y=2.0, z=1.0)),  # smaller y
        (at(998, x=1.0, y=1.0, z=-5.0), at(998, x=1.0, y=1.0, z=1.0)),  # smaller z
    ],
)
@pytest.mark.parametrize("kept_first", [True, False])
def test_a_slot_keeps_the_nearest_then_the_earlier_then_the_smaller(
    kept: Reading, lost: Reading, kept_first: bool
) -> None:
    windower = Windower()
    readings = [r for r in steady(0, 3950) if r.timestamp_ms != 1000]
    step = send(windower, readings[:40] + ([kept, lost] if kept_first else [lost, kept]) + readings[40:])
    assert step.superseded == 1
    (silence,) = let_fall_silent(windower, math.inf)
    assert starts(silence) == [0]
    assert silence.frames.values[0, 20].tolist() == list(kept[2:])
    assert silence.frames.measured.tolist() == [80]


def test_of_two_equal_readings_the_older_record_is_kept() -> None:
    windower = Windower()
    send(windower, [at(1000, 1.0), at(1000, 1.0)], offset=5)
    assert windower.rewind_to(7) == 5


def test_a_producer_at_100_hz_is_thinned_to_20() -> None:
    windower = Windower()
    step = send(windower, [at(10 * k, 10 * k / 1000) for k in range(421)])
    assert starts(step) == [0]
    assert step.frames.values[0, :, 0].tolist() == [np.float32(k / 20) for k in range(80)]
    assert step.superseded == 421 - 85


# closing by time


def test_a_window_closes_with_the_reading_at_its_last_slot_plus_1_plus_lateness() -> None:
    windower = Windower(lateness_slots=4)
    assert starts(send(windower, steady(0, 4150))) == []
    step = send(windower, [at(4200, 1.0)], offset=700)
    assert starts(step) == [0]
    assert step.frames.device_ids() == [PHASE_0]
    assert step.frames.measured.tolist() == [80]
    assert step.frames.longest_gap_ms.tolist() == [50]
    assert step.frames.by_silence.tolist() == [False]
    assert step.frames.source_offset.tolist() == [700]
    assert step.frames.reading.tolist() == [0]
    assert step.frames.values.shape == (1, 80, 3)
    assert step.frames.values.dtype == np.float32


def test_without_lateness_a_window_closes_with_the_slot_after_its_last() -> None:
    windower = Windower(lateness_slots=0)
    assert starts(send(windower, steady(0, 3950))) == []
    assert starts(send(windower, [at(3976)], offset=80)) == [0]


def test_a_reading_before_all_open_windows_is_late_counted_and_dropped() -> None:
    windower = Windower(lateness_slots=4)
    send(windower, steady(0, 4200))
    step = send(windower, [at(1974, 99.0), at(1975, 99.0), at(4190), at(1000)], offset=100)
    assert step.late.tolist() == [4200 - 1974, 4200 - 1000]
    assert step.superseded == 2  # those at 1975 and 4190 are in time, but no better than those at 2000 and 4200


def test_a_reading_of_a_closed_and_an_open_window_counts_for_the_open_one() -> None:
    windower = Windower(lateness_slots=4)
    readings = steady(0, 4200)
    missing = readings.pop(50)
    assert missing.timestamp_ms == 2500
    first = send(windower, readings)
    assert starts(first) == [0]
    assert first.frames.measured.tolist() == [79]
    second = send(windower, [missing, *steady(4250, 6200)], offset=100)
    assert starts(second) == [2000]
    assert second.frames.measured.tolist() == [80]
    assert second.late.tolist() == []


def test_windows_that_hold_nothing_do_not_exist() -> None:
    windower = Windower()
    assert send(windower, [at(0)]).incomplete == 0
    far = send(windower, [at(1_000_000)])
    # The reading at 0 was in the windows at -2000 and at 0; the thousands between hold nothing.
    assert (starts(far), far.incomplete) == ([], 2)


def test_a_jump_forward_closes_in_order_what_was_open_however_far_it_goes() -> None:
    windower = Windower()
    send(windower, steady(0, 4100))
    step = send(windower, [at(2**55)], offset=200)
    assert starts(step) == [0]
    assert step.incomplete == 2  # the windows at -2000, half empty, and at 2000
    send(windower, steady(2**55, 2**55 + 4100), offset=300)
    assert len(windower) == 1


def test_several_windows_of_one_closing_reading_come_in_order() -> None:
    windower = Windower(lateness_slots=60)
    send(windower, steady(0, 6900))
    step = send(windower, [at(50_000)], offset=500)
    assert starts(step) == [0, 2000]
    assert step.frames.reading.tolist() == [0, 0]
    assert step.frames.source_offset.tolist() == [500, 500]


def test_a_device_whose_clock_was_set_back_is_late_until_it_falls_silent_and_then_starts_anew() -> None:
    windower = Windower(idle_timeout_s=60)
    send(windower, [at(10_000_000)], offset=0, processed_at=0.0)
    assert len(send(windower, steady(0, 4200), offset=1, processed_at=1.0).late) == 85
    (silence,) = let_fall_silent(windower, 60.0)
    assert silence.forgotten == [PHASE_0]
    step = send(windower, steady(4250, 10_200), offset=200, processed_at=61.0)
    assert windower.device_ids(step.new_rows) == [PHASE_0]
    assert step.late.tolist() == []
    assert starts(step) == [6000]


# holes


def test_a_hole_of_four_slots_is_filled_by_a_straight_line() -> None:
    windower = Windower(max_gap_ms=250)
    readings = [at(t, 10.0 if t <= 1000 else 20.0) for t in range(0, 4201, 50) if not 1000 < t < 1250]
    step = send(windower, readings)
    assert starts(step) == [0]
    assert step.frames.values[0, 19:27, 0].tolist() == [10, 10, 12, 14, 16, 18, 20, 20]
    assert step.frames.measured.tolist() == [76]
    assert step.frames.longest_gap_ms.tolist() == [250]


def test_a_hole_of_five_slots_makes_a_window_incomplete() -> None:
    windower = Windower(max_gap_ms=250)
    step = send(windower, [r for r in steady(0, 4200) if not 1000 < r.timestamp_ms < 1300])
    assert (starts(step), step.incomplete) == ([], 2)  # and the window at -2000


def test_a_hole_at_either_edge_counts_from_the_edge_and_takes_the_nearest() -> None:
    windower = Windower(max_gap_ms=250)
    step = send(windower, [at(t, float(t)) for t in [*range(200, 3751, 50), 4200]])
    assert starts(step) == [0]
    assert step.frames.values[0, :5, 0].tolist() == [200.0] * 5
    assert step.frames.values[0, 75:, 0].tolist() == [3750.0] * 5
    assert step.frames.measured.tolist() == [72]
    assert step.frames.longest_gap_ms.tolist() == [250]


@pytest.mark.parametrize(("first_ms", "last_ms"), [(250, 3950), (0, 3700)])
def test_a_hole_of_five_slots_at_an_edge_makes_a_window_incomplete(first_ms: int, last_ms: int) -> None:
    windower = Windower(max_gap_ms=250)
    send(windower, steady(first_ms, last_ms))
    assert [starts(step) for step in let_fall_silent(windower, math.inf)] == [[]]


@pytest.mark.parametrize(("max_gap_ms", "complete"), [(199, False), (200, True), (249, True)])
def test_a_hole_of_n_slots_lasts_50_times_n_plus_1_ms(max_gap_ms: int, complete: bool) -> None:
    windower = Windower(max_gap_ms=max_gap_ms)
    step = send(windower, [r for r in steady(0, 4200) if not 1000 < r.timestamp_ms < 1200])
    assert starts(step) == ([0] if complete else [])


def test_one_reading_fills_a_window_when_any_hole_is_allowed() -> None:
    windower = Windower(max_gap_ms=4000)
    send(windower, [at(2000, 3.0)])
    (silence,) = let_fall_silent(windower, math.inf)
    assert starts(silence) == [0, 2000]
    assert (silence.frames.values[:, :, 0] == 3.0).all()
    assert silence.frames.longest_gap_ms.tolist() == [2050, 4000]


# phases


def test_windows_start_at_the_slots_congruent_to_the_crc32_of_the_id_modulo_40() -> None:
    # CRC-32 of "123456789" is 0xCBF43926 = 3421780262, which is 22 modulo 40.
    windower = Windower()
    step = send(windower, steady(0, 7300, device_id=b"123456789"))
    assert starts(step) == [1100, 3100]


def test_windows_before_the_epoch_start_on_the_same_grid() -> None:
    windower = Windower()
    step = send(windower, steady(-10_000, 0))
    assert starts(step) == [-10_000, -8000, -6000]


# silence


def test_a_device_is_silent_once_its_oldest_held_reading_was_processed_idle_timeout_ago() -> None:
    windower = Windower(idle_timeout_s=60)
    send(windower, steady(0, 3950), offset=10, processed_at=1000.0)
    for caught_up_at in (-math.inf, 0.0, 1000.0, 1059.9):
        (step,) = let_fall_silent(windower, caught_up_at)
        assert step.forgotten == []
    (step,) = let_fall_silent(windower, 1060.0)
    assert step.forgotten == [PHASE_0]
    assert starts(step) == [0]
    assert step.frames.by_silence.tolist() == [True]
    assert step.frames.source_offset.tolist() == [89]
    assert step.frames.reading.tolist() == [-1]
    assert step.incomplete == 1  # the half after it; that before it has closed by time
    assert (len(windower), PHASE_0 in windower) == (0, False)


def test_a_trickle_does_not_keep_a_device_from_falling_silent() -> None:
    windower = Windower(idle_timeout_s=60)
    for k in range(60):
        send(windower, [at(50 * k)], offset=k, processed_at=float(k))
    (step,) = let_fall_silent(windower, 60.0)
    assert step.forgotten == [PHASE_0]


def test_a_late_reading_does_not_keep_a_device_from_falling_silent_but_is_its_last_record() -> None:
    windower = Windower(idle_timeout_s=60)
    send(windower, steady(100_000, 103_950), offset=0, processed_at=0.0)
    assert len(send(windower, [at(0)], offset=500, processed_at=59.0).late) == 1
    (step,) = let_fall_silent(windower, 60.0)
    assert step.forgotten == [PHASE_0]
    assert step.frames.source_offset.tolist() == [500]


def test_a_duplicate_does_not_keep_a_device_from_falling_silent() -> None:
    windower = Windower(idle_timeout_s=60)
    send(windower, [at(100)], offset=0, processed_at=0.0)
    send(windower, [at(100)], offset=1, processed_at=59.0)
    (step,) = let_fall_silent(windower, 60.0)
    assert step.forgotten == [PHASE_0]


def test_an_age_is_that_of_what_open_windows_hold_not_of_what_has_closed() -> None:
    windower = Windower(idle_timeout_s=60)
    send(windower, steady(0, 3950), offset=0, processed_at=0.0)
    # The window at 0 closes; the one at 2000 still holds the readings since 2000, processed at 0.
    send(windower, [at(4200)], offset=80, processed_at=50.0)
    assert windower.rewind_to(81) == 40
    # The window at 2000 closes, the one at 4000 holds the reading at 4200 and this one.
    send(windower, [at(6200)], offset=81, processed_at=50.0)
    assert windower.rewind_to(82) == 80
    (step,) = let_fall_silent(windower, 60.0)
    assert step.forgotten == []


def test_when_a_better_reading_takes_the_slot_of_the_oldest_the_device_is_as_old_as_the_next() -> None:
    windower = Windower(idle_timeout_s=60)
    send(windower, [at(110), at(200)], offset=7)
    assert windower.rewind_to(9) == 7
    send(windower, [at(100)], offset=9)
    assert windower.rewind_to(10) == 8


def test_a_thousand_silent_devices_close_over_as_many_steps_as_max_frames_takes() -> None:
    windower = Windower(max_frames=100, max_gap_ms=4000)
    ids = [b"%d" % i for i in range(1000)]
    push(windower, [Record(0, [at(0, device_id=d) for d in ids])], 0.0)
    steps = let_fall_silent(windower, 60.0)
    assert max(len(step.frames) for step in steps) <= 100
    assert [step.more for step in steps] == [True] * (len(steps) - 1) + [False]
    assert sorted(d for step in steps for d in step.forgotten) == sorted(ids)
    assert sorted(d for step in steps for d in step.frames.device_ids()) == sorted(ids * 2)
    assert len(windower) == 0


# steps


def test_a_push_that_cuts_too_many_frames_stops_between_two_readings_and_goes_on_there() -> None:
    windower = Windower(max_frames=3)
    readings = steady(0, 60_000)
    record = Record(5, readings)
    steps = push(windower, [record], 0.0)
    assert len(steps) > 1
    assert [step.more for step in steps] == [True] * (len(steps) - 1) + [False]
    assert [s for step in steps for s in starts(step)] == list(range(0, 54_001, 2000))
    closers = [int(row) for step in steps for row in step.frames.reading]
    assert [readings[row].timestamp_ms for row in closers] == list(range(4200, 58_201, 2000))


def test_devices_that_an_early_stop_did_not_reach_join_later() -> None:
    windower = Windower(max_frames=3)
    record = Record(0, [*steady(0, 4200), at(0, device_id=b"b")])
    steps = push(windower, [record], 0.0)
    assert [windower.device_ids(step.new_rows) for step in steps] == [[PHASE_0], [b"b"]]
    assert [step.consumed for step in steps] == [85, 86]
    assert len(windower) == 2


def test_an_empty_batch_does_nothing() -> None:
    windower = Windower()
    (step,) = push(windower, [], 0.0)
    assert (step.consumed, step.more, len(step.frames), len(step.new_rows)) == (0, False, 0, 0)
    assert windower.rewind_to(17) == 17


def test_frames_stay_as_they_are_when_the_windower_goes_on() -> None:
    windower = Windower()
    step = send(windower, steady(0, 4200))
    before = step.frames.values.copy()
    send(windower, [at(t, -1.0) for t in range(4250, 20_000, 50)], offset=100)
    assert np.array_equal(step.frames.values, before)


def test_read_only_unaligned_and_big_endian_columns_are_taken_as_they_come() -> None:
    windower = Windower()
    packed = np.zeros(85, dtype=np.dtype([("pad", "i1"), ("t", ">i8"), ("xyz", ">f4", 3)]))
    packed["t"] = np.arange(0, 4201, 50)
    packed["xyz"][:, 1] = np.arange(85)
    packed.flags.writeable = False
    step = windower.push(*spell([PHASE_0] * 85), packed["t"], packed["xyz"], np.arange(85, dtype=np.int64), 0.0)
    assert starts(step) == [0]
    assert step.frames.values[0, :, 1].tolist() == list(range(80))


# storage


def test_capacity_grows_by_doubling_and_rows_of_forgotten_devices_are_used_again() -> None:
    windower = Windower()
    first = windower.nbytes
    for generation in range(5):
        ids = [b"%d/%d" % (generation, i) for i in range(200)]
        push(windower, [Record(generation, [r for d in ids for r in steady(0, 3000, device_id=d)])], 100.0 * generation)
        assert len(windower) == 200
        assert windower.nbytes == 4 * first
        let_fall_silent(windower, 100.0 * generation + 60.0)
        assert len(windower) == 0


def test_what_is_held_survives_the_growth_of_storage() -> None:
    windower = Windower()
    send(windower, steady(0, 4150))
    send(windower, [at(0, device_id=b"%d" % i) for i in range(500)], offset=100)
    step = send(windower, [at(4200)], offset=600)
    assert starts(step) == [0]
    assert step.frames.values[0, :, 0].tolist() == [np.float32(k / 20) for k in range(80)]


def test_a_reused_row_knows_nothing_of_the_device_before() -> None:
    windower = Windower()
    send(windower, steady(0, 4150, device_id=b"before"))
    let_fall_silent(windower, math.inf)
    step = send(windower, [at(2000)], offset=90)
    assert step.superseded == 0
    (silence,) = let_fall_silent(windower, math.inf)
    assert (starts(silence), silence.incomplete) == ([], 2)


def test_a_device_takes_less_than_two_and_a_half_kilobytes() -> None:
    windower = Windower()
    push(windower, [Record(0, [at(0, device_id=b"%d" % i) for i in range(4096)])], 0.0)
    assert windower.nbytes / 4096 == 1968
    assert windower.nbytes / 4096 < 2500


# refusals


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"lateness_slots": -1}, "lateness_slots is -1"),
        ({"lateness_slots": 1201}, "lateness_slots is 1201"),
        ({"max_gap_ms": 49}, "max_gap_ms is 49"),
        ({"idle_timeout_s": 0.0}, "idle_timeout_s is 0.0"),
        ({"idle_timeout_s": math.nan}, "idle_timeout_s is nan"),
        ({"max_frames": 2}, "a single reading can close 3 windows"),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(settings: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Windower(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"id_end": [2, 300]}, r"row 1 has its id at 0 to 300, .* must lie in the 200 bytes"),
        ({"id_at": [-1, 0]}, "row 0 has its id at -1 to 2"),
        ({"id_at": [0, 3]}, "row 1 has its id at 3 to 2"),
        ({"id_end": [129, 2]}, r"row 0 has its id at 0 to 129, .* and have up to 128"),
        ({"id_at": [0]}, "columns of shapes"),
        ({"timestamp_ms": [0, 2**62]}, r"row 1 .* within 2\*\*62 ms"),
        ({"timestamp_ms": [-(2**62), 0]}, r"row 0 .* within 2\*\*62 ms"),
        ({"offset": [4, 3]}, r"row 1 .* after 4, offset 3: .* offsets not go back"),
        ({"offset": [4]}, "columns of shapes"),
        ({"xyz": [[0, 0], [0, 0]]}, "columns of shapes"),
        ({"start": 3}, "start is 3"),
        ({"start": -1}, "start is -1"),
    ],
)
def test_columns_that_would_lead_the_kernel_astray_are_refused(columns: dict[str, object], complaint: str) -> None:
    windower = Windower()
    good = {
        "id_at": [0, 0],
        "id_end": [2, 2],
        "timestamp_ms": [0, 50],
        "xyz": [[0.0] * 3] * 2,
        "offset": [3, 4],
        "start": 0,
    }
    batch = good | columns
    with pytest.raises(ValueError, match=complaint):
        windower.push(
            np.zeros(200, np.uint8),
            np.array(batch["id_at"], dtype=np.int64),
            np.array(batch["id_end"], dtype=np.int64),
            np.array(batch["timestamp_ms"], dtype=np.int64),
            np.array(batch["xyz"], dtype=np.float32),
            np.array(batch["offset"], dtype=np.int64),
            0.0,
            start=int(str(batch["start"])),
        )
    assert len(windower) == 0


def test_offsets_that_go_back_are_refused() -> None:
    windower = Windower()
    send(windower, [at(0), at(50)], offset=10)
    with pytest.raises(ValueError, match=r"row 0 .* after 11, offset 10: .* take a new Windower"):
        send(windower, [at(100)], offset=10)
    send(windower, [at(100)], offset=11)


def test_a_device_that_several_others_have_too_is_counted_once() -> None:
    windower, *others = (Windower() for _ in range(4))
    step = send(windower, [at(0, device_id=device_id) for device_id in (b"a", b"b", b"c")])
    send(others[0], [at(0, device_id=b"a")])
    send(others[1], [at(0, device_id=device_id) for device_id in (b"a", b"b", b"d")])
    assert windower.count_shared(step.new_rows, others) == 2
    assert windower.count_shared(step.new_rows, []) == 0
    assert windower.device_ids(step.new_rows) == [b"a", b"b", b"c"]


def test_a_device_has_strayed_if_a_record_after_its_newest_slots_has_a_reading_further_back_than_the_lateness() -> None:
    """One before it, or beside it in the same record, is read again by whoever reads the newest."""

    def fall_silent(*records: list[int]) -> tuple[int, int, bool]:
        windower = Windower(lateness_slots=4)
        for offset, times in enumerate(records):
            push(windower, [Record(offset, [at(time) for time in times])], 0.0)
        (step,) = let_fall_silent(windower, math.inf)
        return int(step.newest_records[0]), int(step.last_records[0]), bool(step.strayed[0])

    assert fall_silent([1000], [500]) == (0, 1, True)
    assert fall_silent([1000], [800]) == (0, 1, False)
    assert fall_silent([1000], [500], [1200]) == (2, 2, False)
    assert fall_silent([1000, 500], [1100]) == (1, 1, False)
    assert fall_silent([1000, 500]) == (0, 0, False)
    assert fall_silent([1020], [1000], [400], [1010]) == (1, 3, True)  # the nearest to the slot's centre is kept
