"""The compiled kernels: exact tables, all sizes, all widths of vectors, and no cache to write to."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.architectures import build
from inference.architectures.har import HarCnn
from inference.architectures.har_arguments import HarCnnArguments
from inference.devices import winograd_kernels
from inference.devices.winograd import FRAMES, WinogradHarCnn
from inference.served_module import reference_probabilities
from tests.inference.bundles import decided_network
from tests.interpreter import python

NUMBERS = st.fractions(min_value=-10, max_value=10, max_denominator=100)


def network_of(**arguments: int) -> HarCnn:
    network = decided_network(**arguments)
    assert isinstance(network, HarCnn)
    return network.eval().requires_grad_(False)


def fast_of(network: HarCnn, threads: int = 1) -> WinogradHarCnn:
    slots, axes = network.frame_shape
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return WinogradHarCnn(HarCnnArguments(slots=slots, axes=axes), weights, threads)


def standard(frames: int, slots: int, axes: int) -> np.ndarray:
    return np.random.default_rng(frames).normal(0, 1, (frames, slots, axes)).astype(np.float32)


@settings(deadline=None)  # a busy machine is no failure
@given(st.data(), st.sampled_from(sorted(winograd_kernels.FILTERS)))
def test_the_tables_give_a_filters_outputs_exactly(data: st.DataObject, outputs: int) -> None:
    size = outputs + winograd_kernels.TAPS - 1
    x = data.draw(st.lists(NUMBERS, min_size=size, max_size=size))
    taps = data.draw(st.lists(NUMBERS, min_size=winograd_kernels.TAPS, max_size=winograd_kernels.TAPS))
    a, g, b = winograd_kernels.FILTERS[outputs]

    def times(matrix: winograd_kernels.Matrix, vector: list[Fraction]) -> list[Fraction]:
        return [sum((f * v for f, v in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]

    products = [left * right for left, right in zip(times(g, taps), times(b, x), strict=True)]
    assert times(a, products) == [sum(taps[j] * x[i + j] for j in range(winograd_kernels.TAPS)) for i in range(outputs)]


@pytest.mark.parametrize("outputs", sorted(winograd_kernels.FILTERS))
def test_the_tables_factors_are_what_the_compiled_code_has_room_for(outputs: int) -> None:
    a, g, b = winograd_kernels.FILTERS[outputs]

    assert [len(a), len(g), len(b)] == [outputs, outputs + 4, outputs + 4]
    assert max(abs(factor) for matrix in (a, b) for row in matrix for factor in row) <= 4**5


@pytest.mark.parametrize(
    ("slots", "axes"), [(75, 3), (76, 3), (77, 3), (80, 3), (81, 1), (83, 2), (84, 6), (102, 3), (160, 3), (321, 2)]
)
def test_sequences_of_every_length_are_answered_as_the_network_does(slots: int, axes: int) -> None:
    network = network_of(slots=slots, axes=axes)
    fast = fast_of(network)
    values = standard(FRAMES + 2, slots, axes)

    expected = reference_probabilities(network, values)
    np.testing.assert_allclose(fast(values), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_one_frame_is_answered_the_same_in_any_company() -> None:
    fast = fast_of(network_of())
    values = standard(50, 80, 3)
    together = fast(values)

    for row in (0, 11, 12, 13, 49):
        np.testing.assert_allclose(fast(values[row : row + 1]), together[row : row + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("slot", [0, 9, 40, 77])
def test_what_is_no_number_is_answered_as_such(slot: int) -> None:
    """The core takes an engine for broken by answers that are not finite: a maximum must not hide them."""
    fast = fast_of(network_of())
    values = standard(2, 80, 3)
    values[1, slot, 1] = np.nan
    answers = fast(values)

    assert np.isfinite(answers[0]).all()
    assert np.isnan(answers[1]).all()


@pytest.mark.parametrize("frames", [1, 12, 13, 14, 64])
def test_threads_share_a_batch(frames: int) -> None:
    network = network_of()
    values = standard(frames, 80, 3)
    expected = fast_of(network)(values)

    np.testing.assert_allclose(fast_of(network, 3)(values), expected, rtol=0, atol=1e-5)


def test_frames_that_are_not_contiguous_are_answered_too() -> None:
    network = network_of()
    values = standard(20, 80, 3)[::3]

    np.testing.assert_allclose(fast_of(network)(values), reference_probabilities(network, values), rtol=0, atol=1e-4)


def test_the_kernels_release_the_gil() -> None:
    assert all(entry.targetoptions["nogil"] is True for entry in winograd_kernels.ENTRIES)  # type: ignore[attr-defined]


def lanes(feature: str, *, full_disk: bool = False, **environment: str) -> str:
    return python("-m", "tests.inference.lanes", feature, full_disk=full_disk, **environment)


def test_sixteen_floats_in_a_vector_and_no_room_for_a_cache(tmp_path: Path) -> None:
    """A full disk lets Numba make its cache's folder but write no file; the worker must start all the same."""
    assert lanes("avx512f", full_disk=True, NUMBA_CACHE_DIR=str(tmp_path)) == "16 well"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_four_floats_in_a_vector_and_no_place_for_a_cache() -> None:
    """On a read-only image without a home, Numba has no place to cache in and refuses a function that asks for it."""
    output = lanes("none", NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator", NUMBA_CACHE_DIR="/dev/null/nowhere")
    assert output == "4 well"


def test_an_untrained_network_is_replaced_without_touching_its_weights() -> None:
    network = build("har-cnn").eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert isinstance(network, HarCnn)
    fast_of(network)

    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
