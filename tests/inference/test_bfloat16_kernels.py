"""The kernels that compute in bfloat16: what they answer to any number of frames, and in what company."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.device_choice import choose_device
from inference.devices import (
    DeviceError,
    EngineName,
    amx,
    amx_kernels,
    amx_support,
    avx512,
    avx512_kernels,
    avx512_support,
)
from inference.devices.har_engine import ThreadedNetwork
from inference.devices.packing import to_bfloat16
from inference.manifest import ArchitectureChoice, Input
from inference.models import load_model
from inference.saving import save_bundle
from inference.served_module import reference_probabilities
from tests.inference.bundles import decided_network, har_bundle, har_description
from tests.inference.devices import needs_amx, needs_avx512


def standard(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).normal(0, 1, (frames, 80, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return decided_network().eval().requires_grad_(False)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(amx.ENGINE, marks=needs_amx),
        pytest.param(avx512.ENGINE, marks=needs_avx512),
    ],
)
def fast_of(request: pytest.FixtureRequest, network: nn.Module) -> Callable[[int], ThreadedNetwork]:
    """Make the network by one kind of kernels, for so many threads."""
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return lambda threads: request.param.network(weights, threads)


@pytest.fixture(scope="module")
def fast(fast_of: Callable[[int], ThreadedNetwork]) -> ThreadedNetwork:
    return fast_of(1)


def rounded(values: Tensor) -> Tensor:
    return values.bfloat16().float()


def by_rounding(network: nn.Module, frames: np.ndarray) -> np.ndarray:
    """The network's logits where each layer is given numbers of bfloat16, and adds them up as float64."""
    x = rounded(torch.from_numpy(frames)).mT.double()
    for number in range(1, 5):
        weight, bias = (network.get_parameter(f"conv{number}.{name}") for name in ("weight", "bias"))
        x = F.relu(F.conv1d(x, rounded(weight).double(), bias.double()))
        if number == 2:
            x = F.max_pool1d(x, 3)
        if number < 4:
            x = rounded(x.float()).double()
    output = network.get_submodule("output")
    return np.asarray(output(x.mean(dim=2).float()))


def test_numbers_are_rounded_as_pytorch_does() -> None:
    values = np.random.default_rng(0).normal(0, 1, 10_000).astype(np.float32)
    values = np.concatenate([values, np.array([0.0, -0.0, 1.00390625, 1.01171875, 3e38, 1e-40], np.float32)])
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)

    np.testing.assert_array_equal(to_bfloat16(values), expected)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 11, 12, 13, 15, 16, 17, 50])
