import json

import numpy as np
import pytest

from training.data.recordings import ACTIVITIES, Recording
from training.fit_synthesiser import _Gait, _may_be_used, _pieces, as_json, fit

WALKING = ACTIVITIES.index("Walking")


def walk(
    person: int, *, hz: float = 1.0, seconds: float = 60, activity: str = "Walking", turned: float = 0.0
) -> Recording:
    """Somebody whose y swings by 2 m/s² once and by 3 m/s² twice a stride, and whose x swings by 1 m/s² once."""
    rng = np.random.default_rng(person)
    t = np.arange(int(seconds * 20)) / 20
    phase = 2 * np.pi * (hz * t + rng.random())
    x = np.cos(phase)
    y = 9.8 + 2 * np.cos(phase) + 3 * np.cos(2 * phase)
    z = 0.5 + np.sin(phase)
    xyz = np.stack([np.cos(turned) * x + np.sin(turned) * y, np.cos(turned) * y - np.sin(turned) * x, z], axis=1)
    xyz += 0.01 * rng.standard_normal(xyz.shape)
    codes = np.full(len(t), ACTIVITIES.index(activity), np.int8)
    return Recording("made up", str(person), "pocket", codes, np.arange(len(t)) * 50, xyz.astype(np.float32))


def coefficients(gait: dict[str, object], axis: str) -> np.ndarray:
    """Amplitudes of the harmonics of one axis of the mean stride."""
    mean = np.array(gait["mean"])
    of_axis = mean["xyz".index(axis) * 16 :][:16].reshape(2, 8)
    return np.asarray(np.hypot(of_axis[0], of_axis[1]))


def test_the_harmonics_and_the_cadence_of_strides_are_found() -> None:
    gait = _Gait.match(_pieces([walk(number, hz=1.0) for number in range(6)], "Walking"), 0.75, 1.2).figures()
    assert coefficients(gait, "y")[:4] == pytest.approx([2, 3, 0, 0], abs=0.1)
    assert coefficients(gait, "x")[:3] == pytest.approx([1, 0, 0], abs=0.1)
    assert np.exp(np.array(gait["mean"])[-1] / 10) == pytest.approx(1.0, abs=0.01)
    assert np.array(gait["mean"])[49] == pytest.approx(9.8, abs=0.05)


def test_phones_turned_in_their_plane_are_brought_upright() -> None:
    people = [walk(number, turned=0.3 * number) for number in range(6)]
    gait = _Gait.match(_pieces(people, "Walking"), 0.75, 1.2).figures()
    assert coefficients(gait, "y")[:2] == pytest.approx([2, 3], abs=0.1)
    assert np.abs(np.array(gait["between_people"])).max() < 0.2


def test_screens_on_the_other_side_are_brought_to_the_same() -> None:
    people = [walk(number) for number in range(6)]
    for recording in people[:2]:
        recording.xyz[:, [0, 2]] *= -1
    matched = _Gait.match(_pieces(people, "Walking"), 0.75, 1.2)
    assert len(set(matched.pose[:2])) == 1
    assert len(set(matched.pose[2:])) == 1
    assert matched.pose[0] != matched.pose[2]
    assert np.array(matched.figures()["mean"])[50] == pytest.approx(0.5, abs=0.05)


def test_people_differ_by_their_own_cadence() -> None:
    people = [walk(number, hz=0.9 + 0.04 * number) for number in range(6)]
    gait = _Gait.match(_pieces(people, "Walking"), 0.75, 1.2).figures()
    spread = np.sqrt(
        (np.array(gait["between_people"])[:, -1] ** 2).sum() + np.array(gait["between_people_rest"])[-1] ** 2
    )
    assert spread / 10 == pytest.approx(np.log(0.9 + 0.04 * np.arange(6)).std(ddof=1), rel=0.1)


def test_other_activities_and_pauses_are_not_taken_for_strides() -> None:
    recording = walk(1, seconds=30)
    recording.activity[200:] = WALKING - 1
    recording.t_ms[100:] += 5000
    pieces = _pieces([recording], "Walking")
    assert len(pieces.xyz) == 2  # of 64 readings each: one before the pause, one after


def test_the_test_people_of_wisdm_are_not_used() -> None:
    def person(dataset: str, number: str) -> Recording:
        return Recording(dataset, number, "pocket", np.zeros(1, np.int8), np.zeros(1, np.int64), np.zeros((1, 3)))

    assert _may_be_used(person("WISDM v1.1 (reconstructed)", "28"))
    assert not _may_be_used(person("WISDM v1.1 (reconstructed)", "29"))
    assert not _may_be_used(person("WISDM v1.1", "36"))
    assert _may_be_used(person("MotionSense", "36"))


def test_the_table_reads_back_as_it_was_to_three_decimals() -> None:
    people = []
    for number in range(5):
        people += [walk(number, activity=name) for name in ("Walking", "Upstairs", "Downstairs", "Standing")]
        people.append(walk(number, hz=1.3, activity="Jogging"))
        lying = walk(number, activity="Sitting")
        lying.xyz[:] = lying.xyz[:, [0, 2, 1]]
        people.append(lying)
    table = fit(people)
    read = json.loads(as_json(table))
    assert set(read) == {"columns", "log_hz_weight", "carrying", "gaits", "still"}
    assert len(read["columns"]) == len(read["gaits"]["Jogging"]["mean"]) == 52
    assert read["still"]["Sitting"]["posture"][2] == pytest.approx(9.8, abs=0.1)
    assert np.allclose(read["gaits"]["Walking"]["mean"], table["gaits"]["Walking"]["mean"], atol=5e-4)  # type: ignore[index]
