"""The devices that a test may ask for; where there is none, it is skipped with the reason."""

import pytest
import torch

from inference.devices import cpu

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
