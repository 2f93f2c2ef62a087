"""Cutting recordings offline."""

import numpy as np
import pytest

from windowing import cut


def steady(seconds: int, start_ms: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return readings at 20 Hz whose x counts them."""
    n = seconds * 20
    xyz = np.zeros((n, 3), dtype=np.float32)
    xyz[:, 0] = np.arange(n)
    return start_ms + 50 * np.arange(n, dtype=np.int64), xyz


def test_ten_seconds_at_20_hz_give_four_windows_two_seconds_apart() -> None:
    start_ms, values = cut(*steady(10))
    assert start_ms.tolist() == [0, 2000, 4000, 6000]
    assert values.shape == (4, 80, 3)
    assert values.dtype == np.float32
    assert values[:, 0, 0].tolist() == [0, 40, 80, 120]
    assert values[3, :, 0].tolist() == list(range(120, 200))


def test_the_phase_is_the_crc32_of_the_id_modulo_40() -> None:
    # CRC-32 of "123456789" is 0xCBF43926 = 3421780262, which is 22 modulo 40.
    start_ms, _ = cut(*steady(10), phase_id=b"123456789")
    assert start_ms.tolist() == [1100, 3100, 5100]


def test_the_order_of_the_readings_does_not_matter() -> None:
    timestamp_ms, xyz = steady(60)
    order = np.random.default_rng(1).permutation(len(timestamp_ms))
    there = cut(timestamp_ms, xyz)
    shuffled = cut(timestamp_ms[order], xyz[order])
    assert there[0].tolist() == shuffled[0].tolist()
    assert there[1].tobytes() == shuffled[1].tobytes()


def test_a_recording_of_more_windows_than_one_step_returns_is_cut_whole() -> None:
    start_ms, values = cut(*steady(10_000))
    assert start_ms.tolist() == list(range(0, 9_996_001, 2000))
    assert values[-1, -1, 0] == 199_999


def test_a_hole_of_a_second_costs_the_windows_that_hold_it() -> None:
    timestamp_ms, xyz = steady(20)
    keep = (timestamp_ms < 9000) | (timestamp_ms >= 10_000)
    assert cut(timestamp_ms[keep], xyz[keep])[0].tolist() == [0, 2000, 4000, 10_000, 12_000, 14_000, 16_000]
    assert cut(timestamp_ms[keep], xyz[keep], max_gap_ms=1050)[0].tolist() == list(range(0, 16_001, 2000))


def test_no_readings_give_no_windows() -> None:
    start_ms, values = cut(np.empty(0, dtype=np.int64), np.empty((0, 3), dtype=np.float32))
    assert start_ms.shape == (0,)
    assert values.shape == (0, 80, 3)


def test_a_value_that_is_not_finite_is_refused() -> None:
    timestamp_ms, xyz = steady(10)
    xyz[7, 1] = np.nan
    with pytest.raises(ValueError, match="aren't finite"):
        cut(timestamp_ms, xyz)


def test_columns_of_different_lengths_are_refused() -> None:
    timestamp_ms, xyz = steady(10)
    with pytest.raises(ValueError, match=r"shape \(199,\)"):
        cut(timestamp_ms[1:], xyz)
