"""The kernels for the CPU's matrix unit: what they multiply, of any number of frames; and where there is no unit."""

import ctypes
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from inference.device_choice import choose_device
from inference.devices import DeviceError, amx_support
from inference.devices.amx_kernels import DEPTH, SIDE
from inference.devices.amx_layout import pack_tiles
from inference.devices.cpu import CpuWay
from inference.engine_choice import measure_in_process
from tests.inference.bundles import har_bundle
from tests.inference.devices import needs_amx

FEATURES = dict.fromkeys(amx_support.NEEDED, True)


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


def test_a_cpu_without_the_unit_has_no_engine_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: {**FEATURES, "amx-bf16": False})
    monkeypatch.setattr(amx_support, "missing", amx_support.missing.__wrapped__)

    with pytest.raises(DeviceError, match="this one lacks amx-bf16: choose another engine"):
        choose_device("cpu", engine="amx")


def test_a_kernel_that_keeps_the_unit_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: FEATURES)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(syscall=lambda *_: -1))

    assert "the kernel doesn't give to this process" in amx_support.missing.__wrapped__()


# -- on one that has the unit


@needs_amx
def test_it_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The kernel's leave to use the unit is one program's: the new one has to ask for itself, or dies."""
    bundle = har_bundle(tmp_path / "har")
    (measured,) = measure_in_process(bundle, [CpuWay("amx", "bfloat16")], 4, time.perf_counter)

    assert measured.refusal == ""
    assert measured.frames_per_s > 0
