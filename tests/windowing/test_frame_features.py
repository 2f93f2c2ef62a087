import numpy as np
import pytest

from windowing.frame_features import features

GRAVITY = 9.81


def swinging(hertz: float, strength: float, towards: tuple[float, float, float] = (0, 1, 0)) -> np.ndarray:
    """One frame of a phone that is shaken along its own gravity."""
    t = np.arange(80) / 20
    size = GRAVITY + strength * np.sin(2 * np.pi * hertz * t + 0.3)
    return np.asarray(size[None, :, None] * np.array(towards), np.float32)


def of(frame: np.ndarray) -> dict[str, float]:
    return {name: float(values[0]) for name, values in features(frame).items()}


def test_a_phone_at_rest_upright() -> None:
    found = of(swinging(0, 0))
    assert found["magnitude"] == pytest.approx(GRAVITY, abs=1e-3)
    assert found["movement"] == pytest.approx(0, abs=1e-3)
    assert found["upright"] == pytest.approx(1, abs=2e-3)


def test_another_unit_moves_the_magnitude() -> None:
    assert of(swinging(1, 2) / np.float32(GRAVITY))["magnitude"] == pytest.approx(1, abs=0.02)


def test_movement_is_how_strongly_it_swings_and_roughness_how_fast() -> None:
    weak, strong, fast = of(swinging(1, 1)), of(swinging(1, 4)), of(swinging(2, 1))
    assert strong["movement"] == pytest.approx(4 * weak["movement"], rel=0.01)
    assert strong["roughness"] == pytest.approx(weak["roughness"], rel=0.02)
    assert fast["movement"] == pytest.approx(weak["movement"], rel=0.02)
    assert fast["roughness"] > 1.8 * weak["roughness"]


@pytest.mark.parametrize(("towards", "upright"), [((0, -1, 0), -1), ((1, 0, 0), 0), ((0, 0, 1), 0)])
def test_upright_is_where_gravity_is_along_the_long_axis(towards: tuple[float, float, float], upright: float) -> None:
    assert of(swinging(1, 2, towards))["upright"] == pytest.approx(upright, abs=5e-3)


def test_frames_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames of shape \(40, 3\)"):
        features(np.zeros((4, 40, 3), np.float32))


def test_frames_are_looked_at_one_by_one_and_what_is_no_signal_has_finite_features_too() -> None:
    frames = np.concatenate([np.zeros((1, 80, 3), np.float32), swinging(1, 2), np.full((1, 80, 3), 1000, np.float32)])
    for name, values in features(frames).items():
        assert np.isfinite(values).all()
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values[1:2], features(frames[1:2])[name])
        assert len(features(frames[:0])[name]) == 0
