"""The kernels for the CPU's matrix unit: what they multiply, of any number of frames; and where there is no unit."""

import ctypes
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.bundle import ArchitectureChoice, Input
from inference.device_choice import choose_device
from inference.devices import DeviceError, amx, tile_kernels, tiles
from inference.devices.cpu import CpuWay
from inference.devices.tile_kernels import DEPTH, SIDE
from inference.devices.tile_layout import pack_tiles, to_bfloat16
from inference.devices.tiles import TilesHarCnn
from inference.engine_choice import measure_apart
from inference.models import load_model
from inference.saving import save_bundle
from inference.served import infer_plainly
from tests.inference.bundles import decided_network, har_bundle, har_description
from tests.inference.devices import needs_amx

FEATURES = dict.fromkeys(amx.NEEDED, True)


def standard(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).normal(0, 1, (frames, 80, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return decided_network().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def fast(network: nn.Module) -> TilesHarCnn:
    return fast_of(network)


def fast_of(network: nn.Module, threads: int = 1) -> TilesHarCnn:
    return TilesHarCnn({name: tensor.numpy() for name, tensor in network.state_dict().items()}, threads)


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


# -- on any processor


def test_weights_are_where_the_unit_takes_them_from() -> None:
    """As the manual has TDPBF16PS: two numbers of a row by two rows of one column, which alternate in a tile's row."""
    weight = np.random.default_rng(0).integers(-8, 9, (20, 36, 10)).astype(np.float32)
    rows = np.random.default_rng(1).integers(-8, 9, (SIDE, 10, 36)).astype(np.float32)
    parts = [part.reshape(SIDE, -1) for part in (rows[:, :, :DEPTH], rows[:, :, DEPTH:])]
    deep = np.concatenate([np.pad(part, ((0, 0), (0, -part.shape[1] % DEPTH))) for part in parts], axis=1)
    tiles = (pack_tiles(weight).astype(np.uint32) << 16).view(np.float32).reshape(2, -1, SIDE, SIDE, 2)
    pairs = deep.reshape(SIDE, -1, SIDE, 2)
    products = np.concatenate([np.einsum("rtkp,tkcp->rc", pairs, each) for each in tiles], axis=1)

    np.testing.assert_array_equal(products[:, :20], np.einsum("rti,oit->ro", rows, weight))
    assert not products[:, 20:].any()


def test_numbers_are_rounded_as_pytorch_does() -> None:
    values = np.random.default_rng(0).normal(0, 1, 10_000).astype(np.float32)
    values = np.concatenate([values, np.array([0.0, -0.0, 1.00390625, 1.01171875, 3e38, 1e-40], np.float32)])
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)

    np.testing.assert_array_equal(to_bfloat16(values), expected)


def test_a_cpu_without_the_unit_has_no_engine_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: {**FEATURES, "amx-bf16": False})
    monkeypatch.setattr(amx, "missing", amx.missing.__wrapped__)

    with pytest.raises(DeviceError, match="this one lacks amx-bf16: choose another engine"):
        choose_device("cpu", engine="amx")


def test_a_kernel_that_keeps_the_unit_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: FEATURES)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(syscall=lambda *_: -1))

    assert "the kernel doesn't give to this process" in amx.missing.__wrapped__()


def test_float32_is_not_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "missing", lambda: "")

    with pytest.raises(DeviceError, match="computes in bfloat16: choose another engine"):
        choose_device("cpu", "float32", engine="amx")


@pytest.mark.parametrize(("setting", "value"), [("CPU_NAME", "generic"), ("CPU_FEATURES", ""), ("ENABLE_AVX", 0)])
def test_kernels_for_another_cpu_are_no_kernels_for_the_unit(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: object
) -> None:
    """LLVM would end the process."""
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: FEATURES)
    monkeypatch.setattr(f"numba.core.config.{setting}", value)

    assert "Numba's settings ask for others" in amx.missing.__wrapped__()


def test_frames_that_the_kernels_are_not_made_for_are_refused(tmp_path: Path) -> None:
    architecture = ArchitectureChoice(name="har-cnn", arguments={"slots": 100})
    longer = har_description(architecture=architecture, input=Input(shape=(100, 3)))
    frames = np.random.default_rng(0).normal(0, 5, (4, 100, 3)).astype(np.float32)
    bundle = save_bundle(tmp_path / "longer", decided_network(slots=100), longer, frames)

    with pytest.raises(DeviceError, match=r"serves frames of \(80, 3\) alone"):
        tiles.load(bundle, 4, 1)


def test_the_other_kernels_do_without_what_these_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lean on a name of llvmlite's that isn't public."""
    monkeypatch.setitem(sys.modules, "inference.devices.tiles", None)
    bundle = har_bundle(tmp_path / "har")
    monkeypatch.setattr(amx, "missing", lambda: "")

    assert load_model(bundle, choose_device("cpu", "float32"), 2).way == "winograd"
    with pytest.raises(DeviceError, match="the engine amx can't be compiled here"):
        load_model(bundle, choose_device("cpu", engine="amx"), 2)


# -- on one that has the unit


@needs_amx
def test_it_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The kernel's leave to use the unit is one program's: the new one has to ask for itself, or dies."""
    bundle = har_bundle(tmp_path / "har")
    (measured,) = measure_apart(bundle, [CpuWay("amx", "bfloat16")], 4, time.perf_counter)

    assert measured.refusal == ""
    assert measured.frames_per_s > 0


@needs_amx
@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 50])
def test_frames_are_answered_as_the_network_does_that_rounds(
    network: nn.Module, fast: TilesHarCnn, frames: int
) -> None:
    values = standard(frames)
    expected, exact = by_rounding(network, values), infer_plainly(network, values)

    # Sums of another order are rounded to the other neighbour now and then; wrong ones would be off by far more.
    np.testing.assert_allclose(fast(values), expected, rtol=0, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(fast(values), exact, rtol=0, atol=2e-2 * np.abs(exact).max())


@needs_amx
def test_a_frame_is_answered_the_same_in_any_company(fast: TilesHarCnn) -> None:
    values = standard(50)
    together = fast(values)
    fast(1000 * standard(16))  # what is left of others between the layers is nobody's

    for row in (0, 15, 16, 31, 49):
        np.testing.assert_allclose(fast(values[row : row + 1]), together[row : row + 1], rtol=0, atol=1e-5)


@needs_amx
@pytest.mark.parametrize("slot", [0, 9, 40, 77])
def test_what_is_no_number_is_answered_as_such(fast: TilesHarCnn, slot: int) -> None:
    """The core takes an engine for broken by answers that are not finite: a maximum must not hide them."""
    values = standard(3)
    values[1, slot, 1] = np.nan
    answers = fast(values)

    assert np.isfinite(answers[[0, 2]]).all()
    assert np.isnan(answers[1]).all()
    assert np.isfinite(fast(standard(16))).all()


@needs_amx
@pytest.mark.parametrize("frames", [1, 16, 17, 18, 64])
def test_threads_share_a_batch(network: nn.Module, fast: TilesHarCnn, frames: int) -> None:
    values = standard(frames)

    np.testing.assert_allclose(fast_of(network, 3)(values), fast(values), rtol=0, atol=1e-5)


@needs_amx
def test_frames_that_are_not_contiguous_are_answered_too(fast: TilesHarCnn) -> None:
    values = standard(40)

    np.testing.assert_allclose(fast(values[::3]), fast(values)[::3], rtol=0, atol=1e-5)


def test_the_kernels_release_the_gil() -> None:
    assert all(entry.targetoptions["nogil"] is True for entry in tile_kernels.ENTRIES)  # type: ignore[attr-defined]
