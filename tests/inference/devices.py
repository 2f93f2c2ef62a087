"""The devices that a test may ask for; where there is none, it is skipped with the reason."""

import importlib.util

import pytest
import torch

from inference.devices import amx_support, avx512_support, cpu

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here")
gpu = [pytest.mark.gpu, needs_cuda]
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=gpu)]
BOTH = [
    pytest.param("cpu", "float32"),
    pytest.param(
        "cpu",
        "bfloat16",
        marks=pytest.mark.skipif(not cpu._has_native_bfloat16(), reason="this CPU has no bfloat16 of its own"),
    ),
    pytest.param("cuda", "float32", marks=gpu),
    pytest.param("cuda", "bfloat16", marks=gpu),
]

needs_bfloat16 = pytest.mark.skipif(not cpu._has_native_bfloat16(), reason="this CPU has no bfloat16 of its own")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="OpenVINO is not installed: pip install '.[openvino]' in the checkout",
)
needs_int8 = pytest.mark.skipif(
    not cpu._has_native_int8(), reason="this CPU has no int8 of its own (AVX512-VNNI, AVX-VNNI or AMX)"
)
needs_amx = pytest.mark.skipif(bool(amx_support.missing()), reason=amx_support.missing())
needs_avx512 = pytest.mark.skipif(bool(avx512_support.missing()), reason=avx512_support.missing())
ENGINES = [
    pytest.param("winograd", "float32"),
    pytest.param("amx", "bfloat16", marks=needs_amx),
    pytest.param("avx512", "bfloat16", marks=needs_avx512),
    pytest.param("pytorch", "float32"),
    pytest.param("pytorch", "bfloat16", marks=needs_bfloat16),
    pytest.param("openvino", "float32", marks=needs_openvino),
    pytest.param("openvino", "bfloat16", marks=[needs_openvino, needs_bfloat16]),
    pytest.param("openvino", "int8", marks=[needs_openvino, needs_int8]),
]