def test_frames_are_answered_as_the_network_does_that_rounds(
    network: nn.Module, fast: ThreadedNetwork, frames: int
) -> None:
    values = standard(frames)
    expected, exact = by_rounding(network, values), reference_probabilities(network, values)

    # Sums of another order are rounded to the other neighbour now and then; wrong ones would be off by far more.
    np.testing.assert_allclose(fast(values), expected, rtol=0, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(fast(values), exact, rtol=0, atol=2e-2 * np.abs(exact).max())


def test_a_frame_is_answered_the_same_in_any_company(fast: ThreadedNetwork) -> None:
    values = standard(50)
    together = fast(values)
    fast(1000 * standard(16))  # what is left of others between the layers is nobody's

    for row in (0, 11, 12, 15, 16, 31, 47, 48, 49):
        np.testing.assert_allclose(fast(values[row : row + 1]), together[row : row + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("slot", [0, 9, 40, 77])
def test_what_is_no_number_is_answered_as_such(fast: ThreadedNetwork, slot: int) -> None:
    """The core takes an engine for broken by answers that are not finite: a maximum must not hide them."""
    values = standard(3)
    values[1, slot, 1] = np.nan
    answers = fast(values)

    assert np.isfinite(answers[[0, 2]]).all()
    assert np.isnan(answers[1]).all()
    assert np.isfinite(fast(standard(16))).all()


@pytest.mark.parametrize("frames", [1, 12, 13, 14, 16, 17, 18, 64])
def test_threads_share_a_batch(fast_of: Callable[[int], ThreadedNetwork], fast: ThreadedNetwork, frames: int) -> None:
    values = standard(frames)

    np.testing.assert_allclose(fast_of(3)(values), fast(values), rtol=0, atol=1e-5)


def test_frames_that_are_not_contiguous_are_answered_too(fast: ThreadedNetwork) -> None:
    values = standard(40)

    np.testing.assert_allclose(fast(values[::3]), fast(values)[::3], rtol=0, atol=1e-5)


# -- on any processor

Unit = tuple[EngineName, ModuleType, ModuleType]
UNITS = pytest.mark.parametrize(
    "unit", [("amx", amx_support, amx), ("avx512", avx512_support, avx512)], ids=["amx", "avx512"]
)


@UNITS
def test_float32_is_not_for_them(monkeypatch: pytest.MonkeyPatch, unit: Unit) -> None:
    name, needed, _ = unit
    monkeypatch.setattr(needed, "missing", lambda: "")

    with pytest.raises(DeviceError, match=f"the engine {name} computes in bfloat16: choose another engine"):
        choose_device("cpu", "float32", engine=name)


@UNITS
@pytest.mark.parametrize(("setting", "value"), [("CPU_NAME", "generic"), ("CPU_FEATURES", ""), ("ENABLE_AVX", 0)])
def test_kernels_for_another_cpu_are_no_kernels_for_them(
    monkeypatch: pytest.MonkeyPatch, unit: Unit, setting: str, value: object
) -> None:
    """LLVM would end the process."""
    _, needed, _ = unit
    features = dict.fromkeys(needed.NEEDED, True)
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
    assert "Numba's settings" not in needed.missing.__wrapped__()
    monkeypatch.setattr(f"numba.core.config.{setting}", value)

    assert "Numba's settings ask for others" in needed.missing.__wrapped__()


@UNITS
@pytest.mark.parametrize(("frames", "threads"), [(1, 1), (50, 1), (50, 3)])
def test_what_is_around_the_kernels_is_the_network(network: nn.Module, unit: Unit, frames: int, threads: int) -> None:
    """On a processor that lacks them, too: PyTorch's convolutions stand in for the compiled ones."""
    kernels = unit[2]

    def convolve(values: np.ndarray, count: int, layers: object, workspace: object, features: np.ndarray) -> None:
        assert isinstance(layers, avx512_kernels.Layers | amx_kernels.Layers)
        assert isinstance(workspace, avx512_kernels.Workspace | amx_kernels.Workspace)
        x = torch.from_numpy(values.reshape(count, 80, 3)).mT
        for number in range(1, 5):
            weight, bias = (network.get_parameter(f"conv{number}.{name}") for name in ("weight", "bias"))
            x = F.relu(F.conv1d(x, weight, bias))
            x = F.max_pool1d(x, 3) if number == 2 else x
        features[:] = x.mean(dim=2).reshape(-1).numpy()

    engine = dataclasses.replace(kernels.ENGINE, convolve=convolve)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    engine.warm_up()

    values = standard(frames)
    answers = engine.network(weights, threads)(values)
    np.testing.assert_allclose(answers, reference_probabilities(network, values), rtol=0, atol=1e-4)


@UNITS
def test_frames_that_the_kernels_are_not_made_for_are_refused(tmp_path: Path, unit: Unit) -> None:
    _, _, kernels = unit
    architecture = ArchitectureChoice(name="har-cnn", arguments={"slots": 100})
    longer = har_description(architecture=architecture, input=Input(shape=(100, 3)))
    frames = np.random.default_rng(0).normal(0, 5, (4, 100, 3)).astype(np.float32)
    bundle = save_bundle(tmp_path / "longer", decided_network(slots=100), longer, frames)

    with pytest.raises(DeviceError, match=r"serves frames of \(80, 3\) alone"):
        kernels.load(bundle, 4, 1)


@UNITS
def test_the_other_kernels_do_without_what_these_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: Unit
) -> None:
    """They lean on a name of llvmlite's that isn't public."""
    name, needed, kernels = unit
    monkeypatch.setitem(sys.modules, kernels.__name__, None)
    bundle = har_bundle(tmp_path / "har")
    monkeypatch.setattr(needed, "missing", lambda: "")

    assert load_model(bundle, choose_device("cpu", "float32"), 2).way == "winograd"
    with pytest.raises(DeviceError, match=f"the engine {name} can't be compiled here"):
        load_model(bundle, choose_device("cpu", engine=name), 2)


@pytest.mark.parametrize("kernels", [amx_kernels, avx512_kernels])
def test_the_kernels_release_the_gil(kernels: ModuleType) -> None:
    assert all(entry.targetoptions["nogil"] is True for entry in kernels.ENTRIES)
