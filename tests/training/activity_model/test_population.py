import numpy as np
import pytest

from training.activity_model.population import population
from training.data.recordings import ACTIVITIES, DEFAULT_LABELS, Recording
from windowing import cut, features


def recordings() -> list[Recording]:
    """Three people who walk and one who sits, for as long each; no two windows are alike."""
    rng, t_ms = np.random.default_rng(3), np.arange(0, 60_000, 50)
    strength = np.linspace(0.5, 5, len(t_ms))[:, None]
    return [
        Recording(
            "made up",
            str(person),
            "pocket",
            np.full(len(t_ms), activity, np.int8),
            t_ms,
            (rng.normal(0, 1, (len(t_ms), 3)) * strength + (0, 9.8, 0)).astype(np.float32),
        )
        for person, activity in enumerate((5, 5, 5, 2))
    ]


def test_a_tenth_of_the_windows_lies_between_each_two_bounds_and_labels_have_their_shares() -> None:
    found = population(recordings(), DEFAULT_LABELS)
    assert found is not None
    values = features(np.concatenate([cut(r.t_ms, r.xyz, f"made up/{r.person}".encode())[1] for r in recordings()]))
    assert found.tenths.keys() == values.keys()
    for name, bounds in found.tenths.items():
        counts = np.bincount(np.searchsorted(bounds, values[name]), minlength=10)
        assert counts == pytest.approx(np.full(10, len(values[name]) / 10), abs=2.5), name
    assert dict(zip(ACTIVITIES, found.shares, strict=True)) == pytest.approx(
        dict.fromkeys(ACTIVITIES, 0.0) | {"Walking": 0.75, "Sitting": 0.25}, abs=0.02
    )


def test_nothing_to_learn_from_has_no_population() -> None:
    assert population([], DEFAULT_LABELS) is None
