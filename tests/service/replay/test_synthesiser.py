import numpy as np
import pytest

from benchmarks.recognition import recognise
from inference.bundle import find_bundle, load_bundle
from service.replay.fleet import FleetReadings
from service.replay.synthesiser import SyntheticFleet, figures
from training.data.recordings import ACTIVITIES


def same(a: FleetReadings, b: FleetReadings) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("device", "due_ms", "timestamp_ms", "xyz")
    )


def test_a_stream_is_the_same_however_it_is_cut_into_blocks() -> None:
    fleet = SyntheticFleet(7, seed=3)
    whole = fleet.readings(0, 60_000)
    parts = FleetReadings.joined([fleet.readings(at, at + 250) for at in range(0, 60_000, 250)])
    assert same(whole, parts)


def test_another_fleet_with_the_same_seed_measures_the_same() -> None:
    assert same(SyntheticFleet(5, seed=9).readings(0, 10_000), SyntheticFleet(5, seed=9).readings(0, 10_000))


def test_another_seed_gives_other_wearers() -> None:
    assert not same(SyntheticFleet(5, seed=9).readings(0, 10_000), SyntheticFleet(5, seed=10).readings(0, 10_000))


def test_a_device_measures_the_same_in_a_larger_fleet() -> None:
    large = SyntheticFleet(30, seed=4).readings(0, 20_000)
    assert same(SyntheticFleet(3, seed=4).readings(0, 20_000), large[large.device < 3])


def test_a_moment_far_into_the_stream_needs_nothing_before_it() -> None:
    a_day_ms = 86_400_000
    readings = SyntheticFleet(2, seed=1).readings(a_day_ms, a_day_ms + 1000)
    assert len(readings) in (39, 40, 41)
    assert np.isfinite(readings.xyz).all()


def test_every_device_sends_twenty_readings_a_second_in_the_order_of_its_clock() -> None:
    readings = SyntheticFleet(50, seed=2).readings(0, 60_000)
    for device in range(50):
        stamps = readings.timestamp_ms[readings.device == device]
        assert 1199 <= len(stamps) <= 1201
        assert (np.diff(stamps) > 0).all()


def test_readings_are_due_within_the_block_and_in_order() -> None:
    due_ms = SyntheticFleet(50, seed=2).readings(5000, 7000).due_ms
    assert due_ms[0] >= 5000
    assert due_ms[-1] < 7000
    assert (np.diff(due_ms) >= 0).all()


def test_clocks_jitter_by_5_to_20_ms() -> None:
    readings = SyntheticFleet(200, seed=2).readings(0, 60_000)
    steps = [np.diff(readings.timestamp_ms[readings.device == device]).std() for device in range(200)]
    # The step between two readings has the jitter of both. The largest jitters are cut at 24 ms.
    jitter = np.array(steps) / np.sqrt(2)
    assert jitter.min() > 4.5
    assert jitter.max() < 20.5
    assert jitter.max() > 14


def test_clocks_are_off_by_different_amounts() -> None:
    readings = SyntheticFleet(300, seed=2).readings(0, 2000)
    offsets = [(readings.timestamp_ms - readings.due_ms)[readings.device == device].mean() for device in range(300)]
    assert 80 < np.std(offsets) < 120


def test_each_round_of_six_stretches_shows_every_activity() -> None:
    fleet = SyntheticFleet(20, seed=5, dwell_s=10.0)
    moments = np.arange(0, 600_000, 50.0)
    for device in range(20):
        codes = fleet.activities(np.full(len(moments), device), moments)
        stretches = codes[np.flatnonzero(np.diff(codes)) + 1]
        assert (np.diff(stretches) != 0).all()
        assert np.bincount(stretches, minlength=6).min() >= 9


def test_stretches_last_half_to_one_and_a_half_times_the_dwell() -> None:
    fleet = SyntheticFleet(20, seed=5, dwell_s=10.0)
    moments = np.arange(0, 600_000, 50.0)
    for device in range(20):
        changes = np.flatnonzero(np.diff(fleet.activities(np.full(len(moments), device), moments)))
        lengths = np.diff(moments[changes])
        assert lengths.min() >= 4950
        assert lengths.max() <= 15_050


def test_the_truth_of_one_moment_is_that_of_the_bulk() -> None:
    fleet = SyntheticFleet(4, seed=5)
    codes = fleet.activities(np.arange(4), np.full(4, 123_456.0))
    assert [fleet.truth(device, 123_456.0) for device in range(4)] == [ACTIVITIES[code] for code in codes]


def test_a_phone_at_rest_measures_gravity_alone() -> None:
    fleet = SyntheticFleet(100, seed=6)
    readings = fleet.readings(0, 60_000)
    truth = fleet.activities(readings.device, readings.timestamp_ms.astype(float))
    for still in ("Sitting", "Standing"):
        length = np.linalg.norm(readings.xyz[truth == ACTIVITIES.index(still)], axis=1)
        assert 9.5 < np.median(length) < 10.1


def test_livelier_activities_shake_the_phone_more() -> None:
    fleet = SyntheticFleet(100, seed=6)
    readings = fleet.readings(0, 120_000)
    truth = fleet.activities(readings.device, readings.timestamp_ms.astype(float))
    shaking = {name: readings.xyz[truth == code].std(axis=0).max() for code, name in enumerate(ACTIVITIES)}
    assert shaking["Jogging"] > shaking["Walking"] > shaking["Upstairs"] > shaking["Standing"]


def test_nothing_is_beyond_what_the_contract_allows_even_in_a_large_fleet() -> None:
    assert np.abs(SyntheticFleet(2000, seed=8).readings(0, 5000).xyz).max() < 100


def test_the_table_holds_figures_over_many_people_and_no_recording() -> None:
    for gait in figures()["gaits"].values():
        assert gait["people"] >= 40
        assert len(gait["mean"]) == len(figures()["columns"]) == 52
        assert sum(len(rows) for rows in gait.values() if isinstance(rows, list)) < 250
    assert all(still["people"] >= 30 for still in figures()["still"].values())


def test_a_fleet_without_devices_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 device, not 0"):
        SyntheticFleet(0)


def test_an_activity_shorter_than_a_blend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 2 s \(dwell_s\), not 0.5"):
        SyntheticFleet(1, dwell_s=0.5)


def test_the_shipped_model_trained_on_real_people_recognises_synthetic_ones() -> None:
    """Floors, some points under what docs/synthetic.md reports for the bundle that ships."""
    scores, of_two = recognise(load_bundle(find_bundle("har-cnn")), 50, seconds=160.0, seed=1)
    recall = dict(zip(scores.labels, scores.recall, strict=True))
    assert scores.support.min() > 400
    assert scores.accuracy > 0.85
    assert min(recall["Jogging"], recall["Sitting"], recall["Standing"]) > 0.9
    assert min(recall["Walking"], recall["Downstairs"]) > 0.75
    assert recall["Upstairs"] > 0.65
    assert of_two.longer > 0.65 * of_two.windows
    assert of_two.third < 0.15 * of_two.windows
