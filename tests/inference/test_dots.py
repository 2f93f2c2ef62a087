"""The kernels for dot products of bfloat16: how weights lie for them; and where there are none."""

import sys
from pathlib import Path

import numpy as np
import pytest

from inference.bundle import ArchitectureChoice, Input
from inference.device_choice import choose_device
from inference.devices import DeviceError, avx512, dot_kernels, dots
from inference.models import load_model
from inference.saving import save_bundle
from tests.inference.bundles import decided_network, har_bundle, har_description

FEATURES = dict.fromkeys(avx512.NEEDED, True)


def test_weights_are_where_the_instruction_takes_them_from() -> None:
    """As the manual has VDPBF16PS: two neighbouring numbers of a row by two weights of each output."""
    weight = np.random.default_rng(0).integers(-8, 9, (36, 20, 10)).astype(np.float32)
    rows = np.random.default_rng(1).integers(-8, 9, (5, 10, 20)).astype(np.float32)
    packed = (dots.pack_panels(weight).astype(np.uint32) << 16).view(np.float32)
    of_32, of_16 = packed[: 200 * 32].reshape(100, 32, 2), packed[200 * 32 :].reshape(100, 16, 2)
    pairs = rows.reshape(5, 100, 2)
    products = np.concatenate([np.einsum("rkp,kcp->rc", pairs, panel) for panel in (of_32, of_16)], axis=1)

    np.testing.assert_array_equal(products[:, :36], np.einsum("rti,oit->ro", rows, weight))
    assert not products[:, 36:].any()


def test_a_cpu_without_the_instruction_has_no_engine_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: {**FEATURES, "avx512bf16": False})
    monkeypatch.setattr(avx512, "missing", avx512.missing.__wrapped__)

    with pytest.raises(DeviceError, match="this one lacks avx512bf16: choose another engine"):
        choose_device("cpu", engine="avx512")


@pytest.mark.parametrize(("setting", "value"), [("CPU_NAME", "generic"), ("CPU_FEATURES", ""), ("ENABLE_AVX", 0)])
def test_kernels_for_another_cpu_are_no_kernels_for_the_instruction(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: object
) -> None:
    """LLVM would end the process."""
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: FEATURES)
    assert avx512.missing.__wrapped__() == ""
    monkeypatch.setattr(f"numba.core.config.{setting}", value)

    assert "Numba's settings ask for others" in avx512.missing.__wrapped__()


def test_float32_is_not_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avx512, "missing", lambda: "")

    with pytest.raises(DeviceError, match="the engine avx512 computes in bfloat16: choose another engine"):
        choose_device("cpu", "float32", engine="avx512")


def test_frames_that_the_kernels_are_not_made_for_are_refused(tmp_path: Path) -> None:
    architecture = ArchitectureChoice(name="har-cnn", arguments={"slots": 100})
    longer = har_description(architecture=architecture, input=Input(shape=(100, 3)))
    frames = np.random.default_rng(0).normal(0, 5, (4, 100, 3)).astype(np.float32)
    bundle = save_bundle(tmp_path / "longer", decided_network(slots=100), longer, frames)

    with pytest.raises(DeviceError, match=r"serves frames of \(80, 3\) alone"):
        dots.load(bundle, 4, 1)


def test_the_other_kernels_do_without_what_these_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lean on a name of llvmlite's that isn't public."""
    monkeypatch.setitem(sys.modules, "inference.devices.dots", None)
    bundle = har_bundle(tmp_path / "har")
    monkeypatch.setattr(avx512, "missing", lambda: "")

    assert load_model(bundle, choose_device("cpu", "float32"), 2).way == "winograd"
    with pytest.raises(DeviceError, match="the engine avx512 can't be compiled here"):
        load_model(bundle, choose_device("cpu", engine="avx512"), 2)


def test_the_kernels_release_the_gil() -> None:
    assert all(entry.targetoptions["nogil"] is True for entry in dot_kernels.ENTRIES)  # type: ignore[attr-defined]
