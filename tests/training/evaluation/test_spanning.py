import numpy as np

from training.data.frames import LabelledFrames
from training.data.recordings import DEFAULT_LABELS, Recording
from training.evaluation.spanning import SHORTEST, SpanningScores, make_spanning_windows, score_spanning

WALKING, SITTING, STANDING = 5, 2, 3


def recording(person: str, placement: str = "pocket") -> Recording:
    nothing = np.empty(0)
    return Recording("made up", person, placement, nothing, nothing, nothing)


def frames(*windows: tuple[int, int]) -> LabelledFrames:
    """Windows of a recording and an activity each, all of whose readings are the number of the window."""
    of, activity = np.array(windows).T
    values = np.broadcast_to(np.arange(len(of), dtype=np.float32)[:, None, None], (len(of), 80, 3))
    return LabelledFrames(values, activity, np.array([f"made up/{one}" for one in of], object), of, 2000 * of)


def test_a_window_begins_as_one_and_ends_as_another_of_the_same_wearer_and_the_longer_one_is_told() -> None:
    people = [recording("ann"), recording("ann"), recording("ann", "wrist"), recording("bob")]
    whose = ["ann", "ann", "wrist", "bob"]
    each = [(0, WALKING), (1, SITTING), (1, STANDING), (2, WALKING), (2, SITTING), (3, WALKING), (3, STANDING)] * 20
    cut = frames(*each)
    found = make_spanning_windows(cut, people)
    assert 40 < len(found.values) < 140
    for window, longer, shorter in zip(found.values, found.longer, found.shorter, strict=True):
        first, second = int(window[0, 0]), int(window[-1, 0])
        length = int((window[:, 0] == first).sum())
        assert (window[:length] == first).all()
        assert (window[length:] == second).all()
        assert SHORTEST <= length <= 80 - SHORTEST
        assert whose[each[first][0]] == whose[each[second][0]]
        assert (longer, shorter) == tuple(each[i][1] for i in ((first, second) if length >= 40 else (second, first)))
        assert longer != shorter
    assert (make_spanning_windows(cut, people).values == found.values).all()


def test_nobody_who_does_one_thing_alone_changes() -> None:
    found = make_spanning_windows(
        frames((0, WALKING), (0, WALKING), (1, SITTING)), [recording("ann"), recording("bob")]
    )
    assert found.values.shape == (0, 80, 3)
    assert score_spanning(found, np.empty((0, 6)), DEFAULT_LABELS.names) == SpanningScores(0, 0, 0, 0.0)


def test_the_answer_is_the_longer_activity_the_shorter_or_a_third() -> None:
    people = [recording("ann")]
    found = make_spanning_windows(frames(*[(0, WALKING), (0, SITTING)] * 4), people)
    others = len(found.longer) - 3
    scores = score_spanning(
        found, np.eye(6)[[*found.longer[:2], found.shorter[2], *[STANDING] * others]], DEFAULT_LABELS.names
    )
    assert (scores.longer, scores.shorter, scores.third) == (2, 1, others)
    assert str(SpanningScores(8, 4, 3, 0.1)) == (
        "50.0% are called what lasts longer in them, 37.5% what lasts less long, 12.5% neither"
    )
    assert scores.calibration_error == (1 + others) / (3 + others)  # it was sure of all
