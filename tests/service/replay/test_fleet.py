import numpy as np
import pytest

from service.replay.fleet import RecordedFleet
from training.data.recordings import FIRST_MIXED, OTHER_ACTIVITY, Recording


def recording(
    person: str, times: list[int], *, activity: int = 5, first: float = 0.0, placement: str = "pocket"
) -> Recording:
    """Readings whose x counts up from `first`."""
    n = len(times)
    xyz = np.stack([first + np.arange(n), np.full(n, 9.8), np.zeros(n)], axis=1).astype(np.float32)
    return Recording("set", person, placement, np.full(n, activity, np.int8), np.array(times, np.int64), xyz)


EVEN = list(range(5000, 6000, 50))


def test_a_recording_starts_when_the_stream_does_whatever_its_clock_said() -> None:
    readings = RecordedFleet([recording("1", EVEN)]).readings(0, 10_000)
    assert readings.timestamp_ms.tolist() == list(range(0, 1000, 50))
    assert readings.xyz[:, 0].tolist() == list(range(20))


def test_people_are_devices_of_their_own_and_stagger_within_50_ms() -> None:
    fleet = RecordedFleet([recording("1", EVEN), recording("2", EVEN)])
    assert fleet.device_ids == ["set-1-pocket", "set-2-pocket"]
    readings = fleet.readings(0, 10_000)
    assert readings.timestamp_ms[readings.device == 0][0] == 0
    assert readings.timestamp_ms[readings.device == 1][0] == 30
    assert (np.diff(readings.due_ms) >= 0).all()


def test_two_placements_of_a_person_are_two_devices() -> None:
    fleet = RecordedFleet([recording("1", EVEN, placement="left"), recording("1", EVEN, placement="right")])
    assert fleet.device_ids == ["set-1-left", "set-1-right"]


def test_long_pauses_are_shortened_and_short_ones_kept() -> None:
    fleet = RecordedFleet([recording("1", [0, 50, 1050, 61_050, 61_100])])
    assert fleet.readings(0, 10_000).timestamp_ms.tolist() == [0, 50, 1050, 3050, 3100]


def test_recordings_of_a_person_follow_one_another_after_a_pause() -> None:
    fleet = RecordedFleet([recording("1", [0, 50]), recording("1", [700, 750], first=10)])
    readings = fleet.readings(0, 10_000)
    assert readings.timestamp_ms.tolist() == [0, 50, 2050, 2100]
    assert readings.xyz[:, 0].tolist() == [0, 1, 10, 11]


def test_more_devices_than_people_repeat_them_from_elsewhere_and_play_everything_once() -> None:
    fleet = RecordedFleet([recording("1", EVEN)], 3)
    assert fleet.device_ids == ["set-1-pocket", "set-1-pocket-copy-2", "set-1-pocket-copy-3"]
    assert fleet.length_ms is not None
    readings = fleet.readings(0, fleet.length_ms + 1)
    for device in range(3):
        own = readings.xyz[readings.device == device, 0]
        assert sorted(own.tolist()) == list(range(20))
    starts = [readings.xyz[readings.device == device, 0][0] for device in range(3)]
    assert len(set(starts)) > 1


def test_a_repeating_fleet_never_ends_and_its_clock_goes_on() -> None:
    fleet = RecordedFleet([recording("1", EVEN)], repeat=True)
    assert fleet.length_ms is None
    readings = fleet.readings(0, 9000)
    assert (np.diff(readings.timestamp_ms) > 0).all()
    assert readings.xyz[:, 0].tolist() == [*range(20)] * 3 + [0.0, 1.0, 2.0]


def test_fewer_devices_than_people_play_the_first_ones() -> None:
    fleet = RecordedFleet([recording("1", EVEN), recording("2", EVEN, first=100)], 1)
    assert fleet.readings(0, 10_000).xyz[:, 0].max() == 19


def test_a_stream_is_the_same_however_it_is_cut_into_blocks() -> None:
    fleet = RecordedFleet([recording("1", EVEN), recording("2", [0, 10, 500, 2200])], 7, repeat=True)
    whole = fleet.readings(0, 12_000)
    parts = [fleet.readings(at, at + 37) for at in range(0, 12_000, 37)]
    assert np.concatenate([part.device for part in parts])[: len(whole)].tolist() == whole.device.tolist()
    assert np.concatenate([part.timestamp_ms for part in parts])[: len(whole)].tolist() == whole.timestamp_ms.tolist()


def test_the_truth_is_the_activity_of_the_reading_that_was_last_taken() -> None:
    fleet = RecordedFleet([recording("1", [0, 50, 100], activity=5), recording("1", [0, 50], activity=2)])
    # Walking at 0 to 100, two seconds of pause, then sitting at 2100.
    assert [fleet.truth(0, t) for t in (0, 100, 2099, 2100, 2150)] == ["Walking"] * 3 + ["Sitting"] * 2


def test_an_activity_that_is_not_one_of_the_six_is_no_truth() -> None:
    for code in (OTHER_ACTIVITY, FIRST_MIXED):  # "StairsMixed" is up or down, and it isn't known which
        assert RecordedFleet([recording("1", [0, 50], activity=code)]).truth(0, 10) is None


def test_the_truth_of_a_copy_is_that_of_the_moment_which_it_plays() -> None:
    half = [recording("1", EVEN, activity=5), recording("1", EVEN, activity=1)]
    fleet = RecordedFleet(half, 2, longest_pause_s=0.05)
    readings = fleet.readings(0, 2100)
    own = readings[readings.device == 1]
    truths = [fleet.truth(1, float(t)) for t in own.timestamp_ms]
    assert truths[0] == "Jogging"
    assert truths.count("Walking") == truths.count("Jogging") == 20


def test_the_usual_period_is_that_of_the_recording() -> None:
    assert RecordedFleet([recording("1", [0, 20, 40, 60, 500])]).period_ms.tolist() == [20]


def test_device_ids_keep_to_what_the_contract_allows() -> None:
    fleet = RecordedFleet([recording("Ä " * 100, EVEN)], 2)
    assert all(1 <= len(name.encode()) <= 128 for name in fleet.device_ids)


def test_a_fleet_of_no_recordings_is_refused() -> None:
    with pytest.raises(ValueError, match="needs recordings and at least 1 device, not 0 and 0"):
        RecordedFleet([])
