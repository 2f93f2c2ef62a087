import numpy as np

from training.recordings import ACTIVITIES, FIRST_MIXED, OTHER_ACTIVITY, SIX, Labels, Recording
from training.transitions import STAY, transitions

SITTING, STANDING, WALKING = (ACTIVITIES.index(name) for name in ("Sitting", "Standing", "Walking"))


def recording(*activities: int) -> Recording:
    codes = np.repeat(np.array(activities, np.int8), 100)
    return Recording("made up", "1", "pocket", codes, np.arange(len(codes)) * 50, np.zeros((len(codes), 3), np.float32))


def test_recordings_of_one_activity_each_say_nothing_of_what_follows_it() -> None:
    rows = np.array(transitions([recording(SITTING), recording(WALKING)], SIX))
    np.testing.assert_allclose(np.diag(rows), STAY)
    np.testing.assert_allclose(rows[~np.eye(6, dtype=bool)], (1 - STAY) / 5, atol=1e-6)


def test_what_often_follows_is_the_more_probable() -> None:
    rows = np.array(transitions([recording(*[SITTING, STANDING, WALKING, STANDING] * 10)], SIX))
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert rows[SITTING, STANDING] > 5 * rows[SITTING, WALKING]
    assert rows[STANDING, WALKING] > 5 * rows[STANDING, ACTIVITIES.index("Jogging")]


def test_what_is_none_of_the_activities_is_passed_over() -> None:
    between = transitions([recording(SITTING, OTHER_ACTIVITY, FIRST_MIXED, WALKING)], SIX)
    assert between == transitions([recording(SITTING, WALKING)], SIX)


def test_own_labels_have_a_row_each() -> None:
    walking, cycling = 1, 0
    rows = np.array(transitions([recording(cycling, walking)], Labels(("Cycling", "Walking", "Lying down"))))
    np.testing.assert_allclose(rows, [[0.7, 0.2, 0.1], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]], atol=1e-6)
