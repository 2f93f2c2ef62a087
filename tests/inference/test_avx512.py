"""The kernels for dot products of bfloat16: how weights lie for them; and where there are none."""

import numpy as np
import pytest

from inference.device_choice import choose_device
from inference.devices import DeviceError, avx512, avx512_support

FEATURES = dict.fromkeys(avx512_support.NEEDED, True)


def test_weights_are_where_the_instruction_takes_them_from() -> None:
    """As the manual has VDPBF16PS: two neighbouring numbers of a row by two weights of each output."""
    weight = np.random.default_rng(0).integers(-8, 9, (36, 20, 10)).astype(np.float32)
    rows = np.random.default_rng(1).integers(-8, 9, (5, 10, 20)).astype(np.float32)
    packed = (avx512.pack_panels(weight).astype(np.uint32) << 16).view(np.float32)
    of_32, of_16 = packed[: 200 * 32].reshape(100, 32, 2), packed[200 * 32 :].reshape(100, 16, 2)
    pairs = rows.reshape(5, 100, 2)
    products = np.concatenate([np.einsum("rkp,kcp->rc", pairs, panel) for panel in (of_32, of_16)], axis=1)

    np.testing.assert_array_equal(products[:, :36], np.einsum("rti,oit->ro", rows, weight))
    assert not products[:, 36:].any()


def test_a_cpu_without_the_instruction_has_no_engine_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: {**FEATURES, "avx512bf16": False})
    monkeypatch.setattr(avx512_support, "missing", avx512_support.missing.__wrapped__)

    with pytest.raises(DeviceError, match="this one lacks avx512bf16: choose another engine"):
        choose_device("cpu", engine="avx512")
