import numpy as np

from training.activity_model.transitions import STAY, transitions
from training.data.recordings import ACTIVITIES, DEFAULT_LABELS, FIRST_MIXED, OTHER_ACTIVITY, Labels, Recording

SITTING, STANDING, WALKING = (ACTIVITIES.index(name) for name in ("Sitting", "Standing", "Walking"))


def recording(*activities: int) -> Recording:
    codes = np.repeat(np.array(activities, np.int8), 100)
    return Recording("made up", "1", "pocket", codes, np.arange(len(codes)) * 50, np.zeros((len(codes), 3), np.float32))


def test_recordings_of_one_activity_each_say_nothing_of_what_follows_it() -> None:
    rows = np.array(transitions([recording(SITTING), recording(WALKING)], DEFAULT_LABELS))
    np.testing.assert_allclose(np.diag(rows), STAY)
    np.testing.assert_allclose(rows[~np.eye(6, dtype=bool)], (1 - STAY) / 5, atol=1e-6)


def test_what_often_follows_is_the_more_probable() -> None:
    rows = np.array(transitions([recording(*[SITTING, STANDING, WALKING, STANDING] * 10)], DEFAULT_LABELS))
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert rows[SITTING, STANDING] > 5 * rows[SITTING, WALKING]
    assert rows[STANDING, WALKING] > 5 * rows[STANDING, ACTIVITIES.index("Jogging")]


def test_what_is_none_of_the_activities_for_a_moment_is_passed_over() -> None:
    between = recording(SITTING, WALKING)
    between.activity[95:105] = OTHER_ACTIVITY
    assert transitions([between], DEFAULT_LABELS) == transitions([recording(SITTING, WALKING)], DEFAULT_LABELS)
    assert transitions([recording(SITTING, FIRST_MIXED, WALKING)], DEFAULT_LABELS) == transitions([], DEFAULT_LABELS)


def test_recordings_that_a_file_holds_one_after_the_other_did_not_follow_one_another() -> None:
    """The reconstructed WISDM file has each person's walking first, then jogging, then the stairs."""
    apart = recording(SITTING, WALKING)
    apart.t_ms[100:] += 10_000
    assert transitions([apart], DEFAULT_LABELS) == transitions([], DEFAULT_LABELS)


def test_own_labels_have_a_row_each() -> None:
    walking, cycling = 1, 0
    rows = np.array(transitions([recording(cycling, walking)], Labels(("Cycling", "Walking", "Lying down"))))
    np.testing.assert_allclose(rows, [[0.7, 0.2, 0.1], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]], atol=1e-6)
